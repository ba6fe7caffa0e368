"""Pinned keys: a chain that verifies must, beside that, have a key that we were told of (RFC 7469 2.4 and 2.6)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256

from dohproxy.errors import DohproxyError, MalformedMessage

_SEQUENCE, _VERSION = 0x30, 0xA0
_BEFORE_THE_KEY = 5
"""serialNumber, signature, issuer, validity, subject (RFC 5280 4.1)."""


class Unpinned(DohproxyError):
    """None of the keys of a verified chain is one that was pinned."""


def pin_of(certificate: bytes) -> bytes:
    """The SHA-256 digest of the SubjectPublicKeyInfo, octet for octet, of a certificate in DER that has been verified."""
    return sha256(subject_public_key_info_untrusted(certificate)).digest()


def check_pins(pins: Iterable[bytes], chain: Iterable[bytes]) -> None:
    """Raises Unpinned, with what was found, unless one of these digests, of the verified chain's keys, is pinned.

    No pins at all let everybody pass.
    """
    wanted, found = frozenset(pins), tuple(chain)
    if wanted and wanted.isdisjoint(found):
        shown = ", ".join(f"sha256/{b64encode(digest).decode()}" for digest in found) or "none"
        raise Unpinned(f"none of the keys of its certificates is pinned: it has {shown}")


def subject_public_key_info_untrusted(certificate: bytes) -> bytes:
    """The SubjectPublicKeyInfo of a certificate, as its DER has it: what re-encodes it may write it differently."""
    _, start, end = _element(certificate, 0, len(certificate))
    tag, start, end = _element(certificate, start, end)
    if tag != _SEQUENCE:
        raise MalformedMessage("not a certificate")
    tag, _, after = _element(certificate, start, end)
    start = after if tag == _VERSION else start
    for _ in range(_BEFORE_THE_KEY):
        _, _, start = _element(certificate, start, end)
    tag, _, after = _element(certificate, start, end)
    if tag != _SEQUENCE:
        raise MalformedMessage("a certificate without a key")
    return certificate[start:after]


def _element(data: bytes, at: int, limit: int) -> tuple[int, int, int]:
    """The tag of the element there, and where its contents begin and end (X.690 8.1)."""
    if at + 2 > limit:
        raise MalformedMessage("a certificate that ends early")
    tag, length, at = data[at], data[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or at + octets > limit:
            raise MalformedMessage("a certificate with a length that is none")
        length, at = int.from_bytes(data[at : at + octets]), at + octets
    if at + length > limit:
        raise MalformedMessage("a certificate that ends early")
    return tag, at, at + length
