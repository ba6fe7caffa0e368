"""Names inside messages and inside RDATA: read, decompressed (RFC 1035 4.1.4, RFC 3597 4), put in canonical form."""

from __future__ import annotations

from typing import Final

from dohproxy.errors import MalformedMessage
from dohproxy.model import Name
from dohproxy.wire import constants as c

MAX_POINTERS: Final = 127
"""A name has no more labels than that, so no sane encoder chains more pointers."""

_ANY_TAIL: Final = -1

_LAYOUTS: Final[dict[int, tuple[int, int, int]]] = {
    # type: (octets before the names, names, octets after them)
    **dict.fromkeys((c.NS, c.MD, c.MF, c.CNAME, c.MB, c.MG, c.MR, c.PTR, c.DNAME), (0, 1, 0)),
    **dict.fromkeys((c.MINFO, c.RP), (0, 2, 0)),
    **dict.fromkeys((c.MX, c.AFSDB, c.RT, c.KX), (2, 1, 0)),
    **dict.fromkeys((c.SIG, c.RRSIG), (18, 1, _ANY_TAIL)),
    **dict.fromkeys((c.NXT, c.NSEC), (0, 1, _ANY_TAIL)),
    c.SOA: (0, 2, 20),
    c.PX: (2, 2, 0),
    c.SRV: (6, 1, 0),
}
"""Types whose RDATA may hold a compressed name (RFC 3597 4); NAPTR and A6, which vary, have functions below."""

_VARYING: Final = frozenset((c.NAPTR, c.A6))
_LENGTHS: Final = {c.A: 4, c.AAAA: 16}
HAS_NAMES: Final = frozenset(_LAYOUTS) | _VARYING
COMPRESSIBLE: Final = frozenset((c.NS, c.MD, c.MF, c.CNAME, c.SOA, c.MB, c.MG, c.MR, c.PTR, c.MINFO, c.MX))
"""Types of RFC 1035, whose names alone may be compressed (RFC 3597 4)."""


def read_name(wire: bytes, at: int) -> tuple[Name, int]:
    """The name that starts at `at`, uncompressed and in its own case, and the offset after it.

    Pointers go strictly backwards, to behind the header, and are few. Raises MalformedMessage, or IndexError where the
    message ends too soon.
    """
    start = at
    while length := wire[at]:
        if length > 63:
            return _read_compressed(wire, start, at)
        at += length + 1
    at += 1
    if at - start > 255:
        raise MalformedMessage("a name is longer than 255 octets")
    return wire[start:at], at


def _read_compressed(wire: bytes, start: int, at: int) -> tuple[Name, int]:
    """As read_name, for a name of which the labels from `start` up to the pointer at `at` were walked over."""
    name, after = b"", at + 2
    for _ in range(MAX_POINTERS):
        name += wire[start:at]
        target = (wire[at] << 8 | wire[at + 1]) - 0xC000
        if not 12 <= target < start:
            raise MalformedMessage("a compression pointer leads nowhere, or a label has an unknown type")
        start = at = target
        while 0 < (length := wire[at]) < 64:
            at += length + 1
        if not length:
            name += wire[start : at + 1]
            if len(name) > 255:
                raise MalformedMessage("a name is longer than 255 octets")
            return name, after
        if len(name) > 255:
            break
    raise MalformedMessage("a name has too many compression pointers")


def read_rdata(wire: bytes, rdtype: int, at: int, end: int) -> bytes:
    """The RDATA between these offsets, its names uncompressed; its length must be exactly what its type and names need.

    Raises MalformedMessage, or IndexError where the message ends too soon.
    """
    layout = _LAYOUTS.get(rdtype)
    if layout is None:
        if rdtype in _VARYING:
            layout = _naptr_layout(wire, at) if rdtype == c.NAPTR else _a6_layout(wire, at)
        else:
            if end - at != _LENGTHS.get(rdtype, end - at):
                raise MalformedMessage(f"RDATA of an address has {end - at} octets")
            return wire[at:end]
    head, names, tail = layout
    position = at + head
    rdata = wire[at:position]
    for _ in range(names):
        name, position = read_name(wire, position)
        rdata += name
    if position > end or tail not in (_ANY_TAIL, end - position):
        raise MalformedMessage(f"RDATA of type {rdtype} does not end where it says")
    return rdata + wire[position:end]


def _naptr_layout(wire: bytes, at: int) -> tuple[int, int, int]:
    """Two numbers and three character-strings, then a name (RFC 3403 4.1)."""
    position = at + 4
    for _ in range(3):
        position += wire[position] + 1
    return position - at, 1, 0


def _a6_layout(wire: bytes, at: int) -> tuple[int, int, int]:
    """A prefix length, the rest of the address, then a name if there is a prefix (RFC 2874 3.1)."""
    prefix = wire[at]
    if prefix > 128:
        raise MalformedMessage("an A6 prefix is longer than an address")
    return 1 + (128 - prefix + 7) // 8, min(prefix, 1), 0


def _layout_of(rdtype: int, rdata: bytes) -> tuple[int, int, int] | None:
    if rdtype == c.NAPTR:
        return _naptr_layout(rdata, 0)
    if rdtype == c.A6:
        return _a6_layout(rdata, 0)
    return _LAYOUTS.get(rdtype)


def names_in(rdtype: int, rdata: bytes) -> tuple[Name, ...]:
    """The names in uncompressed RDATA of a type that RFC 3597 4 lists, in their own case; none for other types.

    Raises MalformedMessage.
    """
    try:
        layout = _layout_of(rdtype, rdata)
        if layout is None:
            return ()
        found, at = [], layout[0]
        for _ in range(layout[1]):
            name, at = _read_plain(rdata, at)
            found.append(name)
        return tuple(found)
    except IndexError:
        raise MalformedMessage(f"RDATA of type {rdtype} ends too soon") from None


def canonical_rdata(rdtype: int, rdata: bytes) -> bytes:
    """The canonical form of uncompressed RDATA: names of the listed types in lower case (RFC 4034 6.2, RFC 6840 5.1).

    Raises MalformedMessage where the RDATA does not hold the names that its type needs.
    """
    if rdtype not in HAS_NAMES or rdtype == c.NSEC:
        return rdata
    names = names_in(rdtype, rdata)
    layout = _layout_of(rdtype, rdata)
    head = layout[0] if layout else 0
    lowered = b"".join(names).lower()
    return rdata[:head] + lowered + rdata[head + len(lowered) :]


def _read_plain(rdata: bytes, at: int) -> tuple[Name, int]:
    start = at
    while length := rdata[at]:
        if length > 63:
            raise MalformedMessage("a name in RDATA is compressed")
        at += length + 1
    return rdata[start : at + 1], at + 1
