from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import suppress
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.errors import MalformedMessage
from dohproxy.identity.pins import certificate_matches, parts_untrusted, pins_of
from dohproxy.lab.certificates import Authority

CERTIFICATE = Authority().certificate.public_bytes(Encoding.DER)


def chain() -> list[bytes]:
    pem = Authority().server("dns.test").certificate
    return [one.public_bytes(Encoding.DER) for one in x509.load_pem_x509_certificates(pem)]


def key_digest(der: bytes) -> bytes:
    key = x509.load_der_x509_certificate(der).public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def body_digest(der: bytes) -> bytes:
    """By hand: the first element of the outer SEQUENCE, whose headers have four octets each in certificates of this size."""
    assert der[:2] == der[4:6] == b"\x30\x82"
    return sha256(der[4 : 8 + int.from_bytes(der[6:8])]).digest()


def test_nothing_pinned_is_anything() -> None:
    assert certificate_matches((), (), [])
    assert certificate_matches((), (), chain())


def test_the_key_of_any_certificate_of_the_chain() -> None:
    shown = chain()
    for one in shown:
        assert certificate_matches((bytes(32), key_digest(one)), (), shown)
    assert not certificate_matches((key_digest(shown[0]),), (), chain())
    assert not certificate_matches((body_digest(shown[0]),), (), shown)
    assert not certificate_matches((bytes(32),), (), [])


def test_the_body_of_any_certificate_of_the_chain() -> None:
    shown = chain()
    for one in shown:
        assert certificate_matches((), (body_digest(one), bytes(32)), shown)
    assert not certificate_matches((), (body_digest(shown[0]),), chain())
    assert not certificate_matches((), (key_digest(shown[0]),), shown)


def test_both_kinds_must_match_where_both_are_pinned() -> None:
    shown = chain()
    key, body = key_digest(shown[0]), body_digest(shown[1])
    assert certificate_matches((key,), (body,), shown)
    assert not certificate_matches((key,), (bytes(32),), shown)
    assert not certificate_matches((bytes(32),), (body,), shown)


def test_garbage_matches_nothing() -> None:
    shown = chain()
    assert not certificate_matches((key_digest(shown[0]),), (), [b"", b"\x30\x82", shown[0][:-1]])


def test_a_key_of_no_known_kind_matches_nothing() -> None:
    """The certificate of a key whose algorithm has an object identifier that nobody has."""
    ec = b64decode("BgcqhkjOPQIB")
    (leaf, issuer) = chain()
    strange = leaf.replace(ec, ec[:-1] + b"\x7f")
    assert strange != leaf
    assert not certificate_matches((key_digest(leaf),), (), [strange])
    assert certificate_matches((key_digest(issuer),), (), [strange, issuer])


def test_the_pins_of_a_chain_are_told_as_they_are_configured() -> None:
    shown = chain()
    texts = [f"sha256/{b64encode(key_digest(one)).decode()}" for one in shown]
    assert pins_of([shown[0], b"garbage", shown[1]]) == ", ".join(texts)


@given(st.binary(max_size=64) | st.integers(0, len(CERTIFICATE) - 1).map(lambda end: CERTIFICATE[:end]))
def test_what_is_no_certificate_is_malformed(octets: bytes) -> None:
    with suppress(MalformedMessage):
        assert parts_untrusted(octets).key in octets


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(0, 255))
def test_a_changed_certificate_gives_a_part_of_it_or_is_malformed(at: int, octet: int) -> None:
    changed = CERTIFICATE[:at] + bytes([octet]) + CERTIFICATE[at + 1 :]
    with suppress(MalformedMessage):
        parts = parts_untrusted(changed)
        assert parts.key in parts.body
        assert parts.body in changed


def test_a_cut_certificate_is_malformed() -> None:
    for end in range(len(CERTIFICATE)):
        with pytest.raises(MalformedMessage):
            parts_untrusted(CERTIFICATE[:end])
