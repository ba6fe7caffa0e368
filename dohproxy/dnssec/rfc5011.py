"""Following the keys of a trust anchor as its zone rolls them (RFC 5011): a state machine, fed with what was seen and when.

A key in Start is not in the list, and one that leaves AddPend early goes back there. Times are wall time, in whole seconds.
Who feeds it asks the zone for its DNSKEY RRset when `next_probe` says so, and tells the outcome: `observe`, or `failed`.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from dohproxy.config.settings import Anchor
from dohproxy.dnssec.keys import PROTOCOL, REVOKED, SECURE_ENTRY_POINT, ZONE_KEY, key_tag
from dohproxy.model import Name
from dohproxy.wire.constants import DNSKEY
from dohproxy.wire.names import to_text

HOUR: Final = 3600
DAY: Final = 24 * HOUR
ADD_HOLD_DOWN: Final = 30 * DAY
"""RFC 5011 2.4.1."""
REMOVE_HOLD_DOWN: Final = 30 * DAY
"""RFC 5011 2.4.2."""
SIGHTINGS: Final = 2
"""Validated RRsets that a new key must have been in (RFC 5011 2.4.1)."""
MAX_KEYS: Final = 32
"""Of one zone; a new key beyond is not followed. The root had two at most since 2010."""
OVERDUE: Final = 15 * DAY
"""Without a successful probe for so long, RFC 5011 2.3 is not kept, and a roll may be missed."""


class State(Enum):
    """Where a key stands (RFC 5011 4.2)."""

    ADD_PEND = "add-pend"
    """New: waits for its hold-down to pass."""
    VALID = "valid"
    MISSING = "missing"
    """Valid, but not in the RRset: an abnormal state, in which it stays a trust anchor."""
    REVOKED = "revoked"
    """Revoked by itself: never trusted again."""
    REMOVED = "removed"
    """Revoked, and its hold-down has passed. Remembered, so that it cannot come back."""


_TRUSTED: Final = frozenset((State.VALID, State.MISSING))
DEAD: Final = frozenset((State.REVOKED, State.REMOVED))


class TrackedKey(Struct, frozen=True):
    """One key of a zone and its state."""

    rdata: bytes
    """Its DNSKEY RDATA, with the REVOKE bit clear: what it is known by."""
    state: State
    since: int
    """When it came into this state."""
    until: int | None = None
    """When the hold-down of AddPend or Revoked ends."""
    sightings: int = 0
    """Validated RRsets that it was in while in AddPend."""

    @property
    def tag(self) -> int:
        """Its key tag while not revoked."""
        return key_tag(self.rdata)

    def into(self, state: State, wall: int, until: int | None = None) -> TrackedKey:
        """The key after a transition."""
        return replace(self, state=state, since=wall, until=until)


class Sighting(Struct, frozen=True):
    """A DNSKEY RRset of the zone, as it was seen."""

    rdatas: tuple[bytes, ...]
    original_ttl: int
    """Seconds."""
    expiration: int
    """When the signature that validated it expires."""
    validated: bool = True
    """Whether a trusted key's signature verified; if not, only revocations are taken from it (RFC 5011 2.1)."""
    self_signed: frozenset[bytes] = frozenset()
    """The RDATA, as they are there, of revoked keys whose own signature over the RRset verified."""
    anchored: frozenset[bytes] = frozenset()
    """The RDATA of keys that a configured anchor names: they need no hold-down."""


class TrustPoint(Struct, frozen=True):
    """A zone whose keys are followed."""

    zone: Name
    keys: tuple[TrackedKey, ...] = ()
    probed: int = 0
    """When it was last asked; 0 is never."""
    refreshed: int = 0
    """When that last brought a validated RRset; 0 is never."""
    next_probe: int = 0
    original_ttl: int = 0
    expiration: int = 0
    """As of the last validated RRset."""

    @property
    def trusted(self) -> tuple[Anchor, ...]:
        """The keys that are trust anchors now. If none ever was (`is_new`), the configured ones are."""
        return tuple(Anchor(self.zone, DNSKEY, key.rdata) for key in self.keys if key.state in _TRUSTED)

    @property
    def is_new(self) -> bool:
        """Whether no RRset was ever validated: then the configured anchors stand."""
        return not any(key.state in _TRUSTED | DEAD for key in self.keys)

    @property
    def is_deleted(self) -> bool:
        """Whether all its keys are revoked: as if it had never been a trust point (RFC 5011 5)."""
        return not self.is_new and not self.trusted


class Event(Struct, frozen=True):
    """A transition, for the log."""

    key: TrackedKey
    """As it is now."""
    before: State | None
    """None is Start."""
    after: State | None

    def __str__(self) -> str:
        names = [state.value if state else "start" for state in (self.before, self.after)]
        return f"key {self.key.tag} (algorithm {self.key.rdata[3]}): {names[0]} to {names[1]}"


def observe(point: TrustPoint, seen: Sighting, algorithms: frozenset[int], wall: int) -> tuple[TrustPoint, tuple[Event, ...]]:
    """The trust point after a DNSKEY RRset was seen, and what changed (RFC 5011 4).

    Followed are zone keys with the SEP bit whose algorithm is one of `algorithms`, those that we verify: trusting only keys
    that we cannot use would make the zone insecure. An RRset that did not validate counts as a failed probe.
    """
    present = {identity(rdata): rdata for rdata in seen.rdatas if is_followed(rdata, algorithms)}
    revoked = {identity(rdata) for rdata in seen.self_signed if rdata in seen.rdatas and _is_revoked(rdata)}
    old = {key.rdata: key for key in point.keys}
    new: dict[bytes, TrackedKey | None] = {
        same: _next(key, present.get(same), same in revoked, seen, wall) for same, key in old.items()
    }
    if seen.validated:
        for same, rdata in present.items():
            if same not in old and not _is_revoked(rdata) and len(new) < MAX_KEYS:
                new[same] = _newcomer(rdata, seen, wall)
    keys = tuple(key for key in new.values() if key is not None)
    point = replace(point, keys=keys)
    return (_refreshed(point, seen, wall) if seen.validated else failed(point, wall)), _events(old, new)


def is_followed(rdata: bytes, algorithms: frozenset[int]) -> bool:
    """Whether this DNSKEY RDATA is of a zone key with the SEP bit, revoked or not, that we verify with."""
    if len(rdata) < 5:
        return False
    wanted = ZONE_KEY | SECURE_ENTRY_POINT
    return int.from_bytes(rdata[:2]) & wanted == wanted and rdata[2] == PROTOCOL and rdata[3] in algorithms


def _is_revoked(rdata: bytes) -> bool:
    return bool(int.from_bytes(rdata[:2]) & REVOKED)


def identity(rdata: bytes) -> bytes:
    """The RDATA without the REVOKE bit, which changes the key tag but not the key (RFC 5011 2.1)."""
    return (int.from_bytes(rdata[:2]) & ~REVOKED).to_bytes(2) + rdata[2:]


def _newcomer(rdata: bytes, seen: Sighting, wall: int) -> TrackedKey:
    if rdata in seen.anchored:
        return TrackedKey(rdata, State.VALID, wall)
    return TrackedKey(rdata, State.ADD_PEND, wall, wall + _hold_down(seen), 1)


def _hold_down(seen: Sighting) -> int:
    """30 days, or the TTL if that is longer (RFC 5011 2.4.1)."""
    return max(ADD_HOLD_DOWN, seen.original_ttl)


def _next(key: TrackedKey, rdata: bytes | None, revoked: bool, seen: Sighting, wall: int) -> TrackedKey | None:
    """The key after this sighting; None is back in Start. `rdata` is how it stands in the RRset, if it does."""
    if key.state in DEAD:
        return _buried(key, wall)
    if revoked and key.state in _TRUSTED:
        return key.into(State.REVOKED, wall, wall + REMOVE_HOLD_DOWN)
    if not seen.validated:
        return key
    there = rdata is not None and not _is_revoked(rdata)
    if key.state is State.ADD_PEND:
        return _pending(key, seen, wall) if there else None
    if there:
        return key.into(State.VALID, wall) if key.state is State.MISSING else key
    return key.into(State.MISSING, wall) if key.state is State.VALID else key


def _pending(key: TrackedKey, seen: Sighting, wall: int) -> TrackedKey:
    """A new key that is still there. One that was dated by a clock ahead of time does not wait for that time."""
    if key.rdata in seen.anchored:
        return key.into(State.VALID, wall)
    until = min(key.until or wall, wall + _hold_down(seen))
    key = replace(key, until=until, sightings=key.sightings + 1)
    return key.into(State.VALID, wall) if wall >= until and key.sightings >= SIGHTINGS else key


def _buried(key: TrackedKey, wall: int) -> TrackedKey:
    if key.state is State.REVOKED and wall >= (key.until or 0):
        return key.into(State.REMOVED, wall)
    return key


def _events(old: dict[bytes, TrackedKey], new: dict[bytes, TrackedKey | None]) -> tuple[Event, ...]:
    events = []
    for same, key in new.items():
        was = old.get(same)
        before, after = was.state if was else None, key.state if key else None
        if before is not after and (subject := key or was):
            events.append(Event(subject, before, after))
    return tuple(events)


# Probes (RFC 5011 2.3)


def _refreshed(point: TrustPoint, seen: Sighting, wall: int) -> TrustPoint:
    point = replace(point, probed=wall, refreshed=wall, original_ttl=seen.original_ttl, expiration=seen.expiration)
    return replace(point, next_probe=wall + query_interval(point, wall))


def failed(point: TrustPoint, wall: int) -> TrustPoint:
    """The trust point after a probe that brought no validated RRset: it is repeated sooner."""
    return replace(point, probed=wall, next_probe=wall + retry_time(point, wall))


def query_interval(point: TrustPoint, wall: int) -> int:
    """Seconds from one probe to the next: half of TTL or signature's lifetime, between an hour and 15 days."""
    return max(HOUR, min(15 * DAY, point.original_ttl // 2, (point.expiration - wall) // 2))


def retry_time(point: TrustPoint, wall: int) -> int:
    """Seconds until a failed probe is repeated: a tenth of TTL or signature's lifetime, between an hour and a day."""
    return max(HOUR, min(DAY, point.original_ttl // 10, (point.expiration - wall) // 10))


def is_due(point: TrustPoint, wall: int) -> bool:
    """Whether it is time to probe; also when the last probe lies in the future, for then the clock was wrong."""
    return wall >= point.next_probe or point.probed > wall


def warnings(point: TrustPoint, wall: int) -> tuple[str, ...]:
    """What threatens this trust point, each with how to mend it."""
    zone = to_text(point.zone)
    found = []
    if point.is_deleted:
        found.append(f"{zone}: all trust anchors are revoked; configure the zone's present keys and remove the state file")
    elif point.trusted and not any(key.state is State.VALID for key in point.keys):
        found.append(f"{zone}: none of the trusted keys is in use any more; configure the zone's present keys before these go")
    if point.refreshed and wall - point.refreshed > OVERDUE:
        days = (wall - point.refreshed) // DAY
        found.append(f"{zone}: keys not seen for {days} days, a roll may be missed; check that DNSKEY can be resolved")
    if not point.refreshed and point.probed:
        found.append(f"{zone}: its keys never validated; check the configured trust anchors and the clock")
    return tuple(found)
