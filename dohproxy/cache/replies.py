"""Finished replies by all that they depend on: what a cache hit is served from."""

from __future__ import annotations

from typing import Final, Protocol, TypeVar

from dohproxy.cache.bounded import BYTES, SLOT, Bounded

_TOLD: Final = 64
"""What holds a reply of which there is something to tell; its fields but the octets are taken to be shared."""
_ENTRY: Final = SLOT + 2 * BYTES


class Finished(Protocol):
    """What is kept: a reply, and what its owner tells of it."""

    @property
    def packed(self) -> bytes:
        """The reply, and when it may be used."""
        ...


V = TypeVar("V", bound=Finished | bytes)


class ReplyStore(Bounded[bytes, V]):
    """At most `limit` octets of replies. Whoever reads one looks at its time before using it."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, _octets_of, _ENTRY)


def _octets_of(key: bytes, value: Finished | bytes) -> int:
    """Of replies of which there is something to tell; others are octets alone."""
    assert not isinstance(value, bytes)
    return _ENTRY + len(key) + _TOLD + len(value.packed)
