"""X.509-SVIDs as a Workload API gives them, judged by the rules of the SPIFFE X.509-SVID standard before we use them."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from msgspec import Struct

from dohproxy.identity.der import UNREADABLE
from dohproxy.identity.own import BadCertificate, KeyPair
from dohproxy.identity.peers import BadIdentity, identity_of
from dohproxy.identity.workload_messages import Svid


class Identity(Struct, frozen=True):
    """Who we are, how we show it, and until when (seconds since 1970)."""

    spiffe_id: str
    pair: KeyPair
    end: float


def identity_from(svid: Svid, wall: float) -> Identity:
    """Raises BadCertificate for an SVID that nobody could accept at this time, or that is not ours to show."""
    try:
        chain = [x509.load_der_x509_certificate(certificate) for certificate in svid.chain]
        key = load_der_private_key(svid.key, None)
        ours = bool(chain) and key.public_key() == chain[0].public_key()
    except UNREADABLE as error:
        raise BadCertificate(f"the X.509-SVID cannot be read: {error}") from error
    if not chain:
        raise BadCertificate("the X.509-SVID has no certificate")
    _check_name(svid)
    if not ours:
        raise BadCertificate(f"the key of {svid.spiffe_id} is not its certificate's")
    end = min(certificate.not_valid_after_utc for certificate in chain).timestamp()
    if end <= wall:
        raise BadCertificate(f"the X.509-SVID of {svid.spiffe_id} has expired")
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)
    return Identity(svid.spiffe_id, KeyPair(pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())), end)


def _check_name(svid: Svid) -> None:
    """X.509-SVID 2, 4 and 5.2: one URI, for signing handshakes, and no authority."""
    try:
        named = identity_of(svid.chain[0])
    except BadIdentity as error:
        raise BadCertificate(f"the X.509-SVID of {svid.spiffe_id} is none: {error}") from error
    if named != svid.spiffe_id:
        raise BadCertificate(f"the X.509-SVID that is said to be of {svid.spiffe_id} is of {named}")
