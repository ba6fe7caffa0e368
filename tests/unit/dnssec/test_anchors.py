"""Trust anchors: which rules a name, and how IANA's file is read."""

import random
from pathlib import Path

import pytest
from memory_tree import WALL, SigningKey, name

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.anchors import AnchorsError, AnchorSet, TrustAnchor, built_in, read_published
from dohproxy.dnssec.keys import key_tag
from dohproxy.wire import constants as c
from dohproxy.wire.names import suffixes

KEY = SigningKey(13)


def anchor(zone: str) -> Anchor:
    return Anchor(name(zone), c.DS, KEY.ds(name(zone)))


def test_the_closest_enclosing_anchor_rules():
    anchors = AnchorSet([anchor("."), anchor("example.com")])
    assert anchors.closest(name("www.example.com"), WALL).zone == name("example.com")
    assert anchors.closest(name("example.net"), WALL).zone == name(".")
    assert AnchorSet([anchor("example.com")]).closest(name("com"), WALL) is None


def test_a_negative_anchor_hides_those_above_and_not_those_below():
    """RFC 7646 2."""
    anchors = AnchorSet([anchor("."), anchor("signed.broken.com")], [NegativeAnchor(name("broken.com"))])
    assert isinstance(anchors.closest(name("www.broken.com"), WALL), NegativeAnchor)
    assert isinstance(anchors.closest(name("www.signed.broken.com"), WALL), TrustAnchor)
    both = AnchorSet([anchor("broken.com")], [NegativeAnchor(name("broken.com"))])
    assert isinstance(both.closest(name("broken.com"), WALL), NegativeAnchor)


def test_a_negative_anchor_ends():
    anchors = AnchorSet([anchor(".")], [NegativeAnchor(name("broken.com"), until=WALL)])
    assert isinstance(anchors.closest(name("broken.com"), WALL - 1), NegativeAnchor)
    assert isinstance(anchors.closest(name("broken.com"), WALL), TrustAnchor)


def test_what_rules_a_name_is_found_as_by_looking_at_each_of_its_ancestors():
    """Also where names end in the octets of another one and are not below it."""
    chance = random.Random(7)
    labels = [b"\1a", b"\1b", b"\2ab", b"\3com", b"\5x\3com", b"\4\1a\1b"]
    found = set()
    for _ in range(3000):
        several = [b"".join(chance.choices(labels, k=chance.randrange(4))) + b"\0" for _ in range(6)]
        negative = [NegativeAnchor(one, chance.choice((None, WALL, WALL + 1))) for one in chance.sample(several, 2)]
        anchors = AnchorSet([Anchor(one, c.DS, KEY.ds(one)) for one in chance.sample(several, 2)], negative)
        asked = b"".join(chance.choices(labels, k=chance.randrange(6))) + chance.choice(several)
        rules = anchors.closest(asked, WALL)
        assert rules == plainly_closest(anchors, asked)
        found.add(type(rules))
    assert found == {TrustAnchor, NegativeAnchor, type(None)}


def plainly_closest(anchors, asked):
    for candidate in suffixes(asked):
        negative = anchors._negative.get(candidate)
        if negative is not None and (negative.until is None or negative.until > WALL):
            return negative
        if anchors.of(candidate) is not None:
            return anchors.of(candidate)
    return None


def test_records_of_one_zone_are_one_anchor():
    anchors = AnchorSet([anchor("com"), Anchor(name("com"), c.DNSKEY, KEY.rdata)])
    found = anchors.of(name("com"))
    assert ([ds.key_tag for ds in found.digests], [key.tag for key in found.keys]) == ([KEY.tag], [KEY.tag])
    assert anchors.zones == (name("com"),)


def test_the_built_in_anchors_are_those_of_the_root():
    found = built_in(1_780_000_000)
    tags = {int.from_bytes(a.rdata[:2], "big") for a in found if a.rdtype == c.DS}
    assert {20326, 38696} <= tags
    assert {key_tag(a.rdata) for a in found if a.rdtype == c.DNSKEY} <= tags
    assert {a.zone for a in found} == {name(".")}


def test_a_clock_that_was_never_set_does_not_hide_the_built_in_anchors():
    assert built_in(0) == built_in(1_790_000_000)


def test_an_installed_program_has_its_own_file(monkeypatch, tmp_path):
    entry = FILE[FILE.index("<KeyDigest") : FILE.index("</KeyDigest>") + 12].replace("validUntil", "was")
    (tmp_path / "root-anchors.xml").write_text(f"<TrustAnchor><Zone>.</Zone>{entry}</TrustAnchor>")
    monkeypatch.setattr("dohproxy.dnssec.anchors.resources.files", lambda _: tmp_path)
    assert [int.from_bytes(anchor.rdata[:2], "big") for anchor in built_in(0)] == [19036]


FILE = (Path(__file__).parents[3] / "certs" / "root-anchors.xml").read_text()


def test_entries_count_only_while_they_are_valid():
    then = {int.from_bytes(a.rdata[:2], "big") for a in read_published(FILE, 1_500_000_000) if a.rdtype == c.DS}
    assert then == {19036, 20326}
    with pytest.raises(AnchorsError, match="none of the trust anchors is valid now"):
        read_published(FILE, 1_000_000_000)


@pytest.mark.parametrize("text", ["", "<TrustAnchor/>", FILE.replace("<KeyTag>", "<Nothing>"), FILE.replace("AwEAAaz", "!!")])
def test_other_files_are_refused(text):
    with pytest.raises(AnchorsError):
        read_published(text, 1_780_000_000)


@pytest.mark.parametrize(
    ("zone", "asked", "speaks"),
    [
        ("example.com", "www.example.com", True),
        ("com", "www.example.com", True),
        ("sub.example.com", "www.sub.example.com", True),
        ("example.com", "www.sub.example.com", False),  # it has an anchor of its own (RFC 6840 C.1)
        ("example.com", "www.off.example.com", False),  # RFC 7646 2
        ("example.com", "off.example.com", False),
        ("example.com", "www.was.example.com", True),
        ("org", "www.example.org", False),
    ],
)
def test_a_zone_does_not_speak_where_a_closer_anchor_rules(zone, asked, speaks):
    key = KEY
    given = [Anchor(name(zone), c.DS, key.ds(name(zone))) for zone in ("com", "sub.example.com")]
    negative = [NegativeAnchor(name("off.example.com")), NegativeAnchor(name("was.example.com"), until=WALL)]
    assert AnchorSet(given, negative).let_speak(name(zone), name(asked), WALL) is speaks


def test_an_excepted_name_is_validated_again_once_the_exception_ends():
    both = AnchorSet([anchor(".")], [NegativeAnchor(name("one.com")), NegativeAnchor(name("two.com"))])
    less = both.without_negative(name("one.com"))
    assert isinstance(less.closest(name("one.com"), WALL), TrustAnchor)
    assert isinstance(less.closest(name("two.com"), WALL), NegativeAnchor)
