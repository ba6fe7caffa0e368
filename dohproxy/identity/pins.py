"""Which keys and certificates a server may show beside being verified: pins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def certificate_matches(pins: Iterable[bytes], tbs_pins: Iterable[bytes], chain_der: Sequence[bytes]) -> bool:
    """Whether a chain of certificates in DER, in any order, has what is pinned; of each kind that is pinned, one is enough.

    `pins` are SHA-256 digests of SubjectPublicKeyInfo (RFC 7469 2.4), `tbs_pins` of TBSCertificate (RFC 5280 4.1.1.1), as
    DNS stamps have them. Without either any chain will do. What cannot be read matches nothing.
    """
    keys, bodies = frozenset(pins), frozenset(tbs_pins)
    if not keys and not bodies:
        return True
    chain = [certificate for der in chain_der if (certificate := _read(der)) is not None]
    return (not keys or any(_key_digest(one) in keys for one in chain)) and (
        not bodies or any(sha256(one.tbs_certificate_bytes).digest() in bodies for one in chain)
    )


def _read(der: bytes) -> x509.Certificate | None:
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None


def _key_digest(certificate: x509.Certificate) -> bytes:
    """Of its SubjectPublicKeyInfo; b"" for a key of no known kind."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return b""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
