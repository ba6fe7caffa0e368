"""A finished reply as it is kept to be replayed: one run of octets, which both implementations of the core read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from msgspec import Struct

from dohproxy.model import Ede, Security, Verdict
from dohproxy.wire.quick import packed_reply
from dohproxy.wire.reply import Reply

HEAD: Final = struct.Struct("=ddHHB?2x")
"""When the reply was born, until when it is replayed, where its OPT record begins, how many TTLs it has, how secure it is,
and whether each replay is told of."""
SECURITIES: Final = tuple(Security)
_NUMBERS: Final = {security: number for number, security in enumerate(SECURITIES)}


class Finished(Struct, frozen=True, gc=False):
    """A reply to be replayed, and what there is to tell of it."""

    packed: bytes
    """HEAD, the offsets of the TTLs (two octets each, in the order of this machine), the message."""
    rcode: int
    security: Security
    ede: tuple[Ede, ...]
    upstream: str
    verdict: Verdict | None = None


def pack(reply: Reply, until: float, security: Security, told: bool) -> bytes:
    """The reply for `Finished`, to be replayed until this monotonic time; `told` if each replay is to be told of."""
    if (quick := packed_reply(reply, until, _NUMBERS[security], told)) is not None:
        return quick
    offsets = reply.ttl_offsets
    head = HEAD.pack(reply.born, until, reply.opt_at, len(offsets), _NUMBERS[security], told)
    return head + _two_octets_each(len(offsets))(*offsets) + reply.wire


@lru_cache
def _two_octets_each(count: int) -> Callable[..., bytes]:
    return struct.Struct(f"={count}H").pack
