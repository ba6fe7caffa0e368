"""How trust anchors stand, told to a person in lines or to a machine as a record. No I/O."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from dohproxy.cli.render import algorithm_text, columns, moment_text
from dohproxy.config.settings import NegativeAnchor, Settings
from dohproxy.dnssec.keys import Key
from dohproxy.dnssec.rfc5011 import TrackedKey, TrustPoint, identity
from dohproxy.dnssec.sighting import Seen
from dohproxy.model import Name
from dohproxy.resolve.following import Following, Look
from dohproxy.wire.names import ROOT, to_text

Which = tuple[int, int]
"""A key tag and an algorithm."""
_HEAD = ("key", "algorithm", "from", "state", "since", "hold-down ends", "in the zone now")


class KeyRow(Struct, frozen=True):
    """One key of one zone."""

    key_tag: int
    algorithm: int
    source: str
    """built in | configured | followed | the zone"""
    state: str
    """As in RFC 5011 4.2; `trusted` where keys are not followed; `unknown` for one that nobody trusts."""
    since: int | None
    until: int | None
    now: str
    """signs | there | revoked | gone | unknown"""


class ZoneStanding(Struct, frozen=True):
    """The anchors of one zone."""

    zone: Name
    keys: tuple[KeyRow, ...]
    point: TrustPoint | None
    """None if its keys are not followed."""
    problem: str
    """Why its keys now are not known, or do not validate; "" if they do."""
    doubts: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to be done."""
        return not self.problem and not self.doubts


class Standing(Struct, frozen=True):
    """All anchors, negative ones too."""

    zones: tuple[ZoneStanding, ...]
    negative: tuple[NegativeAnchor, ...]
    validates: bool = True


def zone_of(following: Following, look: Look, settings: Settings) -> ZoneStanding:
    """How the zone stands that was looked at."""
    zone, point = look.zone, following.point(look.zone)
    tracked = {(key.tag, key.rdata[3]): key for key in point.keys} if point else {}
    configured = following.configured(zone)
    given = {(ds.key_tag, ds.algorithm) for ds in configured.digests} | {(key.tag, key.algorithm) for key in configured.keys}
    new = {(Key(rdata).tag, rdata[3]) for rdata in following.newcomers(look)}
    source = "built in" if zone == ROOT and not _has_own_root(settings) else "configured"
    rows = []
    for which in sorted(given | tracked.keys() | new):
        origin = source if which in given else "followed" if which in tracked else "the zone"
        state = "unknown" if which not in given and which not in tracked else "trusted"
        rows.append(_row(which, origin, state, tracked.get(which), look.seen))
    return ZoneStanding(zone, tuple(rows), point, look.problem, following.doubts(look))


def _has_own_root(settings: Settings) -> bool:
    given = (*settings.dnssec.anchors, *(anchor for zone in settings.zones for anchor in zone.anchors))
    return any(anchor.zone == ROOT for anchor in given)


def _row(which: Which, source: str, state: str, key: TrackedKey | None, seen: Seen | None) -> KeyRow:
    now = _now(which, seen) if seen else "unknown"
    if key is None:
        return KeyRow(*which, source, state, None, None, now)
    return KeyRow(*which, source, key.state.value, key.since, key.until, now)


def _now(which: Which, seen: Seen) -> str:
    for key in seen.keys:
        if (key.tag, key.algorithm) == which:
            return "signs" if key.tag in seen.signers else "there"
    revoked = (Key(identity(key.rdata)) for key in seen.keys if key.revoked)
    return "revoked" if any((key.tag, key.algorithm) == which for key in revoked) else "gone"


def lines_of(standing: Standing) -> list[str]:
    """For a person."""
    lines = [] if standing.validates else ["nothing is validated: the mode is off"]
    for zone in standing.zones:
        lines += [*_zone_lines(zone), ""]
    if standing.negative:
        lines.append("negative trust anchors")
        lines += [f"  {row}" for row in columns([_negative_row(anchor) for anchor in standing.negative])]
    return lines if lines and lines[-1] else lines[:-1]


def _zone_lines(zone: ZoneStanding) -> list[str]:
    rows = [_HEAD] + [
        (
            str(key.key_tag),
            algorithm_text(key.algorithm),
            key.source,
            key.state,
            _moment(key.since),
            _moment(key.until),
            key.now,
        )
        for key in zone.keys
    ]
    told = [f"trust anchors of {to_text(zone.zone)}, {_timers(zone.point)}"]
    told += [f"  {row}" for row in columns(rows)]
    if zone.problem and not zone.doubts:
        told.append(f"  problem: {zone.problem}")
    return told + [f"  warning: {doubt}" for doubt in zone.doubts]


def _timers(point: TrustPoint | None) -> str:
    if point is None:
        return "not followed: dnssec.rfc5011_state is not set"
    if not point.probed:
        return "not looked at yet by a running proxy"
    times = f"asked {moment_text(point.probed)}, next {moment_text(point.next_probe)}"
    return f"{times}, validated {_moment(point.refreshed) if point.refreshed else 'never'}"


def _negative_row(anchor: NegativeAnchor) -> tuple[str, ...]:
    end = f"until {moment_text(anchor.until)}" if anchor.until is not None else "without end"
    return to_text(anchor.name), end, "dropped once it validates" if anchor.drop else "-", anchor.reason or "-"


def _moment(seconds: int | None) -> str:
    return "-" if seconds is None else moment_text(seconds)


def record_of(standing: Standing) -> dict[str, Any]:
    """For machines: the same facts, ready to be JSON; times in seconds since 1970."""
    return {
        "validates": standing.validates,
        "zones": [_zone_record(zone) for zone in standing.zones],
        "negative": [
            {"name": to_text(anchor.name), "until": anchor.until, "reason": anchor.reason, "drop": anchor.drop}
            for anchor in standing.negative
        ],
    }


def _zone_record(zone: ZoneStanding) -> dict[str, Any]:
    point = zone.point
    return {
        "zone": to_text(zone.zone),
        "followed": point is not None,
        "probed": point.probed if point else None,
        "refreshed": point.refreshed if point else None,
        "next_probe": point.next_probe if point else None,
        "keys": list(zone.keys),
        "problem": zone.problem,
        "warnings": list(zone.doubts),
    }
