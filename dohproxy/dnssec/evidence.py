"""Evidence: a verdict with all that it rests on, as one line of JSON, so that a third party can repeat it offline.

`version` is 1; `question`, `answer` (as it came, before judgement) and `exchanges` (what the validator asked on its way,
and was told) are what is judged; `anchors`, `negative_anchors`, `limits` and `wall` are what it was judged by; `verdict`,
`ede` and `rule` are the outcome; `circumstances` tell when, for whom and under which decision of policy. Names are
presentation text, types are numbers, RDATA and RRSIG RDATA are uncompressed wire form in base64: what was signed, and nothing
that a parser made of it. Times are seconds since 1970. Who replays a record brings an anchor; those in the record only say
which were used. Where records were lost, a line says how many: `{"version":1,"lost":3}`.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.chain import Limits, Need
from dohproxy.errors import BadName, DohproxyError, MalformedMessage
from dohproxy.model import INTERNAL, Answer, Client, Ede, Question, RRset, Rule, Security, Verdict
from dohproxy.wire.constants import HEADER_SIZE
from dohproxy.wire.names import from_text, to_text
from dohproxy.wire.rdata import read_rdata

VERSION: Final = 1


class EvidenceError(DohproxyError, ValueError):
    """A text that is no evidence record that we can read; says why."""


class Lost(Struct, frozen=True):
    """A line that stands for records that could not be written."""

    number: int


class Exchange(Struct, frozen=True):
    """A question that the validator asked, and what it was told."""

    need: Need
    outcome: Answer | str
    """The answer's RCODE and sections; a text where none came."""
    ede: tuple[Ede, ...] = ()
    """What is told of it where none came."""


class Circumstances(Struct, frozen=True):
    """When, for whom and how it came about: what nobody can repeat. Addresses are as the log tells them."""

    time: str = ""
    """When the record was made, by this machine's clock (RFC 3339)."""
    client: str = ""
    group: str = ""
    """The client's policy group; "" where the proxy itself asked, to renew what it has."""
    transport: str = ""
    """How the client asked."""
    upstream: str = ""
    upstream_transport: str = ""
    action: str = ""
    """What policy decided on the answer; "" where no rule spoke."""
    policy: Rule | None = None
    """The rule of policy that decided."""
    identity: str = ""
    """Of the client, where a certificate attests it (see model.Attested); "" in records of old too."""
    assurance: str = ""
    """How sure we are who the client is, as in model.Assurance; "" where the proxy itself asked, and in records of old."""


class Evidence(Struct, frozen=True):
    """One verdict and all that it rests on."""

    question: Question
    answer: Answer
    """As it was judged: its RCODE and sections."""
    anchors: tuple[Anchor, ...]
    """Those that the chain may start from."""
    limits: Limits
    wall: int
    """When it was judged, in seconds since 1970: what signatures are judged at."""
    security: Security
    ede: tuple[Ede, ...]
    """Why, the most telling first."""
    exchanges: tuple[Exchange, ...] = ()
    negative: tuple[NegativeAnchor, ...] = ()
    """Negative trust anchors at or above names that were met."""
    rule: str = ""
    """The rule of validation that decided: the RFC section."""
    circumstances: Circumstances = Circumstances()
    client: Client = INTERNAL
    """On whose behalf; not in the record, whose circumstances tell as much as the log may."""

    def written(self, time: float, address: str, verdict: Verdict | None) -> bytes:
        """The record as a line of JSON, under these circumstances (`time` in seconds since 1970)."""
        client, answer = self.client, self.answer
        moment = datetime.fromtimestamp(time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        circumstances = Circumstances(
            moment,
            address,
            "" if client is INTERNAL else client.group,
            client.transport.value,
            answer.upstream,
            answer.transport.value if answer.transport else "",
            verdict.action.value if verdict else "",
            verdict.rule if verdict else None,
            client.identity,
            "" if client is INTERNAL else client.assurance.value,
        )
        return write_evidence(replace(self, circumstances=circumstances)).encode()


# The text


_U16 = Annotated[int, Meta(ge=0, lt=1 << 16)]
_U32 = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Time = Annotated[int, Meta(ge=0, lt=1 << 37)]


class _Question(Struct, frozen=True):
    name: str
    type: _U16
    rdclass: _U16 = msgspec.field(name="class", default=1)


class _RRset(Struct, frozen=True):
    name: str
    type: _U16
    rdclass: _U16 = msgspec.field(name="class")
    ttl: _U32
    rdata: Annotated[tuple[str, ...], Meta(min_length=1)]
    rrsig: tuple[str, ...]


class _Answer(Struct, frozen=True):
    rcode: _U16
    answer: tuple[_RRset, ...]
    authority: tuple[_RRset, ...]


class _Ede(Struct, frozen=True):
    code: _U16
    text: str


class _Exchange(Struct, frozen=True, omit_defaults=True):
    question: _Question
    answer: _Answer | None = None
    error: str = ""
    ede: tuple[_Ede, ...] = ()


class _Anchor(Struct, frozen=True):
    zone: str
    type: _U16
    rdata: str


class _NegativeAnchor(Struct, frozen=True):
    name: str
    until: _Time | None
    reason: str


class _Record(Struct, frozen=True):
    version: int
    question: _Question
    verdict: Security
    ede: tuple[_Ede, ...]
    rule: str
    circumstances: Circumstances
    wall: _Time
    limits: Limits
    anchors: tuple[_Anchor, ...]
    negative_anchors: tuple[_NegativeAnchor, ...]
    answer: _Answer
    exchanges: tuple[_Exchange, ...]


class _Versioned(Struct, frozen=True):
    version: int
    lost: int = 0


def write_evidence(evidence: Evidence) -> str:
    """The record as one line of JSON, as the module's docstring describes it."""
    question = evidence.question
    record = _Record(
        VERSION,
        _Question(to_text(question.qname), question.qtype, question.qclass),
        evidence.security,
        _written_ede(evidence.ede),
        evidence.rule,
        evidence.circumstances,
        evidence.wall,
        evidence.limits,
        tuple(_Anchor(to_text(anchor.zone), anchor.rdtype, _base64(anchor.rdata)) for anchor in evidence.anchors),
        tuple(_NegativeAnchor(to_text(one.name), one.until, one.reason) for one in evidence.negative),
        _written_answer(evidence.answer),
        tuple(_written_exchange(exchange) for exchange in evidence.exchanges),
    )
    return msgspec.json.encode(record).decode() + "\n"


def _written_exchange(exchange: Exchange) -> _Exchange:
    question = _Question(to_text(exchange.need.qname), exchange.need.qtype)
    if isinstance(exchange.outcome, Answer):
        return _Exchange(question, _written_answer(exchange.outcome))
    return _Exchange(question, None, exchange.outcome or "failed", _written_ede(exchange.ede))


def _written_ede(edes: tuple[Ede, ...]) -> tuple[_Ede, ...]:
    return tuple(_Ede(ede.code, ede.text) for ede in edes)


def _written_answer(answer: Answer) -> _Answer:
    return _Answer(answer.rcode, _written_section(answer.answer), _written_section(answer.authority))


def _written_section(section: tuple[RRset, ...]) -> tuple[_RRset, ...]:
    return tuple(
        _RRset(
            to_text(rrset.owner),
            rrset.rdtype,
            rrset.rdclass,
            rrset.ttl,
            tuple(map(_base64, rrset.rdatas)),
            tuple(map(_base64, rrset.signatures)),
        )
        for rrset in section
    )


def _base64(octets: bytes) -> str:
    return base64.b64encode(octets).decode()


def lost_line(number: int) -> bytes:
    """The line that stands for so many records that could not be written."""
    return msgspec.json.encode(_Versioned(VERSION, number)) + b"\n"


def read_line(text: str | bytes) -> Evidence | Lost:
    """The record in this text, or how many are missing in its place; raises EvidenceError, also for a version not ours."""
    try:
        head = msgspec.json.decode(text, type=_Versioned)
        if head.version != VERSION:
            raise EvidenceError(f"the evidence record has version {head.version}, this program reads {VERSION}")
        return Lost(head.lost) if head.lost else _read(msgspec.json.decode(text, type=_Record))
    except (msgspec.DecodeError, BadName, MalformedMessage, binascii.Error, IndexError) as error:
        raise EvidenceError(f"the evidence record cannot be read: {error}") from None


def read_evidence(text: str | bytes) -> Evidence:
    """The record in this text; raises EvidenceError."""
    found = read_line(text)
    if isinstance(found, Lost):
        raise EvidenceError(f"{found.number} records were lost here")
    return found


def _read(record: _Record) -> Evidence:
    return Evidence(
        Question(from_text(record.question.name), record.question.type, record.question.rdclass),
        _read_answer(record.answer),
        tuple(Anchor(from_text(anchor.zone), anchor.type, _octets(anchor.rdata)) for anchor in record.anchors),
        record.limits,
        record.wall,
        record.verdict,
        _read_ede(record.ede),
        tuple(_read_exchange(exchange) for exchange in record.exchanges),
        tuple(NegativeAnchor(from_text(one.name), one.until, one.reason) for one in record.negative_anchors),
        record.rule,
        record.circumstances,
    )


def _read_ede(edes: tuple[_Ede, ...]) -> tuple[Ede, ...]:
    return tuple(Ede(ede.code, ede.text) for ede in edes)


def _read_exchange(exchange: _Exchange) -> Exchange:
    need = Need(from_text(exchange.question.name), exchange.question.type)
    outcome = _read_answer(exchange.answer) if exchange.answer else exchange.error or "failed"
    return Exchange(need, outcome, _read_ede(exchange.ede))


def _read_answer(answer: _Answer) -> Answer:
    return Answer(answer.rcode, _read_section(answer.answer), _read_section(answer.authority))


def _read_section(section: tuple[_RRset, ...]) -> tuple[RRset, ...]:
    return tuple(
        RRset(
            owner=from_text(rrset.name),
            rdtype=rrset.type,
            ttl=rrset.ttl,
            rdatas=tuple(_rdata_untrusted(rrset.type, _octets(rdata)) for rdata in rrset.rdata),
            signatures=tuple(map(_octets, rrset.rrsig)),
            rdclass=rrset.rdclass,
        )
        for rrset in section
    )


def _rdata_untrusted(rdtype: int, rdata: bytes) -> bytes:
    """The RDATA, if it is in uncompressed wire form; raises MalformedMessage or IndexError."""
    message = bytes(HEADER_SIZE) + rdata
    return read_rdata(message, rdtype, HEADER_SIZE, len(message))


def _octets(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
