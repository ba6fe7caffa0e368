"""Faults on demand: what the lab's servers do wrong, to which questions and how often."""

from __future__ import annotations

from collections import Counter
from enum import Enum

import dns.rcode
import dns.rrset
import trio
from dns.message import Message
from dns.rdatatype import RdataType
from msgspec import Struct

from dohproxy.lab.signer import flip_signature


class Fault(Enum):
    """What is done instead of answering as one should."""

    STALL = "never answers"
    CLOSE = "ends the connection in good order, without an answer (HTTP/2: GOAWAY)"
    CUT = "ends the connection in mid-answer"
    RESET = "resets the TCP connection"
    GARBAGE = "answers with octets that are no message"
    WRONG_ID = "answers with another ID"
    WRONG_QUESTION = "answers another question"
    FLIPPED = "turns a bit of every signature"
    STRIPPED = "leaves the signatures out"
    SERVFAIL = "answers SERVFAIL"
    HTTP_ERROR = "answers with HTTP status 500 (DoH only)"


class Faults:
    """What is wrong at the moment, and what was asked so far.

    `asked` counts queries by (qname with final dot, type as text); `connections` the TLS connections that came to be.
    `delay` holds every answer back, in seconds.
    """

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.connections = 0
        self.delay = 0.0
        self._rules: list[_Rule] = []

    def set(self, fault: Fault, name: str = "", times: int | None = None) -> None:
        """From now on `fault` meets questions for `name` ("" is every name), `times` often; None is always."""
        self._rules.append(_Rule(fault, name and name.rstrip(".").lower() + ".", times))

    def clear(self) -> None:
        """Nothing is wrong any more; what stalls goes on stalling."""
        self._rules.clear()
        self.delay = 0.0

    def meet(self, query: Message) -> Fault | None:
        """Counts the query; answers what is to be done wrong to it."""
        if not query.question:
            return None
        qname = query.question[0].name.to_text().lower()
        self.asked[qname, RdataType.to_text(query.question[0].rdtype)] += 1
        for rule in self._rules:
            if rule.name in ("", qname) and rule.times != 0:
                rule.times = rule.times and rule.times - 1
                return rule.fault
        return None

    async def hold(self, fault: Fault | None) -> None:
        """Waits for as long as the answer is to be held back: for ever if it stalls."""
        await trio.sleep(self.delay)
        if fault is Fault.STALL:
            await trio.sleep_forever()


class _Rule(Struct):
    fault: Fault
    name: str
    times: int | None


def distort(response: Message, fault: Fault | None) -> bytes:
    """The response in wire form, with the faults that a message can have."""
    match fault:
        case Fault.GARBAGE:
            return b"\xff" * 40
        case Fault.WRONG_ID:
            response.id ^= 1
        case Fault.WRONG_QUESTION:
            response.question = [dns.rrset.from_text("other.lab.", 0, "IN", "A")]
        case Fault.SERVFAIL:
            response.answer, response.authority = [], []
            response.set_rcode(dns.rcode.SERVFAIL)
        case Fault.FLIPPED | Fault.STRIPPED:
            _spoil_signatures(response, keep=fault is Fault.FLIPPED)
    return response.to_wire(max_size=65535)


def _spoil_signatures(response: Message, *, keep: bool) -> None:
    for section in (response.answer, response.authority):
        for at, rrset in reversed(list(enumerate(section))):
            if rrset.rdtype == RdataType.RRSIG:
                flipped = dns.rrset.from_rdata_list(rrset.name, rrset.ttl, [flip_signature(rrsig) for rrsig in rrset])
                section[at : at + 1] = [flipped] if keep else []
