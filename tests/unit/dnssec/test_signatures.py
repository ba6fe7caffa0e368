"""RRSIG verification rule by rule; dnspython is the oracle for what is signed."""

import struct

import dns.dnssec
import dns.name
import dns.rdata
import dns.rrset
import pytest
from memory_tree import DAY, TTL, WALL, SigningKey, name, rrsig, signed
from msgspec.structs import replace

from dohproxy.dnssec.budget import DEFAULT_LIMITS, Budget, Cost
from dohproxy.dnssec.keys import Key, KeyRing
from dohproxy.dnssec.signatures import Dates, Flaw, Verified, read_rrsig_untrusted, serial_gap, verify, verify_plain
from dohproxy.errors import BudgetExhausted, MalformedMessage
from dohproxy.model import RRset
from dohproxy.wire import constants as c

ZONE = name("example.com")
KEY = SigningKey(13)
WWW = RRset(name("www.example.com"), c.A, TTL, (bytes((192, 0, 2, 1)), bytes((192, 0, 2, 7))))
DATES = Dates(WALL, 0, 0)


def check(rrset, *, keys=(KEY,), dates=DATES, zone=ZONE, budget=None):
    ring = KeyRing(Key(key.rdata) for key in keys)
    return verify(rrset, zone, ring, dates, budget or Budget())


def says(found, code, words):
    assert isinstance(found, Flaw), found
    assert (found.code, words in found.text) == (code, True), found


@pytest.mark.parametrize("algorithm", [5, 7, 8, 10, 13, 14, 15, 16])
def test_every_algorithm_verifies(algorithm):
    key = SigningKey(algorithm)
    assert isinstance(check(signed(WWW, key, ZONE), keys=[key]), Verified)
    broken = replace(signed(WWW, key, ZONE), rdatas=WWW.rdatas[:1])
    says(check(broken, keys=[key]), c.EDE_BOGUS, f"by key {key.tag} does not verify")


@pytest.mark.parametrize(
    ("rdtype", "text"),
    [
        ("A", "192.0.2.1"),
        ("MX", "10 Mail.Example.COM."),
        ("NS", "NS.Example.com."),
        ("SOA", "NS.example.com. Host.example.com. 1 2 3 4 5"),
        ("SRV", "1 2 3 Host.Example.com."),
        ("NSEC", "Next.Example.com. A NS"),
        ("TXT", '"Some Text" "MORE"'),
        ("NAPTR", '1 2 "S" "x" "" Some.Example.com.'),
    ],
)
def test_agrees_with_dnspython(rdtype, text):
    """Names in RDATA are signed in lower case where RFC 4034 6.2 and RFC 6840 5.1 say so, and only there."""
    from cryptography.hazmat.primitives.asymmetric import ed25519

    private = ed25519.Ed25519PrivateKey.from_private_bytes(b"k" * 32)
    dnskey = dns.dnssec.make_dnskey(private.public_key(), 15)
    theirs = dns.rrset.from_text("www.example.com.", TTL, "IN", rdtype, text)
    made = dns.dnssec.sign(theirs, private, dns.name.from_text("example.com."), dnskey, inception=WALL - 5, expiration=WALL + 5)
    ours = RRset(WWW.owner, int(theirs.rdtype), TTL, tuple(rdata.to_wire() for rdata in theirs), (made.to_wire(),))
    ring = KeyRing([Key(dnskey.to_wire())])
    assert isinstance(verify(ours, ZONE, ring, DATES, Budget()), Verified)


def test_order_and_duplicates_do_not_matter():
    rrset = signed(WWW, KEY, ZONE)
    assert isinstance(check(replace(rrset, rdatas=WWW.rdatas[::-1])), Verified)
    assert isinstance(check(replace(rrset, rdatas=WWW.rdatas + WWW.rdatas)), Verified)


def test_one_good_signature_suffices():
    good = rrsig(WWW, KEY, ZONE)
    bad = good[:-1] + bytes([good[-1] ^ 1])
    found = check(replace(WWW, signatures=(bad, b"", good)))
    assert isinstance(found, Verified)
    assert found.rrset.signatures == (good, bad, b"")


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"labels": 4}, c.EDE_BOGUS, "more labels than the owner"),
        ({"labels": 1}, c.EDE_BOGUS, "fewer labels than the signer"),
        ({"inception": WALL + 1}, c.EDE_SIGNATURE_NOT_YET_VALID, "not valid before 2027-01-15T08:00:01Z"),
        ({"expiration": WALL - 1}, c.EDE_SIGNATURE_EXPIRED, "expired 2027-01-15T07:59:59Z"),
        (
            {"inception": WALL + 5, "expiration": WALL - 5},
            c.EDE_SIGNATURE_EXPIRED_BEFORE_VALID,
            "expires before it becomes valid",
        ),
        ({"tag": 1}, c.EDE_DNSKEY_MISSING, "by key 1 with algorithm 13, which is not there"),
        ({"algorithm": 8}, c.EDE_DNSKEY_MISSING, "with algorithm 8, which is not there"),
    ],
)
def test_fields_out_of_bounds(fields, code, words):
    says(check(signed(WWW, KEY, ZONE, **fields)), code, words)


def test_signer_must_be_the_zone_and_above():
    says(check(signed(WWW, KEY, name("com"))), c.EDE_BOGUS, "signer com., which is not the zone")
    outside = replace(WWW, owner=name("www.example.net"))
    says(check(signed(outside, KEY, ZONE)), c.EDE_BOGUS, "signer example.com., which is not above it")


def test_type_covered_must_be_the_type():
    other = rrsig(replace(WWW, rdtype=c.AAAA), KEY, ZONE)
    says(check(replace(WWW, signatures=(other,))), c.EDE_BOGUS, "covers another type")


def test_no_signature_at_all_and_garbage():
    says(check(WWW), c.EDE_RRSIGS_MISSING, "no RRSIG")
    says(check(replace(WWW, signatures=(b"short",))), c.EDE_BOGUS, "ends too soon")
    with pytest.raises(MalformedMessage):
        read_rrsig_untrusted(bytes(18) + b"\x3f" + bytes(3))
    with pytest.raises(MalformedMessage, match="signer is no name"):
        read_rrsig_untrusted(bytes(18) + b"\1x" * 128 + bytes(3))


def test_expansion_of_a_wildcard_is_seen_by_the_labels():
    source = name("*.example.com")
    found = check(signed(WWW, KEY, ZONE, source=source))
    assert isinstance(found, Verified)
    assert (found.expanded, found.rrsig.labels) == (True, 2)
    itself = check(signed(replace(WWW, owner=source), KEY, ZONE))
    assert isinstance(itself, Verified)
    assert not itself.expanded


def test_ttl_is_capped_by_original_ttl_and_expiration():
    """RFC 4035 5.3.3."""
    long = replace(WWW, ttl=10 * DAY)
    assert check(signed(long, KEY, ZONE)).rrset.ttl == TTL
    assert check(signed(long, KEY, ZONE, original_ttl=9 * DAY, expiration=WALL + 60)).rrset.ttl == 60
    assert check(signed(replace(WWW, ttl=5), KEY, ZONE)).rrset.ttl == 5


@pytest.mark.parametrize("wall", [2**31 - 100, 2**31 + 100, 2**32 - 100, 2**32 + 100])
def test_dates_across_the_edges_of_serial_arithmetic(wall):
    """RFC 4034 3.1.5, RFC 1982: times are 32 bits and wrap."""
    dates = Dates(wall, 0, 0)
    assert isinstance(check(signed(WWW, KEY, ZONE, inception=wall - DAY, expiration=wall + DAY), dates=dates), Verified)
    late = check(signed(WWW, KEY, ZONE, inception=wall - DAY, expiration=wall - 1), dates=dates)
    says(late, c.EDE_SIGNATURE_EXPIRED, "expired")
    early = check(signed(WWW, KEY, ZONE, inception=wall + 1, expiration=wall + DAY), dates=dates)
    says(early, c.EDE_SIGNATURE_NOT_YET_VALID, "not valid before")


def test_serial_gap_is_signed():
    assert [serial_gap(1, 0), serial_gap(0, 1), serial_gap(5, 2**32 - 5)] == [1, -1, 10]


def test_skew_is_a_tenth_of_the_lifetime_within_limits():
    dates = Dates(WALL, 3600, DAY)
    spans = {10 * 3600: 3600, 5 * DAY: DAY // 2, 100 * DAY: DAY}
    for lifetime, skew in spans.items():
        inside = signed(WWW, KEY, ZONE, inception=WALL - skew - lifetime, expiration=WALL - skew)
        assert isinstance(check(inside, dates=dates), Verified), lifetime
        outside = signed(WWW, KEY, ZONE, inception=WALL - skew - 1 - lifetime, expiration=WALL - skew - 1)
        says(check(outside, dates=dates), c.EDE_SIGNATURE_EXPIRED, "expired")


@pytest.mark.parametrize(
    ("flags", "protocol", "code", "words"),
    [
        (0x0001, 3, c.EDE_NO_ZONE_KEY_BIT, "is no zone key"),
        (0x0181, 3, c.EDE_DNSKEY_MISSING, "is revoked"),
        (0x0101, 2, c.EDE_DNSKEY_MISSING, "has protocol 2"),
    ],
)
def test_keys_that_may_not_sign(flags, protocol, code, words):
    """RFC 4034 2.1.1 and 2.1.2, RFC 5011 2.1."""
    key = SigningKey(13, flags=flags, protocol=protocol)
    says(check(signed(WWW, key, ZONE), keys=[key]), code, words)


def test_short_and_odd_rsa_keys_are_refused():
    key = Key(struct.pack("!HBB", 257, 3, 8) + b"\3\1\0\1" + b"\xff" * 64)
    rdata = rrsig(WWW, SigningKey(8), ZONE, tag=key.tag)
    found = verify(replace(WWW, signatures=(rdata,)), ZONE, KeyRing([key]), DATES, Budget())
    says(found, c.EDE_BOGUS, "an RSA key of 512 bits is refused")
    huge = Key(struct.pack("!HBB", 257, 3, 8) + b"\x09" + b"\xff" * 9 + b"\xff" * 256)
    assert not huge.verifies(b"", b"")
    assert "exponent" in huge.refusal
    assert not Key(struct.pack("!HBB", 257, 3, 13) + b"short").verifies(b"", b"")


def test_colliding_key_tags_are_all_tried_and_counted():
    other = Key(SigningKey(13, seed=9).rdata)
    other.tag = KEY.tag
    budget = Budget()
    ring = KeyRing([other, Key(KEY.rdata)])
    assert isinstance(verify(signed(WWW, KEY, ZONE), ZONE, ring, DATES, budget), Verified)
    assert (budget.spent[Cost.SIGNATURES], budget.spent[Cost.COLLISIONS], budget.spent[Cost.FAILURES]) == (2, 1, 1)


def test_many_keys_times_many_signatures_are_stopped():
    """KeyTrap, CVE-2023-50387: the count of signatures tried, not the zone, decides."""
    keys = [Key(SigningKey(13, seed=seed).rdata) for seed in range(30)]
    for key in keys:
        key.tag = 7
    signature = rrsig(WWW, KEY, ZONE, tag=7)
    rrset = replace(WWW, signatures=tuple(signature[:-1] + bytes([n]) for n in range(30)))
    budget = Budget()
    with pytest.raises(BudgetExhausted, match="validation budget exhausted: key tag collisions"):
        verify(rrset, ZONE, KeyRing(keys), DATES, budget)
    assert budget.exhausted is Cost.COLLISIONS
    assert budget.spent[Cost.SIGNATURES] <= DEFAULT_LIMITS[Cost.COLLISIONS] + 1


def test_many_false_signatures_of_one_key_are_stopped():
    signature = rrsig(WWW, KEY, ZONE)
    rrset = replace(WWW, signatures=tuple(signature[:-2] + struct.pack("!H", n) for n in range(200)))
    budget = Budget()
    with pytest.raises(BudgetExhausted, match="failed signatures"):
        check(rrset, budget=budget)
    assert budget.spent[Cost.SIGNATURES] == DEFAULT_LIMITS[Cost.FAILURES] + 1


def plainly(rrset, *keys, budget=None):
    return verify_plain(rrset, ZONE, KeyRing(Key(key.rdata) for key in keys or (KEY,)), DATES, budget or Budget())


def test_what_is_plain_is_verified_at_the_same_price():
    for rrset in (signed(WWW, KEY, ZONE), signed(WWW, KEY, ZONE, original_ttl=60)):
        plain, whole = Budget(), Budget()
        assert plainly(rrset, budget=plain) == check(rrset, budget=whole).rrset
        assert plain.spent == whole.spent


def test_what_is_not_plain_costs_nothing():
    """The first signature has a flaw, a wildcard was expanded, or more than one key may have signed."""
    good, budget = signed(WWW, KEY, ZONE), Budget()
    namesake = SigningKey(13)
    namesake.rdata = KEY.rdata[:4] + KEY.rdata[6:] + KEY.rdata[4:6]
    assert Key(namesake.rdata).tag == KEY.tag
    assert plainly(good, KEY, namesake, budget=budget) is None
    assert plainly(WWW, budget=budget) is None
    assert plainly(signed(WWW, KEY, ZONE, expiration=WALL - 1), budget=budget) is None
    assert plainly(signed(WWW, KEY, ZONE, source=name("*.example.com")), budget=budget) is None
    assert budget.spent == Budget().spent


def test_a_plain_signature_that_is_bad_is_paid_for():
    budget = Budget()
    assert plainly(replace(signed(WWW, KEY, ZONE), rdatas=WWW.rdatas[:1]), budget=budget) is None
    assert (budget.spent[Cost.SIGNATURES], budget.spent[Cost.FAILURES]) == (1, 1)
