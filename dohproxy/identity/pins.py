"""Which keys and certificates a server may show beside being verified: pins (RFC 7469 2.4 and 2.6)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256

from msgspec import Struct

from dohproxy.errors import MalformedMessage
from dohproxy.identity.der import SEQUENCE, element_untrusted

_VERSION = 0xA0
_BEFORE_THE_KEY = 5
"""serialNumber, signature, issuer, validity, subject (RFC 5280 4.1)."""


class Parts(Struct, frozen=True):
    """What of a certificate can be pinned, octet for octet as its DER has it: what re-encodes it may write it differently."""

    body: bytes
    """TBSCertificate (RFC 5280 4.1.1.1)."""
    key: bytes
    """SubjectPublicKeyInfo (RFC 5280 4.1.2.7)."""


def certificate_matches(pins: Iterable[bytes], tbs_pins: Iterable[bytes], chain_der: Sequence[bytes]) -> bool:
    """Whether a chain of certificates in DER, in any order, has what is pinned; of each kind that is pinned, one is enough.

    `pins` are SHA-256 digests of SubjectPublicKeyInfo (RFC 7469 2.4), `tbs_pins` of TBSCertificate (RFC 5280 4.1.1.1), as
    DNS stamps have them. Without either any chain will do. What cannot be read matches nothing.
    """
    keys, bodies = frozenset(pins), frozenset(tbs_pins)
    if not keys and not bodies:
        return True
    chain = _readable(chain_der)
    return (not keys or any(sha256(one.key).digest() in keys for one in chain)) and (
        not bodies or any(sha256(one.body).digest() in bodies for one in chain)
    )


def pins_of(chain_der: Sequence[bytes]) -> str:
    """The pins that such a chain would match, as they are configured: `sha256/…`."""
    return ", ".join(f"sha256/{b64encode(sha256(one.key).digest()).decode()}" for one in _readable(chain_der))


def _readable(chain_der: Sequence[bytes]) -> list[Parts]:
    chain = []
    for der in chain_der:
        try:
            chain.append(parts_untrusted(der))
        except MalformedMessage:
            continue  # it matches nothing
    return chain


def parts_untrusted(certificate: bytes) -> Parts:
    """What can be pinned of a certificate in DER."""
    _, begin, end = element_untrusted(certificate, 0, len(certificate))
    tag, start, end = element_untrusted(certificate, begin, end)
    if tag != SEQUENCE:
        raise MalformedMessage("not a certificate")
    body = certificate[begin:end]
    tag, _, after = element_untrusted(certificate, start, end)
    start = after if tag == _VERSION else start
    for _ in range(_BEFORE_THE_KEY):
        _, _, start = element_untrusted(certificate, start, end)
    tag, _, after = element_untrusted(certificate, start, end)
    if tag != SEQUENCE:
        raise MalformedMessage("a certificate without a key")
    return Parts(body, certificate[start:after])
