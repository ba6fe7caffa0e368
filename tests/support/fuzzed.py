"""What fuzzers throw at the parser and at the validator, and what must hold whatever they throw.

The validator is asked about a small signed tree whose answers were recorded, so that a corpus stays what it was: signatures
would be others each time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from dohproxy.config.settings import Anchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import Judgement, Limits, World, validate
from dohproxy.errors import MalformedMessage, ResolveError, UpstreamFailed
from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire.message import parse_message_untrusted
from dohproxy.wire.names import ROOT, from_text
from dohproxy.wire.rdata import canonical_rdata

FOLDER = Path(__file__).parents[1] / "fuzz"
RECORDED = FOLDER / "recorded.bin"
"""The answers to all questions that validating the tree takes: messages, packed."""
WALL = 1_800_000_000
ASKED = [
    Question(from_text(qname), qtype)
    for qname, qtype in [
        ("www.example.com", c.A),
        ("www.example.com", c.AAAA),
        ("no.example.com", c.A),
        ("b.example.com", c.A),
        ("x.wild.example.com", c.A),
        ("x.wild.example.com", c.AAAA),
        ("gone.example.com", c.A),
        ("www.old.example.com", c.A),
        ("www.old.example.com", c.CNAME),
        ("www.insecure.com", c.A),
        ("insecure.com", c.DS),
        ("no.hashed.com", c.A),
        ("x.wild.hashed.com", c.A),
        ("www.hashed.com", c.AAAA),
        ("www.unsigned.hashed.com", c.A),
    ]
]


def encode(question: Question, answer: Answer) -> bytes:
    """The message, without compression."""
    sections = [_records(section) for section in (answer.answer, answer.authority)]
    head = struct.pack("!6H", 0, c.QR | c.RD | c.RA | answer.rcode, 1, *map(len, sections), 0)
    asked = question.qname + struct.pack("!HH", question.qtype, question.qclass)
    return head + asked + b"".join(record for section in sections for record in section)


def _records(section: tuple[RRset, ...]) -> list[bytes]:
    found = []
    for rrset in section:
        for rdtype, rdatas in ((rrset.rdtype, rrset.rdatas), (c.RRSIG, rrset.signatures)):
            fixed = struct.pack("!HHI", rdtype, rrset.rdclass, rrset.ttl)
            found += [rrset.owner + fixed + struct.pack("!H", len(rdata)) + rdata for rdata in rdatas]
    return found


def pack(units: Iterable[bytes]) -> bytes:
    """Octet strings in one, each after its length in two octets."""
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


def unpack(octets: bytes) -> list[bytes]:
    """What was packed."""
    found, at = [], 0
    while at < len(octets):
        end = at + 2 + int.from_bytes(octets[at : at + 2], "big")
        found.append(octets[at + 2 : end])
        at = end
    return found


def corpus(target: str) -> list[bytes]:
    """What a fuzzer found worth keeping, after the honest answers that it began with."""
    found = unpack((FOLDER / f"{target}.corpus").read_bytes())
    if target == "message":
        return [*unpack(RECORDED.read_bytes()), *found]
    if target not in ("validator", "proofs"):
        return found
    bench = Bench()
    seeds = [bytes((n, bench.places.index(asked))) + encode(asked, bench.answers[asked]) for n, asked in enumerate(ASKED)]
    return [*seeds, *found]


def answer_in(wire: bytes) -> tuple[Question, Answer]:
    """What a message asks and answers; raises MalformedMessage."""
    message = parse_message_untrusted(wire)
    if message.question is None:
        raise MalformedMessage("no question")
    return message.question, Answer(message.rcode, message.answer, message.authority)


class Bench:
    """The validator over the recorded tree."""

    def __init__(self) -> None:
        self.answers = dict(map(answer_in, unpack(RECORDED.read_bytes())))
        self.places = sorted(self.answers, key=lambda place: (place.qname, place.qtype))
        (keys,) = self.answers[Question(ROOT, c.DNSKEY)].answer
        self.anchors = AnchorSet([Anchor(ROOT, c.DNSKEY, rdata) for rdata in keys.rdatas])
        self.truth = {asked: told(self.judge(asked, self.answers)) for asked in ASKED}

    def judge(self, asked: Question, answers: dict[Question, Answer]) -> Judgement:
        """The verdict where these are the answers to everything that is asked."""
        world = World(self.anchors, TrustCache(), Limits(50, 0, 0), 0.0, WALL, Budget())
        judging = validate(asked, answers[asked], world)
        try:
            needs = next(judging)
            while True:
                needs = judging.send(tuple(self._fetched(answers, Question(n.qname, n.qtype)) for n in needs))
        except StopIteration as end:
            judgement: Judgement = end.value
        return judgement

    @staticmethod
    def _fetched(answers: dict[Question, Answer], question: Question) -> Answer | ResolveError:
        return answers.get(question) or UpstreamFailed("not recorded")

    def play(self, data: bytes) -> Judgement | None:
        """The verdict on a question while one answer, its own or a link of its chain, is replaced.

        The first octet picks the question, the second the answer; a message follows. None where that cannot be read.
        """
        if len(data) < 2:
            return None
        asked, place = ASKED[data[0] % len(ASKED)], self.places[data[1] % len(self.places)]
        try:
            _, forged = answer_in(data[2:])
        except MalformedMessage:
            return None
        return self.judge(asked, self.answers | {place: forged})

    def check(self, data: bytes) -> None:
        """Nothing is secure but the truth."""
        judgement = self.play(data)
        if judgement is not None and judgement.security is Security.SECURE:
            assert told(judgement) == self.truth[ASKED[data[0] % len(ASKED)]], judgement
        assert judgement is None or judgement.security is not Security.UNCHECKED


def told(judgement: Judgement) -> tuple[int, frozenset[tuple[bytes, int, frozenset[bytes]]]]:
    """What an answer says, whatever else is said of it, and in whatever case (RFC 4034 6.2)."""
    data = ((r.owner, r.rdtype, frozenset(canonical_rdata(r.rdtype, rdata) for rdata in r.rdatas)) for r in judgement.answer)
    return judgement.rcode, frozenset(data)
