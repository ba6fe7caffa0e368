"""What threatens a zone's trust anchors, and what to do about it: told before a roll strands anyone, and when it has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dohproxy.dnssec import rfc5011
from dohproxy.dnssec.anchors import TrustAnchor
from dohproxy.dnssec.keys import Key
from dohproxy.dnssec.rfc5011 import State, TrustPoint
from dohproxy.dnssec.sighting import Seen
from dohproxy.model import Name
from dohproxy.wire.names import ROOT, to_text

_ROOT_SOURCE: Final = "https://data.iana.org/root-anchors/root-anchors.xml"
_SHA256: Final = 2


def doubts(
    trusted: TrustAnchor, seen: Seen, algorithms: frozenset[int], point: TrustPoint | None, wall: int
) -> tuple[str, ...]:
    """Each thing that is wrong, or soon will be, with how to mend it. `point` is there for a zone that is followed."""
    found = _told_by_zone(trusted, seen, algorithms, point)
    return found + (rfc5011.warnings(point, wall) if point else ())


def _told_by_zone(trusted: TrustAnchor, seen: Seen, algorithms: frozenset[int], point: TrustPoint | None) -> tuple[str, ...]:
    zone, ours = to_text(trusted.zone), _tags(trusted.tags)
    if seen.matching and not seen.flaw:
        return _newcomers(trusted.zone, seen, algorithms, point)
    if seen.matching:
        told = f"{zone}: none of the trusted keys ({ours}) validates its keys: {seen.flaw}"
        return (f"{told}. Look at the clock; {_replace(trusted.zone)}",)
    if seen.revoked:
        told = f"{zone}: the only trusted keys that it still has ({_tags(key.tag for key in seen.revoked)}) are revoked"
    else:
        has = _tags(key.tag for key in seen.keys if key.flags & 1) or "no key signing key"
        told = f"{zone}: none of the trusted keys ({ours}) is a key of the zone any more, which has {has}"
    return (f"{told}: what is signed at and below it fails. To mend it, {_replace(trusted.zone)}",)


def _newcomers(zone: Name, seen: Seen, algorithms: frozenset[int], point: TrustPoint | None) -> tuple[str, ...]:
    """Of keys that the zone has announced, and that nobody here would come to trust."""
    waiting = {key.rdata for key in point.keys if key.state is State.ADD_PEND} if point else set()
    dead = {key.rdata for key in point.keys if key.state in rfc5011.DEAD} if point else set()
    return tuple(
        f"{to_text(zone)}: it has a new key {key.tag}, which is not trusted here: once the old keys go, what is signed at and"
        f" below it fails. To mend it, set dnssec.rfc5011_state so that keys are followed, or add to trust_anchors:"
        f" {ds_text(zone, key)}" + (", beside those that are there" if zone != ROOT else " (with those of the other keys)")
        for key in seen.newcomers(algorithms)
        if key.rdata not in waiting | dead
    )


def _replace(zone: Name) -> str:
    if zone == ROOT:
        return f"update dohproxy, or put the anchors from {_ROOT_SOURCE} into trust_anchors"
    return "ask the zone's operator for its present DS or DNSKEY records and put them into trust_anchors"


def ds_text(zone: Name, key: Key) -> str:
    """The DS record of a key, as `trust_anchors` takes it."""
    return f"{to_text(zone)} IN DS {key.tag} {key.algorithm} {_SHA256} {key.digest(zone, _SHA256).hex().upper()}"


def _tags(tags: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(tags)))
