"""What a client gets in place of an answer that policy blocks."""

from __future__ import annotations

from ipaddress import ip_address

from dohproxy.model import Action, Answer, Ede, Name, Question, RRset, Source, Verdict
from dohproxy.policy.group import DEFAULT_DENY
from dohproxy.wire import names
from dohproxy.wire.constants import AAAA, EDE_BLOCKED, EDE_FORGED, EDE_PROHIBITED, NOERROR, NXDOMAIN, REFUSED, SOA, A

TTL = 60
"""Seconds that clients keep a blocked answer: short, for what is allowed by mistake late is asked again soon."""

_RCODES = {
    Action.NXDOMAIN: NXDOMAIN,
    Action.NODATA: NOERROR,
    Action.REFUSED: REFUSED,
    Action.SINKHOLE: NOERROR,
    Action.DROP: REFUSED,
}
_SOA_MNAME, _SOA_RNAME = names.from_text("blocked.invalid"), names.from_text("nobody.invalid")
_SOA_TIMES = (1, 3600, 600, 86400, TTL)
"""Serial, refresh, retry, expire, minimum (RFC 1035 3.3.13)."""


def answer_for(verdict: Verdict, question: Question, now: float) -> Answer:
    """The answer that a blocking verdict stands for. For DROP it is never sent: the verdict tells to be silent."""
    records = _sinkhole(verdict, question) if verdict.action is Action.SINKHOLE else ()
    negative = not records and verdict.action in (Action.NXDOMAIN, Action.NODATA, Action.SINKHOLE)
    return Answer(
        rcode=_RCODES[verdict.action],
        answer=records,
        authority=(_soa(question.qname),) if negative else (),
        ede=(Ede(_ede_code(verdict), _ede_text(verdict)),),
        born=now,
        source=Source.POLICY,
        verdict=verdict,
    )


def _ede_code(verdict: Verdict) -> int:
    """Blocked, Prohibited where it was never allowed, Forged where the answer is made up (RFC 8914 4)."""
    if verdict.action is Action.SINKHOLE:
        return EDE_FORGED
    return EDE_PROHIBITED if verdict.rule.text == DEFAULT_DENY else EDE_BLOCKED


def _ede_text(verdict: Verdict) -> str:
    """The list or group, and the rule: no files, for these are none of the client's business."""
    return f"{verdict.rule.where}: {verdict.rule.text}"


def _sinkhole(verdict: Verdict, question: Question) -> tuple[RRset, ...]:
    version = {A: 4, AAAA: 6}.get(question.qtype)
    addresses = [address for address in map(ip_address, verdict.addresses) if address.version == version]
    rdatas = tuple(address.packed for address in addresses)
    return (RRset(question.qname, question.qtype, TTL, rdatas, rdclass=question.qclass),) if rdatas else ()


def _soa(owner: Name) -> RRset:
    """What lets clients keep the negative answer (RFC 2308 5); its zone is taken to begin at the name itself."""
    times = b"".join(number.to_bytes(4, "big") for number in _SOA_TIMES)
    return RRset(owner, SOA, TTL, (_SOA_MNAME + _SOA_RNAME + times,))
