"""The life of trust anchors (RFC 5011)."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from dohproxy.dnssec import rfc5011
from dohproxy.dnssec.rfc5011 import DAY, HOUR, Event, Sighting, State, TrackedKey, TrustPoint, failed, is_due, observe, warnings
from dohproxy.dnssec.rfc5011_state import StateError, read_state, write_state
from dohproxy.model import Name
from dohproxy.wire.constants import DNSKEY
from dohproxy.wire.names import ROOT, from_text

WALL = 1_800_000_000
EXAMPLE: Name = from_text("example.")
ALGORITHMS = frozenset((8, 13))


def key(number: int, *, flags: int = 257, protocol: int = 3, algorithm: int = 13) -> bytes:
    return flags.to_bytes(2, "big") + bytes((protocol, algorithm)) + bytes((number,)) * 64


OLD, NEW, OTHER = key(1), key(2), key(3)
OLD_REVOKED = key(1, flags=257 | 128)


def see(
    point: TrustPoint,
    *rdatas: bytes,
    at: int = 0,
    ttl: int = 2 * DAY,
    validated: bool = True,
    self_signed: tuple[bytes, ...] = (),
    anchored: tuple[bytes, ...] = (),
) -> tuple[TrustPoint, tuple[Event, ...]]:
    wall = WALL + at
    seen = Sighting(rdatas, ttl, wall + 10 * DAY, validated, frozenset(self_signed), frozenset(anchored))
    return observe(point, seen, ALGORITHMS, wall)


def states(point: TrustPoint) -> dict[bytes, State]:
    return {tracked.rdata: tracked.state for tracked in point.keys}


def started() -> TrustPoint:
    return see(TrustPoint(EXAMPLE), OLD, anchored=(OLD,))[0]


def trusted(point: TrustPoint) -> list[bytes]:
    assert all((anchor.zone, anchor.rdtype) == (EXAMPLE, DNSKEY) for anchor in point.trusted)
    return [anchor.rdata for anchor in point.trusted]


def test_a_trust_point_starts_with_the_configured_anchors() -> None:
    assert TrustPoint(EXAMPLE).is_new
    point, events = see(TrustPoint(EXAMPLE), OLD, NEW, anchored=(OLD,))
    assert states(point) == {OLD: State.VALID, NEW: State.ADD_PEND}
    assert trusted(point) == [OLD]
    assert not point.is_new
    assert [str(event).split(": ")[1] for event in events] == ["start to valid", "start to add-pend"]


# Adding (RFC 5011 2.2, 2.4.1)


def test_a_new_key_is_trusted_after_thirty_days() -> None:
    point, _ = see(started(), OLD, NEW, at=HOUR)
    point, events = see(point, OLD, NEW, at=30 * DAY)
    assert events == ()
    assert trusted(point) == [OLD]
    point, events = see(point, OLD, NEW, at=30 * DAY + HOUR)
    assert trusted(point) == [OLD, NEW]
    assert [(event.key.rdata, event.before, event.after) for event in events] == [(NEW, State.ADD_PEND, State.VALID)]


def test_a_long_ttl_makes_the_hold_down_longer() -> None:
    point, _ = see(started(), OLD, NEW, ttl=40 * DAY)
    point, _ = see(point, OLD, NEW, at=39 * DAY, ttl=40 * DAY)
    assert states(point)[NEW] is State.ADD_PEND
    point, _ = see(point, OLD, NEW, at=40 * DAY, ttl=40 * DAY)
    assert states(point)[NEW] is State.VALID


def test_two_sightings_are_needed() -> None:
    point = TrustPoint(EXAMPLE, (TrackedKey(OLD, State.VALID, WALL), TrackedKey(NEW, State.ADD_PEND, WALL, WALL + 30 * DAY)))
    point, _ = see(point, OLD, NEW, at=31 * DAY)
    assert states(point)[NEW] is State.ADD_PEND
    point, _ = see(point, OLD, NEW, at=32 * DAY)
    assert states(point)[NEW] is State.VALID


def test_a_new_key_that_goes_away_starts_anew() -> None:
    point, _ = see(started(), OLD, NEW)
    point, events = see(point, OLD, at=29 * DAY)
    assert [(event.before, event.after) for event in events] == [(State.ADD_PEND, None)]
    assert NEW not in states(point)
    point, _ = see(point, OLD, NEW, at=30 * DAY)
    point, _ = see(point, OLD, NEW, at=31 * DAY)
    assert states(point)[NEW] is State.ADD_PEND


def test_a_new_key_that_is_revoked_while_it_waits_is_dropped() -> None:
    point, _ = see(started(), OLD, NEW)
    revoked = key(2, flags=257 | 128)
    point, _ = see(point, OLD, revoked, self_signed=(revoked,))
    assert states(point) == {OLD: State.VALID}


def test_an_rrset_that_does_not_validate_adds_nothing() -> None:
    point, events = see(started(), OLD, NEW, validated=False)
    assert (states(point), events) == ({OLD: State.VALID}, ())


def test_an_rrset_that_does_not_validate_counts_for_no_pending_key() -> None:
    point, _ = see(started(), OLD, NEW)
    point, _ = see(point, OLD, NEW, at=31 * DAY, validated=False)
    assert states(point)[NEW] is State.ADD_PEND
    point, _ = see(point, OLD, at=31 * DAY, validated=False)
    assert states(point)[NEW] is State.ADD_PEND


@pytest.mark.parametrize(
    "rdata",
    [key(9, flags=256), key(9, flags=1), key(9, protocol=2), key(9, algorithm=3), key(9, flags=257 | 128), b"\1\1\3\15"],
)
def test_keys_that_are_not_followed(rdata: bytes) -> None:
    """ZSKs, keys of other protocols or algorithms that we do not verify, revoked ones, and what is no key at all."""
    point, _ = see(started(), OLD, rdata)
    assert states(point) == {OLD: State.VALID}


def test_a_new_algorithm_is_a_new_key() -> None:
    other = key(1, algorithm=8)
    point, _ = see(started(), OLD, other)
    assert states(point) == {OLD: State.VALID, other: State.ADD_PEND}


def test_an_anchor_configured_later_needs_no_hold_down() -> None:
    point, _ = see(started(), OLD, NEW)
    point, _ = see(point, OLD, NEW, anchored=(NEW,))
    assert trusted(point) == [OLD, NEW]


def test_keys_are_bounded() -> None:
    point, _ = see(started(), OLD, *(key(number) for number in range(10, 110)))
    assert len(point.keys) == rfc5011.MAX_KEYS


def test_a_clock_that_was_ahead_of_time_does_not_delay_for_years() -> None:
    ahead = 3650 * DAY
    point, _ = see(started(), OLD, NEW, at=ahead)
    point, _ = see(point, OLD, NEW, at=0)
    point, _ = see(point, OLD, NEW, at=30 * DAY)
    assert states(point)[NEW] is State.VALID


# Missing (RFC 5011 4.2)


def test_a_missing_key_stays_trusted_and_may_return() -> None:
    point, _ = see(started(), OLD, NEW, anchored=(NEW,))
    point, events = see(point, NEW)
    assert states(point)[OLD] is State.MISSING
    assert [(event.before, event.after) for event in events] == [(State.VALID, State.MISSING)]
    assert trusted(point) == [OLD, NEW]
    point, _ = see(point, NEW, at=400 * DAY)
    assert states(point)[OLD] is State.MISSING
    point, _ = see(point, OLD, NEW, at=401 * DAY)
    assert states(point)[OLD] is State.VALID


def test_a_key_is_not_missing_where_nothing_validated() -> None:
    point, _ = see(started(), NEW, validated=False)
    assert states(point) == {OLD: State.VALID}


# Revocation (RFC 5011 2.1, 2.4.2)


def test_a_key_revokes_itself() -> None:
    point, _ = see(started(), OLD, NEW, anchored=(NEW,))
    point, events = see(point, OLD_REVOKED, NEW, self_signed=(OLD_REVOKED,))
    assert states(point) == {OLD: State.REVOKED, NEW: State.VALID}
    assert trusted(point) == [NEW]
    assert [(event.before, event.after) for event in events] == [(State.VALID, State.REVOKED)]


def test_a_revocation_holds_even_where_nothing_else_validates() -> None:
    point, _ = see(started(), OLD_REVOKED, validated=False, self_signed=(OLD_REVOKED,))
    assert states(point) == {OLD: State.REVOKED}


def test_a_missing_key_may_be_revoked() -> None:
    point, _ = see(see(started(), NEW, anchored=(NEW,))[0], NEW, OLD_REVOKED, self_signed=(OLD_REVOKED,))
    assert states(point)[OLD] is State.REVOKED


def test_only_the_key_itself_can_revoke_it() -> None:
    point, _ = see(started(), OLD_REVOKED, NEW)
    assert states(point)[OLD] is State.MISSING
    point, _ = see(started(), NEW, self_signed=(OLD_REVOKED,))
    assert states(point)[OLD] is State.MISSING
    point, _ = see(started(), OLD, self_signed=(OLD,))
    assert states(point)[OLD] is State.VALID


def test_a_revoked_key_is_removed_after_thirty_days_and_never_comes_back() -> None:
    point, _ = see(started(), OLD, NEW, anchored=(NEW,))
    point, _ = see(point, OLD_REVOKED, NEW, self_signed=(OLD_REVOKED,))
    point, _ = see(point, OLD, NEW, at=30 * DAY - 1, anchored=(OLD,))
    assert states(point)[OLD] is State.REVOKED
    point, events = see(point, NEW, at=30 * DAY)
    assert [(event.before, event.after) for event in events] == [(State.REVOKED, State.REMOVED)]
    point, _ = see(point, OLD, NEW, at=90 * DAY, anchored=(OLD,))
    assert states(point)[OLD] is State.REMOVED
    assert trusted(point) == [NEW]


def test_a_trust_point_without_keys_is_deleted() -> None:
    """RFC 5011 5."""
    point, _ = see(started(), OLD_REVOKED, self_signed=(OLD_REVOKED,))
    assert point.is_deleted
    assert point.trusted == ()
    assert not TrustPoint(EXAMPLE).is_deleted


# Probes (RFC 5011 2.3)


@pytest.mark.parametrize(
    ("ttl", "lifetime", "interval", "retry"),
    [
        (2 * DAY, 20 * DAY, DAY, 17280),
        (60 * DAY, 60 * DAY, 15 * DAY, DAY),
        (60 * DAY, 2 * DAY, DAY, 17280),
        (60, 20 * DAY, HOUR, HOUR),
        (DAY, -DAY, HOUR, HOUR),
    ],
)
def test_probe_intervals(ttl: int, lifetime: int, interval: int, retry: int) -> None:
    point, _ = observe(TrustPoint(EXAMPLE), Sighting((OLD,), ttl, WALL + lifetime), ALGORITHMS, WALL)
    assert (point.refreshed, point.next_probe) == (WALL, WALL + interval)
    again = failed(point, WALL)
    assert (again.probed, again.refreshed, again.next_probe) == (WALL, WALL, WALL + retry)


def test_an_rrset_that_does_not_validate_is_a_failed_probe() -> None:
    point, _ = see(started(), OLD, at=DAY, validated=False)
    assert (point.probed, point.refreshed) == (WALL + DAY, WALL)


def test_when_a_probe_is_due() -> None:
    point = started()
    assert is_due(TrustPoint(EXAMPLE), WALL)
    assert not is_due(point, WALL + 1)
    assert is_due(point, point.next_probe)
    assert is_due(point, WALL - 1), "the clock was set back"


# Warnings


def test_no_warnings_while_all_is_well() -> None:
    assert warnings(started(), WALL + DAY) == ()
    assert warnings(TrustPoint(EXAMPLE), WALL) == ()


def test_warnings() -> None:
    gone, _ = see(started(), OTHER)
    assert "none of the trusted keys is in use" in warnings(gone, WALL)[0]
    deleted, _ = see(started(), OLD_REVOKED, self_signed=(OLD_REVOKED,))
    assert "all trust anchors are revoked" in warnings(deleted, WALL)[0]
    assert "not seen for 16 days" in warnings(started(), WALL + 16 * DAY)[0]
    assert "never validated" in warnings(failed(TrustPoint(EXAMPLE), WALL), WALL)[0]


# The state file


def test_the_state_file_holds_all() -> None:
    point, _ = see(started(), OLD, NEW, key(5, algorithm=8))
    point, _ = see(point, OLD_REVOKED, NEW, self_signed=(OLD_REVOKED,))
    root = replace(point, zone=ROOT)
    text = write_state((point, root, TrustPoint(from_text("other."))))
    assert read_state(text) == (point, root, TrustPoint(from_text("other.")))


def test_the_state_file_can_be_read_by_people() -> None:
    zone = json.loads(write_state((started(),)))["zones"][0]
    assert zone["zone"] == "example."
    assert zone["keys"][0]["state"] == "valid"
    assert zone["keys"][0]["dnskey"].startswith("257 3 13 AQEB")
    assert zone["keys"][0]["key_tag"] == started().keys[0].tag


def spoilt(change: dict[str, object]) -> str:
    file = json.loads(write_state((started(),)))
    file["zones"][0]["keys"][0].update(change)
    return json.dumps(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"version": 2, "zones": 1}', "has version 2, this program reads 1"),
        ('{"version": 1}', "cannot be read"),
        ('{"version": 1, "zones": [{"zone": ""}]}', "cannot be read"),
        (write_state((started(),)).replace("example.", "a..b"), "cannot be read"),
        (spoilt({"state": "start"}), "cannot be read"),
        (spoilt({"dnskey": "257 3 13"}), "is no DNSKEY record"),
        (spoilt({"dnskey": "x 3 13 AQEB"}), "is no DNSKEY record"),
        (spoilt({"dnskey": "65536 3 13 AQEB"}), "cannot be read"),
        (spoilt({"dnskey": "257 3 13 ?"}), "cannot be read"),
    ],
)
def test_a_state_file_that_cannot_be_read(text: str, reason: str) -> None:
    with pytest.raises(StateError, match=reason):
        read_state(text)
