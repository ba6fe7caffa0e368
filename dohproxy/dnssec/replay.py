"""Verdicts recorded as they are made, and repeated from their records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.anchors import AnchorSet, TrustAnchor
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.chain import Asking, Fetched, Need, World
from dohproxy.dnssec.evidence import Evidence, Exchange
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import Judgement, validate
from dohproxy.errors import ResolveError
from dohproxy.model import Answer, Client, Ede, Name, Question, Security
from dohproxy.wire import constants as c
from dohproxy.wire.names import parent, to_text

T = TypeVar("T")


class NotRecorded(ResolveError):
    """The replay asks what the record does not hold, or what failed when it was made."""

    def __init__(self, reason: str, ede: tuple[Ede, ...] = ()) -> None:
        super().__init__(reason)
        self._ede = ede

    @property
    def edes(self) -> tuple[Ede, ...]:
        """What the failure was told as."""
        return self._ede or super().edes


# Recording


def recording(judging: Asking[T], exchanges: list[Exchange]) -> Asking[T]:
    """The same validation; what it asks and is told is added to `exchanges`.

    Let it run with an empty TrustCache: what it knows already it does not ask, and so would not be recorded.
    """
    try:
        needs = next(judging)
        while True:
            told = yield needs
            exchanges += [_exchange(need, fetched) for need, fetched in zip(needs, told, strict=True)]
            needs = judging.send(told)
    except StopIteration as end:
        outcome: T = end.value
        return outcome


def _exchange(need: Need, fetched: Fetched) -> Exchange:
    if isinstance(fetched, Answer):
        return Exchange(need, Answer(fetched.rcode, fetched.answer, fetched.authority))
    return Exchange(need, str(fetched) or "failed", fetched.edes)


def evidence_of(
    question: Question, answer: Answer, world: World, judgement: Judgement, exchanges: Sequence[Exchange], *, client: Client
) -> Evidence:
    """The evidence of a judgement that was made with an empty TrustCache, and these exchanges."""
    anchors, negative = _points(question, answer, exchanges, world)
    return Evidence(
        question,
        answer,
        anchors,
        world.limits,
        world.wall,
        judgement.security,
        judgement.ede,
        tuple(exchanges),
        negative,
        rule_of(judgement, negative),
        client=client,
    )


def _points(
    question: Question, answer: Answer, exchanges: Iterable[Exchange], world: World
) -> tuple[tuple[Anchor, ...], tuple[NegativeAnchor, ...]]:
    """The anchors, and the negative ones, that rule the names that were met: others may be nobody's business."""
    anchors: dict[Name, tuple[Anchor, ...]] = {}
    negative: dict[Name, NegativeAnchor] = {}
    for name in _names_met(question, answer, exchanges):
        point = world.anchors.closest(name, world.wall)
        if isinstance(point, TrustAnchor):
            anchors.setdefault(point.zone, tuple(_records_of(point)))
        elif point is not None:
            negative.setdefault(point.name, point)
    return tuple(anchor for records in anchors.values() for anchor in records), tuple(negative.values())


def _names_met(question: Question, answer: Answer, exchanges: Iterable[Exchange]) -> Iterator[Name]:
    for name in (question.qname, *(exchange.need.qname for exchange in exchanges)):
        yield name
        yield parent(name)
    for rrset in answer.answer:
        yield rrset.owner
        if rrset.rdtype in (c.CNAME, c.DNAME):
            yield from (rdata.lower() for rdata in rrset.rdatas)


def _records_of(anchor: TrustAnchor) -> Iterator[Anchor]:
    for ds in anchor.digests:
        yield Anchor(anchor.zone, c.DS, ds.key_tag.to_bytes(2, "big") + bytes((ds.algorithm, ds.digest_type)) + ds.digest)
    for key in anchor.keys:
        yield Anchor(anchor.zone, c.DNSKEY, key.rdata)


_FAILURES = {
    c.EDE_INDETERMINATE: "RFC 4035 4.3",
    c.EDE_SIGNATURE_EXPIRED: "RFC 4035 5.3.1",
    c.EDE_SIGNATURE_NOT_YET_VALID: "RFC 4035 5.3.1",
    c.EDE_SIGNATURE_EXPIRED_BEFORE_VALID: "RFC 4034 3.1.5",
    c.EDE_DNSKEY_MISSING: "RFC 4035 5.2",
    c.EDE_NO_ZONE_KEY_BIT: "RFC 4034 2.1.1",
    c.EDE_RRSIGS_MISSING: "RFC 4035 2.2",
    c.EDE_NSEC_MISSING: "RFC 4035 5.4",
    c.EDE_BOGUS: "RFC 4035 5.3.3",
}
_UNSUPPORTED = (c.EDE_UNSUPPORTED_DNSKEY_ALGORITHM, c.EDE_UNSUPPORTED_DS_DIGEST)


def rule_of(judgement: Judgement, negative: Sequence[NegativeAnchor] = ()) -> str:
    """The section of the RFC that decided, "" where it was a limit of ours."""
    codes = [ede.code for ede in judgement.ede]
    if judgement.security is Security.SECURE:
        return _rule_of_secure(judgement)
    if judgement.security is not Security.INSECURE:
        return _FAILURES.get(codes[0], "") if codes else ""
    if c.EDE_UNSUPPORTED_NSEC3_ITERATIONS in codes:
        return "RFC 9276 3.2"
    if negative and c.EDE_OTHER in codes:
        return "RFC 7646 2"
    if any(code in _UNSUPPORTED for code in codes) or any(link.security is Security.INSECURE for link in judgement.chain):
        return "RFC 4035 5.2"
    return "RFC 5155 9.2" if judgement.chain else "RFC 4035 4.3"


def _rule_of_secure(judgement: Judgement) -> str:
    denials = {rrset.rdtype for rrset in judgement.authority}
    if judgement.answer and not judgement.rcode:
        return "RFC 4035 5.3"
    return "RFC 5155 8" if c.NSEC3 in denials else "RFC 4035 5.4"


# Replaying


def replay(evidence: Evidence, anchors: Iterable[Anchor]) -> Judgement:
    """What our validator says of the record today, at the record's time and with nothing but these anchors.

    Limits and negative anchors are those of the record: they are what its maker decided, and say so themselves.
    """
    told: dict[Need, Fetched] = {}
    for exchange in evidence.exchanges:
        outcome = exchange.outcome
        told.setdefault(exchange.need, outcome if isinstance(outcome, Answer) else NotRecorded(outcome, exchange.ede))
    world = World(AnchorSet(anchors, evidence.negative), TrustCache(), evidence.limits, 0.0, evidence.wall, Budget())
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
