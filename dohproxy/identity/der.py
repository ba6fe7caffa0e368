"""Just so much of DER (X.690) as it takes to find where things begin and end."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from dohproxy.errors import MalformedMessage

UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What cryptography raises for certificates and keys that it cannot read. Not all of it is a ValueError."""
SEQUENCE = 0x30


def element_untrusted(data: bytes, at: int, limit: int) -> tuple[int, int, int]:
    """The tag of the element there, and where its contents begin and end (X.690 8.1)."""
    if at + 2 > limit:
        raise MalformedMessage("DER that ends early")
    tag, length, at = data[at], data[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or at + octets > limit:
            raise MalformedMessage("DER with a length that is none")
        length, at = int.from_bytes(data[at : at + octets]), at + octets
    if at + length > limit:
        raise MalformedMessage("DER that ends early")
    return tag, at, at + length


def split_untrusted(data: bytes) -> tuple[bytes, ...]:
    """Structures that were written one behind the other, such as certificates."""
    pieces, at = [], 0
    while at < len(data):
        tag, _, end = element_untrusted(data, at, len(data))
        if tag != SEQUENCE:
            raise MalformedMessage("DER of something else than structures")
        pieces.append(data[at:end])
        at = end
    return tuple(pieces)
