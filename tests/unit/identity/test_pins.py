from __future__ import annotations

from base64 import b64decode
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from dohproxy.identity.pins import certificate_matches
from dohproxy.lab.certificates import Authority


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
