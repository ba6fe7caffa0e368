"""Evidence: a verdict with all that it rests on, as JSON, so that a third party can repeat it offline.

The text is one object. `version` is 1; `question`, `answer` (as it came, before judgement) and `exchanges` (what the
validator asked on its way, and was told) are what is judged; `anchors`, `limits` and `wall` are what it was
judged by; `verdict`, `ede` and `rule` are the outcome. Names are presentation text, types are numbers, RDATA and RRSIG
RDATA are uncompressed wire form in base64: what was signed, and nothing that a parser made of it. Times are seconds since
1970. Who replays a record brings an anchor; those in the record only say which were used.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from dohproxy.config.settings import Anchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.chain import Asking, Fetched, Limits, Need, World
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import Judgement, validate
from dohproxy.errors import BadName, DohproxyError, MalformedMessage, ResolveError
from dohproxy.model import Answer, Ede, Link, Question, RRset, Security
from dohproxy.wire.constants import DNSKEY, DS, HEADER_SIZE, NOERROR
from dohproxy.wire.names import from_text, to_text
from dohproxy.wire.rdata import read_rdata

VERSION: Final = 1
T = TypeVar("T")


class EvidenceError(DohproxyError, ValueError):
    """A text that is no evidence record that we can read; says why."""


class NotRecorded(ResolveError):  # noqa: N818 - named like the other reasons for which there is no answer
    """The replay asks what the record does not hold, or what failed when it was made."""


class Exchange(Struct, frozen=True):
    """A question that the validator asked, and what it was told."""

    need: Need
    outcome: Answer | str
    """The answer's RCODE and sections; a text where none came."""


class Evidence(Struct, frozen=True):
    """One verdict and all that it rests on."""

    question: Question
    answer: Answer
    """As it was judged: its RCODE and sections."""
    anchors: tuple[Anchor, ...]
    limits: Limits
    wall: int
    security: Security
    ede: tuple[Ede, ...]
    """Why, the most telling first."""
    exchanges: tuple[Exchange, ...] = ()
    rule: str = ""
    """The policy rule under which it was recorded."""


# Recording


def recording(judging: Asking[T], exchanges: list[Exchange]) -> Asking[T]:
    """The same validation; what it asks and is told is added to `exchanges`.

    Let it run with an empty TrustCache: what it knows already it does not ask, and so would not be recorded.
    """
    try:
        needs = next(judging)
        while True:
            told = yield needs
            exchanges += [Exchange(need, _outcome(fetched)) for need, fetched in zip(needs, told, strict=True)]
            needs = judging.send(told)
    except StopIteration as end:
        outcome: T = end.value
        return outcome


def _outcome(fetched: Fetched) -> Answer | str:
    if isinstance(fetched, Answer):
        return Answer(fetched.rcode, fetched.answer, fetched.authority)
    return str(fetched)


def exchanges_of(chain: Iterable[Link]) -> tuple[Exchange, ...]:
    """The DS and DNSKEY RRsets of a chain as exchanges, for zones that the validator knew already.

    They do not say how a missing DS was proven: a verdict of INSECURE needs a recording.
    """
    found = []
    for link in chain:
        for rdtype, rrset in ((DS, link.ds), (DNSKEY, link.dnskey)):
            if rrset is not None:
                found.append(Exchange(Need(link.zone, rdtype), Answer(NOERROR, (rrset,))))
    return tuple(found)


# Replaying


def replay(evidence: Evidence, anchors: AnchorSet) -> Judgement:
    """What our validator says of the record today, at the record's time and with nothing but these anchors."""
    told: dict[Need, Fetched] = {}
    for exchange in evidence.exchanges:
        outcome = exchange.outcome
        told.setdefault(exchange.need, outcome if isinstance(outcome, Answer) else NotRecorded(outcome))
    world = World(anchors, TrustCache(), evidence.limits, 0.0, evidence.wall, Budget())
    judging = validate(evidence.question, evidence.answer, world)
    try:
        needs = next(judging)
        while True:
            needs = judging.send(tuple(told.get(need) or _unknown(need) for need in needs))
    except StopIteration as end:
        judgement: Judgement = end.value
        return judgement


def _unknown(need: Need) -> NotRecorded:
    return NotRecorded(f"the record does not hold {to_text(need.qname)} type {need.qtype}")


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


class _Exchange(Struct, frozen=True, omit_defaults=True):
    question: _Question
    answer: _Answer | None = None
    error: str = ""


class _Anchor(Struct, frozen=True):
    zone: str
    type: _U16
    rdata: str


class _Ede(Struct, frozen=True):
    code: _U16
    text: str


class _Record(Struct, frozen=True):
    version: int
    question: _Question
    verdict: Security
    ede: tuple[_Ede, ...]
    rule: str
    wall: _Time
    limits: Limits
    anchors: tuple[_Anchor, ...]
    answer: _Answer
    exchanges: tuple[_Exchange, ...]


class _Versioned(Struct, frozen=True):
    version: int


def write_evidence(evidence: Evidence) -> str:
    """The record as one line of JSON, as the module's docstring describes it."""
    question = evidence.question
    record = _Record(
        VERSION,
        _Question(to_text(question.qname), question.qtype, question.qclass),
        evidence.security,
        tuple(_Ede(ede.code, ede.text) for ede in evidence.ede),
        evidence.rule,
        evidence.wall,
        evidence.limits,
        tuple(_Anchor(to_text(anchor.zone), anchor.rdtype, _base64(anchor.rdata)) for anchor in evidence.anchors),
        _written_answer(evidence.answer),
        tuple(_written_exchange(exchange) for exchange in evidence.exchanges),
    )
    return msgspec.json.encode(record).decode() + "\n"


def _written_exchange(exchange: Exchange) -> _Exchange:
    question = _Question(to_text(exchange.need.qname), exchange.need.qtype)
    if isinstance(exchange.outcome, Answer):
        return _Exchange(question, _written_answer(exchange.outcome))
    return _Exchange(question, error=exchange.outcome or "failed")


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


def read_evidence(text: str) -> Evidence:
    """The record in this text; raises EvidenceError, also for a version that is not ours."""
    try:
        version = msgspec.json.decode(text, type=_Versioned).version
        if version != VERSION:
            raise EvidenceError(f"the evidence record has version {version}, this program reads {VERSION}")
        return _read(msgspec.json.decode(text, type=_Record))
    except (msgspec.DecodeError, BadName, MalformedMessage, binascii.Error, IndexError) as error:
        raise EvidenceError(f"the evidence record cannot be read: {error}") from None


def _read(record: _Record) -> Evidence:
    return Evidence(
        Question(from_text(record.question.name), record.question.type, record.question.rdclass),
        _read_answer(record.answer),
        tuple(Anchor(from_text(anchor.zone), anchor.type, _octets(anchor.rdata)) for anchor in record.anchors),
        record.limits,
        record.wall,
        record.verdict,
        tuple(Ede(ede.code, ede.text) for ede in record.ede),
        tuple(_read_exchange(exchange) for exchange in record.exchanges),
        record.rule,
    )


def _read_exchange(exchange: _Exchange) -> Exchange:
    need = Need(from_text(exchange.question.name), exchange.question.type)
    return Exchange(need, _read_answer(exchange.answer) if exchange.answer else exchange.error)


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
