"""A zone's keys held against its anchors: what was seen, what is trusted now, and what is wrong (RFC 5011, RFC 4509 3)."""

from __future__ import annotations

import pytest
from memory_tree import DAY, TTL, WALL, SigningKey
from msgspec.structs import replace
from rolling import Rolling, revoked

from dohproxy.config.settings import Anchor
from dohproxy.dnssec import rfc5011
from dohproxy.dnssec.anchors import AnchorSet, TrustAnchor, gathered
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.keys import Key
from dohproxy.dnssec.readiness import doubts, ds_text
from dohproxy.dnssec.rfc5011 import TrustPoint
from dohproxy.dnssec.sighting import Seen, anchors_now, examine
from dohproxy.dnssec.signatures import Dates
from dohproxy.model import RRset
from dohproxy.wire.constants import DNSKEY, DS
from dohproxy.wire.names import ROOT, from_text

ZONE = from_text("example.")
OLD, NEW, OTHER = (SigningKey(13, seed=seed) for seed in (101, 102, 103))
ZSK = SigningKey(13, 256, seed=104)
OLD_REVOKED = revoked(OLD, 101)
ALGORITHMS = frozenset((8, 13))


def ds(key: SigningKey, digest: int = 2) -> Anchor:
    return Anchor(ZONE, DS, key.ds(ZONE, digest))


def dnskey(key: SigningKey) -> Anchor:
    return Anchor(ZONE, DNSKEY, key.rdata)


def see(rrset: RRset, *anchors: Anchor, wall: int = WALL) -> Seen:
    trusted = gathered(ZONE, anchors)
    return examine(rrset, trusted, trusted, dates=Dates(wall, 0, 0), algorithms=ALGORITHMS, budget=Budget())


def zone(*keys: SigningKey, signers: tuple[SigningKey, ...] | None = None) -> RRset:
    return Rolling(ZONE, keys, signers).rrset()


@pytest.mark.parametrize("anchor", [ds(OLD), ds(OLD, 4), dnskey(OLD)])
def test_a_trusted_key_validates(anchor: Anchor) -> None:
    seen = see(zone(OLD, ZSK, signers=(ZSK, OLD)), anchor)
    assert [key.rdata for key in seen.matching] == [OLD.rdata]
    assert (seen.flaw, seen.sighting.validated) == ("", True)
    assert seen.sighting.original_ttl == TTL
    assert seen.sighting.expiration == WALL + 5 * DAY
    assert seen.sighting.anchored == {OLD.rdata}
    assert seen.signers == {OLD.tag, ZSK.tag}


def test_a_key_that_is_there_but_does_not_sign_validates_nothing() -> None:
    seen = see(zone(OLD, NEW, signers=(NEW,)), ds(OLD))
    assert [key.rdata for key in seen.matching] == [OLD.rdata]
    assert not seen.sighting.validated
    assert str(NEW.tag) in seen.flaw


def test_a_trusted_key_that_signs_but_is_not_there_validates_nothing() -> None:
    seen = see(zone(NEW, signers=(OLD,)), dnskey(OLD))
    assert seen.matching == ()
    assert not seen.sighting.validated


def test_an_expired_signature_validates_nothing() -> None:
    seen = see(zone(OLD), ds(OLD), wall=WALL + 6 * DAY)
    assert not seen.sighting.validated
    assert "expired" in seen.flaw


def test_a_sha1_digest_beside_a_stronger_one_names_no_key() -> None:
    strange = replace(ds(NEW), rdata=OLD.ds(ZONE)[:4] + bytes(32))
    assert see(zone(OLD), ds(OLD, 1)).sighting.validated
    assert not see(zone(OLD), ds(OLD, 1), strange).sighting.validated


def test_a_revoked_key_must_have_signed_to_be_one() -> None:
    assert see(zone(OLD_REVOKED, NEW), ds(OLD), ds(NEW)).sighting.self_signed == {OLD_REVOKED.rdata}
    assert see(zone(OLD_REVOKED, NEW, signers=(NEW,)), ds(OLD), ds(NEW)).sighting.self_signed == frozenset()
    expired = see(zone(OLD_REVOKED), ds(OLD), wall=WALL + 6 * DAY)
    assert expired.sighting.self_signed == frozenset()
    assert [key.rdata for key in expired.revoked] == [OLD_REVOKED.rdata]


def test_malformed_records_beside_good_ones_harm_nobody() -> None:
    rrset = zone(OLD_REVOKED, NEW)
    broken = replace(rrset, rdatas=(*rrset.rdatas, b"\1\2"), signatures=(b"\0", *rrset.signatures))
    seen = see(broken, ds(NEW))
    assert len(seen.keys) == 2
    assert seen.signers == {OLD_REVOKED.tag, NEW.tag}


def test_newcomers_are_key_signing_keys_that_nobody_knows() -> None:
    seen = see(zone(OLD, NEW, ZSK, OLD_REVOKED, SigningKey(15, seed=9), signers=(OLD,)), ds(OLD))
    assert [key.rdata for key in seen.newcomers(ALGORITHMS)] == [NEW.rdata]


# What is trusted of a zone that is followed


def followed(*rrsets: RRset, anchors: tuple[Anchor, ...]) -> TrustPoint:
    point = TrustPoint(ZONE)
    for day, rrset in enumerate(rrsets):
        trusted = gathered(ZONE, anchors_now(point, anchors))
        seen = examine(rrset, trusted, gathered(ZONE, anchors), dates=Dates(WALL, 0, 0), algorithms=ALGORITHMS, budget=Budget())
        point, _ = rfc5011.observe(point, seen.sighting, ALGORITHMS, WALL + 31 * DAY * day)
    return point


def tags(point: TrustPoint, *anchors: Anchor) -> set[int]:
    return set(gathered(ZONE, anchors_now(point, anchors)).tags)


def test_configured_anchors_stand_while_nothing_was_seen() -> None:
    assert anchors_now(TrustPoint(ZONE), (ds(OLD),)) == (ds(OLD),)


def test_keys_that_came_join_those_that_are_configured() -> None:
    point = followed(zone(OLD, NEW), zone(OLD, NEW), anchors=(ds(OLD),))
    assert tags(point, ds(OLD)) == {OLD.tag, NEW.tag}


def test_a_state_from_before_a_roll_does_no_harm_to_newer_anchors() -> None:
    point = followed(zone(OLD), anchors=(ds(OLD),))
    assert tags(point, ds(OLD), ds(OTHER)) == {OLD.tag, OTHER.tag}


@pytest.mark.parametrize("anchor", [ds(OLD), dnskey(OLD)])
def test_a_revoked_key_is_trusted_no_more_whoever_configures_it(anchor: Anchor) -> None:
    point = followed(zone(OLD, NEW), zone(OLD, NEW), zone(OLD_REVOKED, NEW), anchors=(anchor,))
    assert tags(point, anchor) == {NEW.tag}


def test_a_zone_all_of_whose_keys_are_revoked_has_no_anchor_left() -> None:
    point = followed(zone(OLD), zone(OLD_REVOKED), anchors=(ds(OLD),))
    assert point.is_deleted
    assert anchors_now(point, (ds(OLD),)) == ()
    assert AnchorSet([ds(OLD)]).with_anchors(ZONE, ()).closest(ZONE, WALL) is None


def test_anchors_of_other_zones_stay_when_one_changes() -> None:
    root = Anchor(ROOT, DS, OTHER.ds(ROOT))
    changed = AnchorSet([root, ds(OLD)]).with_anchors(ZONE, [ds(NEW)])
    assert changed.of(ROOT) == TrustAnchor(ROOT, changed.of(ROOT).digests, ())
    assert changed.of(ZONE).tags == {NEW.tag}


# What is wrong


def told(rrset: RRset, *anchors: Anchor, point: TrustPoint | None = None, at: int = 0) -> tuple[str, ...]:
    return doubts(gathered(ZONE, anchors), see(rrset, *anchors), ALGORITHMS, point, WALL + at)


def test_nothing_is_wrong_while_a_trusted_key_signs() -> None:
    assert told(zone(OLD, ZSK), ds(OLD)) == ()
    assert told(zone(NEW, OLD_REVOKED), ds(OLD), ds(NEW)) == ()


def test_a_new_key_is_told_of_with_its_anchor() -> None:
    (doubt,) = told(zone(OLD, NEW, signers=(OLD,)), ds(OLD))
    assert f"it has a new key {NEW.tag}, which is not trusted here" in doubt
    assert "rfc5011_state" in doubt
    assert ds_text(ZONE, Key(NEW.rdata)) in doubt
    assert bytes.fromhex(ds_text(ZONE, Key(NEW.rdata)).split()[-1]) == NEW.ds(ZONE)[4:]


def test_a_new_key_that_is_followed_is_no_worry() -> None:
    point = followed(zone(OLD, NEW), anchors=(ds(OLD),))
    assert told(zone(OLD, NEW), ds(OLD), point=point) == ()


def test_a_key_that_was_revoked_once_is_no_newcomer() -> None:
    point = followed(zone(OLD, NEW), zone(OLD, NEW), zone(OLD_REVOKED, NEW), anchors=(ds(OLD),))
    rrset, trusted = zone(OLD, NEW, signers=(NEW,)), anchors_now(point, (ds(OLD),))
    assert told(rrset, *trusted, point=point, at=62 * DAY) == ()


def test_anchors_that_are_gone() -> None:
    (doubt,) = told(zone(NEW), ds(OLD))
    assert f"none of the trusted keys ({OLD.tag}) is a key of the zone any more, which has {NEW.tag}" in doubt
    assert "ask the zone's operator" in doubt


def test_anchors_that_are_revoked() -> None:
    (doubt,) = told(zone(OLD_REVOKED, NEW), ds(OLD))
    assert f"({OLD_REVOKED.tag}) are revoked" in doubt


def test_anchors_that_do_not_sign() -> None:
    (doubt,) = told(zone(OLD, NEW, signers=(NEW,)), ds(OLD))
    assert "validates its keys" in doubt


def test_for_the_root_it_is_told_where_its_anchors_are() -> None:
    rrset = Rolling(ROOT, [NEW]).rrset()
    trusted = gathered(ROOT, [Anchor(ROOT, DS, OLD.ds(ROOT))])
    seen = examine(rrset, trusted, trusted, dates=Dates(WALL, 0, 0), algorithms=ALGORITHMS, budget=Budget())
    (doubt,) = doubts(trusted, seen, ALGORITHMS, None, WALL)
    assert "https://data.iana.org/root-anchors/root-anchors.xml" in doubt


def test_what_is_wrong_with_following_is_told_too() -> None:
    point = followed(zone(OLD), anchors=(ds(OLD),))
    (doubt,) = told(zone(OLD), ds(OLD), point=point, at=20 * DAY)
    assert "keys not seen for 20 days" in doubt
