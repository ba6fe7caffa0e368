"""What is known of zones: whose keys are trusted, which cuts are proven insecure, which names are no cuts; kept for a while."""

from __future__ import annotations

from math import inf

from msgspec import Struct

from dohproxy.dnssec.keys import KeyRing
from dohproxy.model import Ede, Link, Name, Security


class Trust(Struct, frozen=True):
    """How far a zone is trusted: SECURE with its keys; INSECURE from this cut down; BOGUS or INDETERMINATE, and why."""

    zone: Name
    security: Security
    chain: tuple[Link, ...] = ()
    """From the anchor down to this zone or cut."""
    ring: KeyRing = KeyRing(())
    ede: tuple[Ede, ...] = ()
    expires: float = 0.0
    """Monotonic time, seconds."""
    aging: float = inf
    """The monotonic time from which it is worth being found anew, if it is still of use."""


class NotACut(Struct, frozen=True, gc=False):
    """A name that is proven not to be a zone of its own; `zone` is the zone that it is in."""

    zone: Name
    expires: float
    barren: bool = False
    """Whether the name does not even exist, so that no zone is below it either (RFC 8020 2)."""


class TrustCache:
    """Findings by name, bounded in number: the least recently used leave first."""

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._entries: dict[Name, Trust | NotACut] = {}

    def get(self, name: Name, now: float) -> Trust | NotACut | None:
        """What is known of the name, unless it is too old."""
        entry = self._entries.pop(name, None)
        if entry is None or entry.expires <= now:
            return None
        self._entries[name] = entry
        return entry

    def put(self, name: Name, entry: Trust | NotACut) -> None:
        """Remember until it expires."""
        self._entries.pop(name, None)
        self._entries[name] = entry
        if len(self._entries) > self._capacity:
            del self._entries[next(iter(self._entries))]

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)
