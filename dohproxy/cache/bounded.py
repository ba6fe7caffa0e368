"""A mapping that forgets what was not used for long: the ground that every store stands on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from dohproxy.wire.choice import compiled_part

K = TypeVar("K")
V = TypeVar("V")

SLOT: Final = 96
"""Octets that the two generations spend on an entry besides its objects, about: dictionary slots, and the queue to leave."""


_HEAD: Final = b"".__sizeof__()
BYTES: Final = _HEAD + 7
"""Octets of memory that a bytes object takes beside its own, on the average."""


def bytes_size(value: bytes) -> int:
    """Octets of memory that a bytes object takes."""
    return len(value) + _HEAD + 15 & ~15


class InPython(Generic[K, V]):
    """At most `limit` octets, as `octets_of(key, value)` counts them; nothing is done to order entries when one is read.

    Where key and value are `bytes`, that is `slot` and the octets of both.

    There are two generations. Entries are put in the young one, and move there when read in the old one. To make room, the
    old one is emptied from its eldest; when none is left, the young one becomes the old one. So an entry that is read once
    in a generation stays.
    """

    def __init__(self, limit: int, octets_of: Callable[[K, V], int], slot: int = 0) -> None:
        self.limit = limit
        self.octets = 0
        self._octets_of, self._slot = octets_of, slot
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._leaving: Iterator[K] = iter(())

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """What is kept under this key."""
        value = self._young.get(key)
        if value is None and (value := self._old.pop(key, None)) is not None:
            self._young[key] = value
        return value

    def put(self, key: K, value: V) -> None:
        """Keep the value in place of any that the key had; not if it alone is over the limit."""
        if key in self._young or key in self._old:
            self.discard(key)
        octets, limit = self._size(key, value), self.limit
        if octets > limit:
            return
        self._young[key] = value
        self.octets += octets
        while self.octets > limit:
            self._make_room()
        if not self._old and self.octets * 2 > limit:
            self._change_generations()

    def discard(self, key: K) -> None:
        """Forget the key, if it is there."""
        value = self._young.pop(key, None)
        if value is None:
            value = self._old.pop(key, None)
        if value is not None:
            self.octets -= self._size(key, value)

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._leaving, self.octets = {}, {}, iter(()), 0

    def _size(self, key: K, value: V) -> int:
        if isinstance(value, bytes) and isinstance(key, bytes):
            return self._slot + len(key) + len(value)
        return self._octets_of(key, value)

    def _make_room(self) -> None:
        if not self._old:
            self._change_generations()
        for key in self._leaving:
            if key in self._old:
                self.octets -= self._size(key, self._old.pop(key))
                return

    def _change_generations(self) -> None:
        self._old, self._young = self._young, {}
        self._leaving = iter(list(self._old))


Bounded = InPython
"""The one that serves."""

if not TYPE_CHECKING and (_compiled := compiled_part("dohproxy.cache")) is not None:
    Bounded = _compiled.Bounded
