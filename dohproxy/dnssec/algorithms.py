"""The algorithms of DNSSEC: which are known, and public keys made of DNSKEY material (RFC 9904, RFC 8624)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

RSASHA1, RSASHA1_NSEC3, RSASHA256, RSASHA512 = 5, 7, 8, 10
ECDSAP256, ECDSAP384, ED25519, ED448 = 13, 14, 15, 16

SHA1_ALGORITHMS: Final = frozenset((RSASHA1, RSASHA1_NSEC3))
MODERN_ALGORITHMS: Final = frozenset((RSASHA256, RSASHA512, ECDSAP256, ECDSAP384, ED25519, ED448))
NAMES: Final = {
    1: "RSAMD5",
    3: "DSA",
    5: "RSASHA1",
    6: "DSA-NSEC3-SHA1",
    7: "RSASHA1-NSEC3-SHA1",
    8: "RSASHA256",
    10: "RSASHA512",
    12: "ECC-GOST",
    13: "ECDSAP256SHA256",
    14: "ECDSAP384SHA384",
    15: "ED25519",
    16: "ED448",
    17: "SM2SM3",
    23: "ECC-GOST12",
}

RSA_BITS: Final = range(1024, 4097)
"""Moduli taken: a shorter one can be factored, a longer one (RFC 3110 2, RFC 5702 2) only costs us time."""
RSA_EXPONENTS: Final = range(3, 1 << 64)
"""A huge exponent makes verifying as slow as signing."""

Verify = Callable[[bytes, bytes], None]
"""Of a signature and the data that it should sign; raises InvalidSignature or ValueError."""


def name_of(algorithm: int) -> str:
    """Such as `RSASHA256`, for a person."""
    return NAMES.get(algorithm, f"algorithm {algorithm}")


def supported(sha1: bool) -> frozenset[int]:
    """The algorithms that we verify; a zone that is signed with others only is insecure (RFC 4035 5.2)."""
    return MODERN_ALGORITHMS | SHA1_ALGORITHMS if sha1 else MODERN_ALGORITHMS


def public_key(algorithm: int, material: bytes) -> Verify:
    """What verifies with this key; raises ValueError, with the reason, for a key that is none or that we refuse."""
    make = _MAKERS.get(algorithm)
    if make is None:
        raise ValueError(f"{name_of(algorithm)} is not supported")
    return make(material)


def _rsa(algorithm: hashes.HashAlgorithm) -> Callable[[bytes], Verify]:
    scheme = padding.PKCS1v15()

    def make(material: bytes) -> Verify:
        key = _rsa_key(material)

        def verify(signature: bytes, data: bytes) -> None:
            key.verify(signature, data, scheme, algorithm)

        return verify

    return make


def _rsa_key(material: bytes) -> rsa.RSAPublicKey:
    """Exponent length in one octet, or in two after a zero; exponent; modulus (RFC 3110 2)."""
    if len(material) < 3:
        raise ValueError("an RSA key of no length")
    size, at = material[0], 1
    if not size:
        size, at = int.from_bytes(material[1:3], "big"), 3
    exponent, modulus = int.from_bytes(material[at : at + size], "big"), int.from_bytes(material[at + size :], "big")
    if modulus.bit_length() not in RSA_BITS:
        raise ValueError(f"an RSA key of {modulus.bit_length()} bits is refused")
    if exponent not in RSA_EXPONENTS:
        raise ValueError("an RSA key with this exponent is refused")
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def _ecdsa(curve: ec.EllipticCurve, algorithm: hashes.HashAlgorithm, size: int) -> Callable[[bytes], Verify]:
    """The point without its leading octet; signatures are r and s, each of `size` octets (RFC 6605 4)."""
    scheme = ec.ECDSA(algorithm)

    def make(material: bytes) -> Verify:
        key = ec.EllipticCurvePublicKey.from_encoded_point(curve, b"\4" + material)

        def verify(signature: bytes, data: bytes) -> None:
            if len(signature) != 2 * size:
                raise InvalidSignature
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), data, scheme)

        return verify

    return make


def _ed25519(material: bytes) -> Verify:
    return ed25519.Ed25519PublicKey.from_public_bytes(material).verify


def _ed448(material: bytes) -> Verify:
    return ed448.Ed448PublicKey.from_public_bytes(material).verify


_MAKERS: Final[dict[int, Callable[[bytes], Verify]]] = {
    RSASHA1: _rsa(hashes.SHA1()),
    RSASHA1_NSEC3: _rsa(hashes.SHA1()),
    RSASHA256: _rsa(hashes.SHA256()),
    RSASHA512: _rsa(hashes.SHA512()),
    ECDSAP256: _ecdsa(ec.SECP256R1(), hashes.SHA256(), 32),
    ECDSAP384: _ecdsa(ec.SECP384R1(), hashes.SHA384(), 48),
    ED25519: _ed25519,
    ED448: _ed448,
}
