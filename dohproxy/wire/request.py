"""What clients send: read into a Request, or refused with what is needed to answer the refusal."""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

from dohproxy.errors import MalformedMessage
from dohproxy.model import Name, Question
from dohproxy.wire import constants as c
from dohproxy.wire.message import Edns, read_edns
from dohproxy.wire.rdata import read_name

_HEADER: Final = struct.Struct("!6H")
_QUESTION: Final = struct.Struct("!HH").unpack_from
_RECORD: Final = struct.Struct("!HHIH").unpack_from


class NotARequest(MalformedMessage):
    """Nothing that may be answered: a response, or less than a header. Silence, or two servers could talk for ever."""


class BadRequest(MalformedMessage):
    """A query that is answered with an error, and what of it the error reply repeats."""

    def __init__(self, wire: bytes, rcode: int, question: bytes = b"", edns: bool = False) -> None:
        super().__init__(f"RCODE {rcode}")
        self.id: int = wire[0] << 8 | wire[1]
        self.flags: int = wire[2] << 8 | wire[3]
        self.rcode = rcode
        self.question = question
        """The question section as it came; b"" if it could not be read."""
        self.edns = edns
        """Whether the query had an OPT record, as far as it could be read."""


class Request(Struct, frozen=True, gc=False):
    """A query as a client sent it (RFC 1035 4, RFC 6891)."""

    id: int
    flags: int
    qname: Name
    """In the case that the client used; `question.qname` is in lower case."""
    question: Question
    edns: Edns | None

    @property
    def rd(self) -> bool:
        """Whether recursion is desired."""
        return bool(self.flags & c.RD)

    @property
    def cd(self) -> bool:
        """Whether checking is disabled (RFC 4035 3.2.2)."""
        return bool(self.flags & c.CD)

    @property
    def ad(self) -> bool:
        """The AD bit of the query (RFC 6840 5.7)."""
        return bool(self.flags & c.AD)

    @property
    def do(self) -> bool:
        """Whether DNSSEC records are welcome (RFC 3225)."""
        return self.edns is not None and self.edns.do

    @property
    def wants_ad(self) -> bool:
        """Whether the AD bit of the reply means something to the client (RFC 6840 5.8)."""
        return bool(self.flags & c.AD) or self.do

    @property
    def payload_limit(self) -> int:
        """Octets that the client takes over UDP (RFC 6891 6.2.3)."""
        return c.MIN_PAYLOAD if self.edns is None else max(c.MIN_PAYLOAD, self.edns.payload_size)


def parse_request_untrusted(wire: bytes) -> Request:
    """The query in these bytes; raises NotARequest, or BadRequest with the RCODE to answer."""
    if len(wire) < c.HEADER_SIZE or wire[2] & 0x80:
        raise NotARequest("a response" if len(wire) >= c.HEADER_SIZE else "less than a header")
    id_, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(wire)
    if flags & c.OPCODE_MASK:
        raise BadRequest(wire, c.NOTIMP, *_readable(wire))
    try:
        if questions != 1 or answers:  # RFC 9619 4
            raise MalformedMessage("not one question and nothing else")
        qname, at = read_name(wire, c.HEADER_SIZE)
        question = Question(qname.lower(), *_QUESTION(wire, at))
        at += 4
        if authorities:  # only an IXFR has them (RFC 1995 3)
            if question.qtype != c.IXFR:
                raise MalformedMessage("authority records in a query")
            _, at = _read_records(wire, at, authorities)
        edns = None
        if additionals:
            edns, at = _read_records(wire, at, additionals)
        if at != len(wire):
            raise MalformedMessage("octets after the last record")
    except (MalformedMessage, IndexError, struct.error):
        raise BadRequest(wire, c.FORMERR, *_readable(wire)) from None
    if edns is not None and edns.version:  # RFC 6891 6.1.3
        raise BadRequest(wire, c.BADVERS, wire[c.HEADER_SIZE : c.HEADER_SIZE + len(qname) + 4], edns=True)
    return Request(id_, flags, qname, question, edns)


def _read_records(wire: bytes, at: int, count: int) -> tuple[Edns | None, int]:
    """EDNS, if an OPT record is among these records, and the offset after them; all others (TSIG …) are passed over."""
    edns = None
    for _ in range(count):
        if root := not wire[at]:
            at += 1
        else:
            _, at = read_name(wire, at)
        rdtype, rdclass, ttl, length = _RECORD(wire, at)
        at += 10 + length
        if at > len(wire):
            raise MalformedMessage("RDATA ends after the message")
        if rdtype == c.OPT:
            if edns is not None or not root:  # RFC 6891 6.1.1
                raise MalformedMessage("a second OPT record, or one that the root does not own")
            edns = read_edns(wire, rdclass, ttl, at - length, at)
    return edns, at


def _readable(wire: bytes) -> tuple[bytes, bool]:
    """The question section, if there is one question that can be read, and whether an OPT record can be made out."""
    question = b""
    try:
        _, _, questions, answers, authorities, additionals = _HEADER.unpack_from(wire)
        if questions != 1:
            return b"", False
        _, at = read_name(wire, c.HEADER_SIZE)
        _QUESTION(wire, at)
        question = wire[c.HEADER_SIZE : at + 4]
        at += 4
        for _ in range(answers + authorities + additionals):
            _, at = read_name(wire, at)
            rdtype, _, _, length = _RECORD(wire, at)
            if rdtype == c.OPT:
                return question, True
            at += 10 + length
    except (MalformedMessage, IndexError, struct.error):
        pass  # what was read so far has to do
    return question, False


def error_reply(bad: BadRequest, *, payload_size: int = c.PAYLOAD_SIZE) -> bytes:
    """The reply to a query that was refused unread: its ID, opcode, RD and CD, its question, an OPT record if it had one."""
    flags = c.QR | c.RA | bad.flags & (c.OPCODE_MASK | c.RD | c.CD) | bad.rcode & c.RCODE_MASK
    header = _HEADER.pack(bad.id, flags, 1 if bad.question else 0, 0, 0, 1 if bad.edns else 0)
    return header + bad.question + (opt_record(payload_size, bad.rcode) if bad.edns else b"")


def opt_record(payload_size: int, rcode: int = 0, *, do: bool = False, options: bytes = b"") -> bytes:
    """An OPT record of version 0 with the upper bits of this RCODE (RFC 6891 6.1.2)."""
    high = rcode >> 4 << 24 | (c.DO if do else 0)
    return b"\0" + struct.pack("!HHIH", c.OPT, payload_size, high, len(options)) + options
