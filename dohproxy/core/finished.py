"""A finished reply as it is kept to be replayed: one run of octets, which both implementations of the core read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from msgspec import Struct

from dohproxy.model import Answer, Ede, Security, Verdict
from dohproxy.wire.constants import ANY
from dohproxy.wire.peek import key_of
from dohproxy.wire.quick import compile_reply, finished_reply, packed_reply, render
from dohproxy.wire.reply import Reply, shape
from dohproxy.wire.request import Request

HEAD: Final = struct.Struct("=ddHHB?2x")
"""When the reply was born, until when it is replayed, where its OPT record begins, how many TTLs it has, how secure it is,
and whether each replay is told of."""
SECURITIES: Final = tuple(Security)
_NUMBERS: Final = {security.value: number for number, security in enumerate(SECURITIES)}
_SHARE_RECALLED: Final = 0.9
"""Of a reply's life: then the pipeline is asked again, and prefetches what is still wanted."""


class Finished(Struct, frozen=True, gc=False):
    """A reply to be replayed, and what there is to tell of it. Where nobody is told, it is kept as its `packed` alone."""

    packed: bytes
    """HEAD, the offsets of the TTLs (two octets each, in the order of this machine), the message."""
    rcode: int
    security: Security
    ede: tuple[Ede, ...]
    upstream: str
    verdict: Verdict | None = None


def finish(
    answer: Answer, request: Request, *, payload_size: int, now: float, limit: int, told: bool
) -> tuple[bytes, bytes | None, bytes | None]:
    """The reply to one client, of at most `limit` octets; and what the next of its group is sent for the same.

    That is the key, without the group's prefix, and the packed reply. They are None where nothing is to be kept: what is at
    its end, cannot be looked up, or is an answer to ANY, which depends on the transport.
    """
    number = _NUMBERS[answer.security._value_]  # not `value`, nor the member as a key: both take calls
    if (quick := finished_reply(answer, request, payload_size, now, limit, _SHARE_RECALLED, number, told)) is not None:
        return quick
    reply = compile_reply(answer, request, payload_size=payload_size)
    sent = render(reply, request.id, request.qname, now, limit)
    until = reply.born + _SHARE_RECALLED * (reply.expires - reply.born)
    key = key_of(request.question, shape(request)) if until > now and request.question.qtype != ANY else None
    return sent, key, None if key is None else pack(reply, until, answer.security, told)


def pack(reply: Reply, until: float, security: Security, told: bool) -> bytes:
    """The reply for `Finished`, to be replayed until this monotonic time; `told` if each replay is to be told of."""
    if (quick := packed_reply(reply, until, _NUMBERS[security.value], told)) is not None:
        return quick
    offsets = reply.ttl_offsets
    head = HEAD.pack(reply.born, until, reply.opt_at, len(offsets), _NUMBERS[security.value], told)
    return head + _two_octets_each(len(offsets))(*offsets) + reply.wire


@lru_cache
def _two_octets_each(count: int) -> Callable[..., bytes]:
    return struct.Struct(f"={count}H").pack
