"""Replies to clients: compiled once from an Answer, rendered for each client by patching what differs."""

from __future__ import annotations

import struct
from typing import Final

from msgspec import Struct

from dohproxy.model import STALE_TTL, Answer, Ede, Name, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire.negative import is_negative, negative_ttl
from dohproxy.wire.rdata import COMPRESSIBLE, names_in
from dohproxy.wire.request import Request, opt_record

MAX_EDE: Final = 4
MAX_EDE_TEXT: Final = 200
"""Octets of UTF-8: a reply that explains itself should still fit a datagram."""

_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!HHIH").pack
_TWO: Final = struct.Struct("!HH")
_TTL: Final = struct.Struct("!I")
_OPT_SIZE: Final = 11
_FOREVER: Final = 0x7FFFFFFF
_PROOFS: Final = frozenset((c.SOA, c.NSEC, c.NSEC3, c.RRSIG))
_SIGNATURES_ASKED: Final = frozenset((c.RRSIG, c.ANY))
_TO_QUESTION: Final = b"\xc0\x0c"


class Reply(Struct, frozen=True, gc=False):
    """A finished reply, all but the ID, the case of the question and the passing of time.

    It serves every client that asks the same question in a request of the same `shape`.
    """

    wire: bytes
    ttl_offsets: tuple[int, ...]
    """Where the TTLs stand that count down; none in a stale reply."""
    born: float
    """The monotonic time, in seconds, that the TTLs are as of."""
    expires: float
    """The monotonic time at which the first TTL is 0; `born` where there is nothing to keep the reply by."""
    opt_at: int
    """Where the OPT record begins, the last; the end of the message if there is none."""


def shape(request: Request) -> int:
    """All that a reply depends on besides question and answer: RD, CD, EDNS, DO, and whether AD is of use."""
    edns = request.edns
    return (
        (request.flags & (c.RD | c.CD)) >> 4
        | (0 if edns is None else 2)
        | (4 if edns is not None and edns.do else 0)
        | (8 if request.wants_ad else 0)
    )


def compile_reply(answer: Answer, request: Request, *, payload_size: int = c.PAYLOAD_SIZE) -> Reply:
    """The reply that carries this answer to clients who asked like this; `payload_size` is what our own OPT says.

    RRSIGs go to those who set DO, or asked for RRSIG or ANY; of the authority section goes the SOA of a negative answer and,
    with DO, what proves (RFC 4035 3.2.1). There is no additional data but EDNS.
    """
    edns, do = request.edns, request.do
    question = request.question
    signed = do or question.qtype in _SIGNATURES_ASKED
    writer = _Writer(request.qname, question.qname, _TWO.pack(question.qtype, question.qclass))
    answers = sum([writer.add(rrset, _ttl(answer, rrset.ttl), signed) for rrset in answer.answer])
    authorities = sum([writer.add(rrset, ttl, do) for rrset, ttl in _authority(answer, question.qtype, do)])
    out, opt_at = writer.out, len(writer.out)
    if edns is not None:
        out += opt_record(payload_size, answer.rcode, do=do, options=_ede_options(answer.ede) if answer.ede else b"")
    _HEADER.pack_into(out, 0, 0, _flags(answer, request), 1, answers, authorities, 0 if edns is None else 1)
    born = answer.born
    if answer.stale or writer.ttl == _FOREVER:
        return Reply(bytes(out), (), born, born, opt_at)
    return Reply(bytes(out), tuple(writer.ttl_offsets), born, born + writer.ttl, opt_at)


def _flags(answer: Answer, request: Request) -> int:
    flags = c.QR | c.RA | request.flags & (c.RD | c.CD)
    if answer.security is Security.SECURE and request.wants_ad and not request.cd:  # RFC 6840 5.8
        flags |= c.AD
    if answer.rcode > c.RCODE_MASK and request.edns is None:
        return flags | c.SERVFAIL
    return flags | answer.rcode & c.RCODE_MASK


def _ttl(answer: Answer, ttl: int) -> int:
    return STALE_TTL if answer.stale else ttl


def _authority(answer: Answer, qtype: int, do: bool) -> list[tuple[RRset, int]]:
    """The authority records that go out, and their TTLs; that of an SOA is how long the answer holds (RFC 2308 3)."""
    if not answer.authority:
        return []
    negative, found = is_negative(answer, qtype), []
    for rrset in answer.authority:
        if rrset.rdtype == c.SOA:
            if negative:
                found.append((rrset, _ttl(answer, negative_ttl(rrset))))
        elif do and rrset.rdtype in _PROOFS:
            found.append((rrset, _ttl(answer, rrset.ttl)))
    return found


def _ede_options(errors: tuple[Ede, ...]) -> bytes:
    """EDE options (RFC 8914 2); their texts are cut at a character, not within one."""
    options = b""
    for ede in errors[:MAX_EDE]:
        text = ede.text.encode("utf-8", "replace")
        if len(text) > MAX_EDE_TEXT:
            text = text[:MAX_EDE_TEXT].decode("utf-8", "ignore").encode()
        options += struct.pack("!HHH", c.OPTION_EDE, 2 + len(text), ede.code) + text
    return options


class _Writer:
    """A message in the making: question, then records, their names compressed (RFC 1035 4.1.4)."""

    def __init__(self, asked: Name, qname: Name, type_class: bytes) -> None:
        self.out = bytearray(c.HEADER_SIZE)
        self.out += asked
        self.out += type_class
        self.ttl_offsets: list[int] = []
        self.ttl = _FOREVER
        self._qname = qname
        self._names: dict[bytes, int] = {}

    def add(self, rrset: RRset, ttl: int, signed: bool) -> int:
        """Write the records, with their signatures if wanted; how many those were."""
        owner, rdtype, rdclass = rrset.owner, rrset.rdtype, rrset.rdclass
        if rdtype == c.RRSIG and not signed:
            return 0
        for rdata in rrset.rdatas:
            self._record(owner, rdtype, rdclass, ttl, rdata)
        if not signed:
            return len(rrset.rdatas)
        for rdata in rrset.signatures:
            self._record(owner, c.RRSIG, rdclass, ttl, rdata)
        return len(rrset.rdatas) + len(rrset.signatures)

    def _record(self, owner: Name, rdtype: int, rdclass: int, ttl: int, rdata: bytes) -> None:
        out = self.out
        # The pointer to the question makes its owner show in the case that the client used.
        out += _TO_QUESTION if owner == self._qname != b"\0" else self._compressed(owner, len(out))
        if rdtype in COMPRESSIBLE:
            rdata = self._compressed_rdata(rdtype, rdata, len(out) + 10)
        self.ttl_offsets.append(len(out) + 4)
        self.ttl = min(self.ttl, ttl)
        out += _RECORD(rdtype, rdclass, ttl, len(rdata))
        out += rdata

    def _compressed(self, name: Name, at: int) -> bytes:
        """The name as it is to be written at this offset."""
        names, position = self._names, 0
        if not names:
            self._remember_question()
        while length := name[position]:
            suffix = name[position:]
            if (target := names.get(suffix)) is not None:
                return name[:position] + (0xC000 | target).to_bytes(2)
            if at + position < 0x4000:
                names[suffix] = at + position
            position += length + 1
        return name

    def _remember_question(self) -> None:
        qname, position = self._qname, 0
        while length := qname[position]:
            self._names[qname[position:]] = c.HEADER_SIZE + position
            position += length + 1

    def _compressed_rdata(self, rdtype: int, rdata: bytes, at: int) -> bytes:
        read = 2 if rdtype == c.MX else 0
        written = rdata[:read]
        for name in names_in(rdtype, rdata):
            written += self._compressed(name, at + len(written))
            read += len(name)
        return written + rdata[read:]


def render(reply: Reply, id: int, qname: Name, now: float, limit: int) -> bytes:
    """The reply for one client: its ID, its question's case (the same name in lower case), TTLs as of `now`.

    Over `limit` octets, extended errors lose their texts, then go; then the records go and TC is set (RFC 2181 9).
    """
    wire = reply.wire
    age = int(now - reply.born)
    if age > 0 and reply.ttl_offsets:
        wire = _aged(wire, reply.ttl_offsets, age)
    wire = b"".join((id.to_bytes(2), wire[2 : c.HEADER_SIZE], qname, wire[c.HEADER_SIZE + len(qname) :]))
    return wire if len(wire) <= limit else shortened(wire, len(qname), reply.opt_at, limit)


def _aged(wire: bytes, offsets: tuple[int, ...], age: int) -> bytes:
    out = bytearray(wire)
    for at in offsets:
        ttl = _TTL.unpack_from(wire, at)[0] - age
        _TTL.pack_into(out, at, max(0, ttl))
    return bytes(out)


def shortened(wire: bytes, qname_size: int, opt_at: int, limit: int) -> bytes:
    """The reply within the limit: see `render`."""
    body, opt = wire[:opt_at], wire[opt_at:]
    for options in (_without_texts(opt[_OPT_SIZE:]), b""):
        shorter = body + (opt[: _OPT_SIZE - 2] + len(options).to_bytes(2) + options if opt else b"")
        if len(shorter) <= limit:
            return shorter
    id_, flags, questions, _, _, additionals = _HEADER.unpack_from(wire)
    header = _HEADER.pack(id_, flags & ~c.AD | c.TC, questions, 0, 0, additionals)
    return header + wire[c.HEADER_SIZE : c.HEADER_SIZE + qname_size + 4] + shorter[opt_at:]


def _without_texts(options: bytes) -> bytes:
    kept, at = b"", 0
    while at < len(options):
        code, length = _TWO.unpack_from(options, at)
        kept += _TWO.pack(code, 2) + options[at + 4 : at + 6]
        at += 4 + length
    return kept


def truncated_reply_for(request: Request) -> bytes:
    """The reply that says no more than: ask by TCP."""
    reply = error_reply_for(request, c.NOERROR)
    return reply[:2] + (int.from_bytes(reply[2:4]) | c.TC).to_bytes(2) + reply[4:]


def error_reply_for(request: Request, rcode: int, ede: tuple[Ede, ...] = (), *, payload_size: int = c.PAYLOAD_SIZE) -> bytes:
    """The reply that tells this client of an error, with what is known of its cause (RFC 8914)."""
    reply = compile_reply(Answer(rcode, ede=ede), request, payload_size=payload_size)
    return render(reply, request.id, request.qname, 0.0, c.MAX_MESSAGE)
