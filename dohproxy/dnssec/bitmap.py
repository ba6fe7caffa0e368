"""Type bit maps of NSEC and NSEC3 records (RFC 4034 4.1.2, RFC 5155 3.2.1), tested as they stand on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from dohproxy.errors import MalformedMessage
from dohproxy.wire.constants import CNAME, DNAME, NS, NSEC, RRSIG, SOA

NXNAME = 128
"""The type that stands for "this name does not exist" in a compact denial (RFC 9824 2)."""

_MERE_DENIAL = frozenset((RRSIG, NSEC, NXNAME))
"""Types that a bit map lists for the sake of the denial itself."""


def read_untrusted(rdata: bytes, at: int) -> bytes:
    """The bit map that fills `rdata` from `at` to its end; raises MalformedMessage unless its windows are in order."""
    octets, last, at = rdata[at:], -1, 0
    while at < len(octets):
        if at + 2 > len(octets) or not 1 <= octets[at + 1] <= 32 or octets[at] <= last:
            raise MalformedMessage("a type bit map has a bad window")
        last = octets[at]
        at += 2 + octets[at + 1]
    if at != len(octets):
        raise MalformedMessage("a type bit map is cut short")
    return octets


def has(bitmap: bytes, rdtype: int) -> bool:
    """Whether the type's bit is set."""
    window, octet, at = rdtype >> 8, rdtype >> 3 & 31, 0
    while at < len(bitmap) and bitmap[at] <= window:
        length = bitmap[at + 1]
        if bitmap[at] == window:
            return octet < length and bool(bitmap[at + 2 + octet] & 0x80 >> (rdtype & 7))
        at += 2 + length
    return False


def types(bitmap: bytes) -> frozenset[int]:
    """All types whose bits are set."""
    found: set[int] = set()
    at = 0
    while at < len(bitmap):
        base, length = bitmap[at] << 8, bitmap[at + 1]
        found.update(base + bit for bit in range(8 * length) if bitmap[at + 2 + (bit >> 3)] & 0x80 >> (bit & 7))
        at += 2 + length
    return frozenset(found)


def build(rdtypes: Iterable[int]) -> bytes:
    """The bit map of these types."""
    windows: dict[int, bytearray] = {}
    for rdtype in sorted(rdtypes):
        bits = windows.setdefault(rdtype >> 8, bytearray())
        bits.extend(bytes((rdtype >> 3 & 31) + 1 - len(bits)))
        bits[-1] |= 0x80 >> (rdtype & 7)
    return b"".join(bytes((window, len(bits))) + bits for window, bits in windows.items())


def is_delegation(bitmap: bytes) -> bool:
    """Whether this is the parent's side of a zone cut: NS without SOA (RFC 6840 4.1)."""
    return has(bitmap, NS) and not has(bitmap, SOA)


def hides_below(bitmap: bytes) -> bool:
    """Whether the zone says nothing about names below this one: a delegation, or a DNAME (RFC 6840 4.1, RFC 6672 5.3.4.1)."""
    return is_delegation(bitmap) or has(bitmap, DNAME)


def has_alias(bitmap: bytes) -> bool:
    """Whether there is a CNAME, which would have been the answer (RFC 6840 4.3)."""
    return has(bitmap, CNAME)


def is_mere_denial(bitmap: bytes) -> bool:
    """Whether no type is listed that could answer a question of type ANY."""
    return types(bitmap) <= _MERE_DENIAL


def says_nxname(bitmap: bytes) -> bool:
    """Whether this is a compact denial of the name itself: NXNAME, and nothing that exists (RFC 9824 3.1)."""
    return has(bitmap, NXNAME) and is_mere_denial(bitmap)
