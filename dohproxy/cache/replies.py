"""Finished replies by all that they depend on: what a cache hit is served from."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from dohproxy.cache.bounded import SLOT, Bounded, bytes_size
from dohproxy.wire.reply import Reply

_VALUE: Final = 128
"""What holds the reply, with a number or two of its own; its other fields are taken to be shared."""
_OBJECT: Final = 64
_NUMBER: Final = 32
_TUPLE: Final = 56


class Finished(Protocol):
    """What is kept: a reply, and what its owner tells of it."""

    @property
    def reply(self) -> Reply:
        """As compiled."""
        ...


V = TypeVar("V", bound=Finished)


class ReplyStore(Bounded[bytes, V]):
    """At most `limit` octets of replies. Whoever reads one looks at its time before using it."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, _octets_of)


def _octets_of(key: bytes, value: Finished) -> int:
    reply = value.reply
    numbers = 3 + sum(at > 256 for at in reply.ttl_offsets)  # smaller ones are shared
    offsets = _TUPLE + 8 * len(reply.ttl_offsets)
    return SLOT + _VALUE + _OBJECT + _NUMBER * numbers + offsets + bytes_size(key) + bytes_size(reply.wire)
