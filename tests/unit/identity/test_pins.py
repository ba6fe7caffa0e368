"""Pinned keys."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.errors import MalformedMessage
from dohproxy.identity.pins import Unpinned, check_pins, pin_of, subject_public_key_info_untrusted
from dohproxy.lab.certificates import Authority

TWO, THREE = b"\2" * 32, b"\3" * 32
CERTIFICATE = Authority().certificate.public_bytes(Encoding.DER)


def test_the_digest_is_of_the_whole_key_structure() -> None:
    key = x509.load_der_x509_certificate(CERTIFICATE).public_key()
    assert pin_of(CERTIFICATE) == sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def test_one_pinned_key_of_the_chain_is_enough() -> None:
    check_pins((b"a", b"b"), (b"leaf", b"b"))
    check_pins((), (b"leaf",))
    check_pins((), ())


def test_the_error_tells_what_was_found() -> None:
    with pytest.raises(Unpinned) as error:
        check_pins((b"\1" * 32,), (TWO, THREE))
    assert f"sha256/{b64encode(TWO).decode()}, sha256/{b64encode(THREE).decode()}" in str(error.value)
    with pytest.raises(Unpinned, match="it has none"):
        check_pins((b"\1" * 32,), ())


@given(st.binary(max_size=64) | st.integers(0, len(CERTIFICATE) - 1).map(lambda end: CERTIFICATE[:end]))
def test_what_is_no_certificate_is_malformed(octets: bytes) -> None:
    with suppress(MalformedMessage):
        assert subject_public_key_info_untrusted(octets) in octets


@given(st.integers(0, len(CERTIFICATE) - 1), st.integers(0, 255))
def test_a_changed_certificate_gives_a_part_of_it_or_is_malformed(at: int, octet: int) -> None:
    changed = CERTIFICATE[:at] + bytes([octet]) + CERTIFICATE[at + 1 :]
    with suppress(MalformedMessage):
        assert subject_public_key_info_untrusted(changed) in changed


def test_a_cut_certificate_is_malformed() -> None:
    for end in range(len(CERTIFICATE)):
        with pytest.raises(MalformedMessage):
            subject_public_key_info_untrusted(CERTIFICATE[:end])
