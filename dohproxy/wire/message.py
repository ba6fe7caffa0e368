"""Whole messages as upstreams send them, read once into RRsets; nothing of the wire is left in them."""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

from dohproxy.errors import MalformedMessage
from dohproxy.model import Name, Question, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.rdata import read_name, read_rdata

_HEADER: Final = struct.Struct("!6H").unpack_from
_QUESTION: Final = struct.Struct("!HH").unpack_from
_RECORD: Final = struct.Struct("!HHIH").unpack_from
_OPTION: Final = struct.Struct("!HH").unpack_from
_SMALLEST_RECORD: Final = 11


class Edns(Struct, frozen=True, gc=False):
    """An OPT record (RFC 6891 6.1.2), without the upper bits of the RCODE, which its message has."""

    payload_size: int
    version: int
    do: bool
    options: tuple[tuple[int, bytes], ...] = ()
    """Code and data of each, in order."""


class Message(Struct, frozen=True, gc=False):
    """A message (RFC 1035 4), with names in lower case but for those in RDATA."""

    id: int
    flags: int
    """The 16 bits of the header with opcode and RCODE as they stand there."""
    rcode: int
    """All twelve bits (RFC 6891 6.1.3)."""
    question: Question | None
    answer: tuple[RRset, ...]
    authority: tuple[RRset, ...]
    additional: tuple[RRset, ...]
    edns: Edns | None


Record = tuple[Name, int, int, int, bytes]
"""Owner in lower case, type, class, TTL, RDATA."""


def parse_message_untrusted(wire: bytes) -> Message:
    """The message in these bytes, all of them. Raises MalformedMessage.

    RRSIGs stand with the RRset of their section that they cover, records of one RRset together under their smallest TTL
    (RFC 2181 5.2), without duplicates. There may be one question at most.
    """
    try:
        return _parse(wire)
    except (IndexError, struct.error):
        raise MalformedMessage("the message ends too soon") from None


def _parse(wire: bytes) -> Message:
    id_, flags, questions, answers, authorities, additionals = _HEADER(wire)
    if questions > 1:
        raise MalformedMessage("more than one question")
    question, qname, at = None, b"", c.HEADER_SIZE
    if questions:
        name, at = read_name(wire, at)
        qname = name.lower()
        question = Question(qname, *_QUESTION(wire, at))
        at += 4
    if (answers + authorities + additionals) * _SMALLEST_RECORD > len(wire) - at:
        raise MalformedMessage("more records than octets")
    answer, at = _read_section(wire, at, answers, qname) if answers else ((), at)
    authority, at = _read_section(wire, at, authorities, qname) if authorities else ((), at)
    additional, edns, high, at = _read_additional(wire, at, additionals, qname)
    if at != len(wire):
        raise MalformedMessage("octets after the last record")
    return Message(id_, flags, high << 4 | flags & c.RCODE_MASK, question, answer, authority, additional, edns)


def _read_record(wire: bytes, at: int, qname: Name) -> tuple[Name, int, int, int, int, int]:
    """Owner, type, class, TTL as it stands there, and the offsets of the RDATA's start and end."""
    if wire[at] == 0xC0 and wire[at + 1] == c.HEADER_SIZE and qname:
        owner = qname
        at += 2
    else:
        owner, at = read_name(wire, at)
        owner = owner.lower()
    rdtype, rdclass, ttl, length = _RECORD(wire, at)
    at += 10
    end = at + length
    if end > len(wire):
        raise MalformedMessage("RDATA ends after the message")
    return owner, rdtype, rdclass, ttl, at, end


def _read_section(wire: bytes, at: int, count: int, qname: Name) -> tuple[tuple[RRset, ...], int]:
    records = []
    for _ in range(count):
        owner, rdtype, rdclass, ttl, start, at = _read_record(wire, at, qname)
        if rdtype == c.OPT:
            raise MalformedMessage("an OPT record outside the additional section")
        records.append((owner, rdtype, rdclass, ttl, read_rdata(wire, rdtype, start, at)))
    return rrsets(records), at


def _read_additional(wire: bytes, at: int, count: int, qname: Name) -> tuple[tuple[RRset, ...], Edns | None, int, int]:
    """The RRsets, EDNS, the upper bits of the RCODE, and the offset after the section."""
    records, edns, high = [], None, 0
    for _ in range(count):
        owner, rdtype, rdclass, ttl, start, at = _read_record(wire, at, qname)
        if rdtype != c.OPT:
            records.append((owner, rdtype, rdclass, ttl, read_rdata(wire, rdtype, start, at)))
            continue
        if edns is not None or owner != b"\0":
            raise MalformedMessage("a second OPT record, or one that the root does not own")
        edns, high = read_edns(wire, rdclass, ttl, start, at), ttl >> 24
    return rrsets(records) if records else (), edns, high, at


def read_edns(wire: bytes, rdclass: int, ttl: int, start: int, end: int) -> Edns:
    """The OPT record of this class, TTL and RDATA (RFC 6891 6.1.3). Raises MalformedMessage."""
    options = []
    while start < end:
        if end - start < 4:
            raise MalformedMessage("an EDNS option ends too soon")
        code, length = _OPTION(wire, start)
        start += 4 + length
        if start > end:
            raise MalformedMessage("an EDNS option is longer than its record")
        options.append((code, wire[start - length : start]))
    return Edns(rdclass, ttl >> 16 & 0xFF, bool(ttl & c.DO), tuple(options))


def rrsets(records: list[Record]) -> tuple[RRset, ...]:
    """The RRsets of these records of one section, in the order of their first records; lone RRSIGs come last."""
    groups: dict[tuple[Name, int, int], tuple[int, list[bytes]]] = {}
    covering: dict[tuple[Name, int, int], tuple[int, list[bytes]]] = {}
    for owner, rdtype, rdclass, ttl, rdata in records:
        if ttl > 0x7FFFFFFF:  # RFC 2181 8
            ttl = 0  # noqa: PLW2901
        if rdtype == c.RRSIG:
            found, key = covering, (owner, rdata[0] << 8 | rdata[1], rdclass)
        else:
            found, key = groups, (owner, rdtype, rdclass)
        if (group := found.get(key)) is None:
            found[key] = (ttl, [rdata])
        else:
            group[1].append(rdata)
            if ttl < group[0]:
                found[key] = (ttl, group[1])
    return _joined(groups, covering)


def _joined(
    groups: dict[tuple[Name, int, int], tuple[int, list[bytes]]],
    covering: dict[tuple[Name, int, int], tuple[int, list[bytes]]],
) -> tuple[RRset, ...]:
    """The RRsets with the RRSIGs that cover them (RFC 4035 2.2); those that cover none become RRsets of type RRSIG."""
    found = []
    for key, (ttl, rdatas) in groups.items():
        if covering and (signed := covering.pop(key, None)):
            found.append(RRset(key[0], key[1], min(ttl, signed[0]), _unique(rdatas), _unique(signed[1]), key[2]))
        else:
            found.append(RRset(key[0], key[1], ttl, _unique(rdatas), (), key[2]))
    lone: dict[tuple[Name, int], tuple[int, list[bytes]]] = {}
    for (owner, _, rdclass), (ttl, rdatas) in covering.items():
        before = lone.get((owner, rdclass), (ttl, []))
        lone[owner, rdclass] = (min(ttl, before[0]), before[1] + rdatas)
    found += [RRset(owner, c.RRSIG, ttl, _unique(rdatas), (), rdclass) for (owner, rdclass), (ttl, rdatas) in lone.items()]
    return tuple(found)


def _unique(rdatas: list[bytes]) -> tuple[bytes, ...]:
    return tuple(rdatas) if len(rdatas) == 1 else tuple(dict.fromkeys(rdatas))
