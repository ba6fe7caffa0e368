"""Keys and DS records by themselves."""

import struct

import dns.dnssec
import dns.rdata
import pytest
from memory_tree import SigningKey, name

from dohproxy.dnssec import algorithms, keys
from dohproxy.dnssec.keys import Ds, Key, KeyRing, Remembered, key_tag, read_ds_untrusted, read_key_untrusted, usable_ds
from dohproxy.errors import MalformedMessage


@pytest.mark.parametrize("algorithm", [1, 5, 8, 13, 15, 16, 253])
@pytest.mark.parametrize("size", [5, 32, 33, 260])
def test_key_tags_are_those_of_dnspython(algorithm, size):
    """RFC 4034 B, with its own rule for algorithm 1."""
    rdata = struct.pack("!HBB", 257, 3, algorithm) + bytes((n * 37 + algorithm) & 255 for n in range(size))
    assert key_tag(rdata) == dns.dnssec.key_id(dns.rdata.from_wire("IN", "DNSKEY", rdata, 0, len(rdata)))


@pytest.mark.parametrize(("digest", "by_name"), [(1, "SHA1"), (2, "SHA256"), (4, "SHA384")])
def test_digests_are_those_of_dnspython(digest, by_name):
    key = SigningKey(13)
    theirs = dns.dnssec.make_ds(
        "example.com.", dns.rdata.from_wire("IN", "DNSKEY", key.rdata, 0, len(key.rdata)), by_name, validating=True
    )
    ds = read_ds_untrusted(theirs.to_wire())
    assert ds.names(name("example.com"), Key(key.rdata))
    assert not ds.names(name("example.net"), Key(key.rdata))


def test_short_records_are_malformed():
    for read in (read_key_untrusted, read_ds_untrusted):
        with pytest.raises(MalformedMessage):
            read(b"1234")


def test_usable_ds_prefers_digests_but_not_to_nothing():
    known = frozenset((8, 13))
    weak, strong, exotic, unknown = Ds(1, 8, 1, b""), Ds(1, 13, 2, b""), Ds(1, 8, 3, b""), Ds(1, 99, 2, b"")
    assert usable_ds([weak, strong, exotic, unknown], known) == [strong]
    assert usable_ds([weak, exotic, unknown], known) == [weak]
    assert usable_ds([exotic, unknown], known) == []


def test_a_ring_finds_keys_by_tag_and_algorithm():
    good, revoked = Key(SigningKey(13).rdata), Key(SigningKey(13, flags=0x0181).rdata)
    ring = KeyRing([good, revoked])
    assert ring.find(good.tag, 13) == [good]
    assert ring.find(good.tag, 8) == []
    assert (list(ring), len(ring), ring.unusable) == ([good], 1, (revoked,))
    assert ring.why_unusable(revoked.tag, 13) is revoked
    assert revoked.revoked


@pytest.mark.parametrize(
    ("algorithm", "material", "words"),
    [
        (3, b"x" * 40, "DSA is not supported"),
        (99, b"x" * 40, "algorithm 99 is not supported"),
        (8, b"\3", "an RSA key of no length"),
        (8, b"\0\0\3\1\0\1" + b"\xff" * 128, ""),
        (8, b"\1\1" + b"\xff" * 128, "exponent"),
        (8, b"\3\1\0\1" + b"\xff" * 513, "4104 bits is refused"),
        (13, b"x" * 64, "Invalid EC key"),
        (15, b"x" * 31, "32 bytes"),
        (16, b"x" * 56, "57 bytes"),
    ],
)
def test_keys_that_are_none_are_refused_with_a_reason(algorithm, material, words):
    if not words:
        assert algorithms.public_key(algorithm, material)
        return
    key = Key(struct.pack("!HBB", 257, 3, algorithm) + material)
    assert not key.verifies(b"", b"")
    assert words in key.refusal
    assert not key.verifies(b"", b"")


@pytest.mark.parametrize("signature", [b"", b"x" * 63, b"x" * 65, bytes(64)])
def test_ecdsa_signatures_of_another_length_do_not_verify(signature):
    assert not Key(SigningKey(13).rdata).verifies(signature, b"data")


def test_what_is_remembered_is_bounded():
    remembered = Remembered(10)
    for number in range(1000):
        remembered.add(b"%d" % number)
        assert len(remembered) <= 10
    assert b"999" in remembered
    assert b"995" in remembered
    assert b"989" not in remembered


def test_what_is_used_is_not_forgotten():
    remembered = Remembered(10)
    remembered.add(b"used")
    remembered.add(b"unused")
    for number in range(100):
        remembered.add(b"%d" % number)
        assert b"used" in remembered
        assert len(remembered) <= 10
    assert b"unused" not in remembered


def test_what_is_added_again_takes_no_place():
    remembered = Remembered(10)
    for _ in range(100):
        remembered.add(b"one")
        remembered.add(b"other")
    assert len(remembered) == 2


@pytest.fixture
def signing(monkeypatch):
    """A key that made a signature, which is remembered, with what it signed."""
    monkeypatch.setattr(keys, "_good", Remembered(100))
    signing, data = SigningKey(13), b"what is signed"
    signature = signing.sign(data)
    assert Key(signing.rdata).verifies(signature, data)
    return signing, signature, data


def test_a_remembered_signature_is_not_verified_again(signing, monkeypatch):
    key, signature, data = signing
    again = Key(key.rdata)
    monkeypatch.setattr(keys, "public_key", None)
    assert again.verifies(signature, data)


def test_a_remembered_signature_is_good_for_nothing_else(signing):
    """Nor where octets move between signature and data, or the key is a little different one."""
    key, signature, data = signing
    for _ in range(2):
        assert not Key(key.rdata).verifies(signature, data + b".")
        assert not Key(key.rdata).verifies(signature, data[:-1])
        assert not Key(key.rdata).verifies(signature[:-1], signature[-1:] + data)
        assert not Key(key.rdata).verifies(signature + data[:1], data[1:])
        assert not Key(key.rdata).verifies(b"", signature + data)
        assert not Key(key.rdata).verifies(bytes(64), data)
        assert not Key(SigningKey(13, seed=1).rdata).verifies(signature, data)
        assert not Key(key.rdata[:3] + b"\x0e" + key.rdata[4:]).verifies(signature, data)
        assert not Key(key.rdata[:-1]).verifies(signature, key.rdata[-1:] + data)


def test_a_bad_signature_is_not_remembered(signing):
    key, signature, data = signing
    before = len(keys._good)
    assert not Key(key.rdata).verifies(signature[::-1], data)
    assert len(keys._good) == before
