"""Evidence made by the validating stage: whole with caches cold and warm, and true to what was answered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from memory_tree import WALL, Tree, usual_tree
from msgspec.structs import replace
from stages import query

from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.chain import BOGUS_TIME, Need
from dohproxy.dnssec.evidence import Evidence, read_evidence
from dohproxy.dnssec.replay import replay
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import World
from dohproxy.errors import NoReachableUpstream
from dohproxy.model import INTERNAL, Answer, Attestation, Client, Query, RRset, Security, Transport
from dohproxy.resolve.flights import Flights
from dohproxy.resolve.validated import Validated
from dohproxy.resolve.witness import Witness
from dohproxy.wire.constants import DNSKEY, DS, A
from dohproxy.wire.names import from_text

CLIENT = Client("192.0.2.1", Transport.UDP)


class Recorder:
    def __init__(self, *securities: Security) -> None:
        self.securities, self.recorded = securities or tuple(Security), list[Attestation]()
        self.active = True

    def wants(self, _: Client, security: Security) -> bool:
        return self.active and security in self.securities

    def record(self, attestation: Attestation) -> None:
        self.recorded.append(attestation)


class Bench:
    """The stage over a tree, with trust that is remembered from question to question."""

    def __init__(self, recorder: Recorder, spoil: Callable[[Query, Answer], Answer] = lambda _, answer: answer) -> None:
        self.tree: Tree = usual_tree()
        self.keys, self.spoil, self.now = TrustCache(), spoil, 0.0
        self.asked: list[Query] = []
        self.dead: set[int] = set()
        self.flights = Flights()
        self.witness = Witness(recorder)
        self.stage = Validated(self, self.world, None, self.flights, lambda: self.now, witness=self.witness)

    async def resolve(self, query: Query) -> Answer:
        self.asked.append(query)
        if query.question.qtype in self.dead:
            raise NoReachableUpstream("one: timed out")
        return self.spoil(query, replace(self.tree.answer(query.question), upstream="one", born=self.now))

    def world(self, fresh: bool) -> World:
        return self.tree.world(keys=self.keys, budget=Budget(), fresh=fresh, now=self.now)

    async def ask(self, name: str, qtype: str = "A", client: Client = CLIENT) -> Answer:
        self.asked.clear()
        async with Flights() as self.stage._flights:
            return await self.stage.resolve(query(name, qtype, client=client))

    def holds(self, answer: Answer) -> bool:
        """Whether the record alone, read back from its line, gives the verdict and the reason that the client got."""
        assert isinstance(answer.evidence, Evidence)
        evidence = read_evidence(answer.evidence.written(0.0, "", None))
        judgement = replay(evidence, self.tree.anchors)
        told = (evidence.security, evidence.ede)
        return told == (answer.security, answer.ede) == (judgement.security, judgement.ede)


def corrupt(rrset: RRset) -> RRset:
    return replace(rrset, signatures=tuple(one[:-1] + bytes((one[-1] ^ 1,)) for one in rrset.signatures))


NAMES = ["www.example.com", "nothing.example.com", "far.example.com", "www.insecure.com", "www.below.insecure.com"]


@pytest.mark.parametrize("name", NAMES)
async def test_records_hold_with_caches_cold_and_warm(name: str) -> None:
    bench = Bench(Recorder())
    assert bench.holds(await bench.ask(name))
    asked = len(bench.asked)
    assert bench.holds(await bench.ask(name))
    assert len(bench.asked) == 1 < asked


async def test_a_record_is_whole_though_other_questions_warmed_the_caches() -> None:
    bench = Bench(Recorder())
    for name in NAMES * 2:
        assert bench.holds(await bench.ask(name)), name


async def test_what_was_known_before_evidence_was_wanted_is_asked_again() -> None:
    recorder = Recorder()
    bench, recorder.active = Bench(recorder), False
    assert (await bench.ask("www.example.com")).evidence is None
    recorder.active = True
    assert bench.holds(await bench.ask("www.example.com"))
    assert {query.question.qtype for query in bench.asked} == {A, DS, DNSKEY}


async def test_the_answer_is_the_same_with_and_without() -> None:
    with_evidence, without = Bench(Recorder()), Bench(Recorder(Security.BOGUS))
    without.tree = with_evidence.tree
    for name in NAMES:
        recorded, plain = await with_evidence.ask(name), await without.ask(name)
        assert plain.evidence is None
        assert replace(recorded, evidence=None) == plain


async def test_a_broken_key_is_bogus_in_the_record_too_also_while_that_is_remembered() -> None:
    def spoil(query: Query, answer: Answer) -> Answer:
        if query.question.qtype == DNSKEY and query.question.qname != b"\0":
            return replace(answer, answer=tuple(map(corrupt, answer.answer)))
        return answer

    bench = Bench(Recorder(Security.BOGUS), spoil)
    for name in ("www.example.com", "www.example.com", "many.example.com"):
        answer = await bench.ask(name)
        assert answer.security is Security.BOGUS
        assert bench.holds(answer)


async def test_what_could_not_be_fetched_is_recorded_with_its_reason() -> None:
    bench = Bench(Recorder())
    bench.dead = {DNSKEY}
    answer = await bench.ask("www.example.com")
    assert answer.security is Security.INDETERMINATE
    assert bench.holds(answer)
    assert "one: timed out" in answer.ede[-1].text


async def test_the_evidence_is_that_of_the_upstream_whose_answer_stands() -> None:
    def spoil(query: Query, answer: Answer) -> Answer:
        if query.avoid:
            return replace(answer, upstream="two")
        if query.question.qtype == A:
            return replace(answer, answer=tuple(replace(rrset, signatures=()) for rrset in answer.answer))
        return answer

    bench = Bench(Recorder(), spoil)
    answer = await bench.ask("www.example.com")
    assert (answer.security, answer.upstream) == (Security.SECURE, "two")
    assert bench.holds(answer)
    assert isinstance(answer.evidence, Evidence)
    assert answer.evidence.answer.upstream == "two"


async def test_the_client_is_the_one_who_asked() -> None:
    answer = await Bench(Recorder()).ask("www.example.com")
    assert answer.evidence is not None
    assert answer.evidence.client is CLIENT


async def test_a_renewal_is_handed_to_the_recorder() -> None:
    recorder = Recorder()
    answer = await Bench(recorder).ask("www.example.com", client=INTERNAL)
    assert answer.evidence is None
    [attestation] = recorder.recorded
    assert attestation.client is INTERNAL


async def test_with_checking_disabled_there_is_none() -> None:
    bench = Bench(Recorder())
    async with Flights():
        answer = await bench.stage.resolve(query("www.example.com", cd=True, client=CLIENT))
    assert (answer.security, answer.evidence) == (Security.UNCHECKED, None)


def test_messages_are_forgotten_when_they_are_too_old() -> None:
    witness, need = Witness(Recorder()), Need(from_text("com."), DS)
    message = Answer(0, (RRset(need.qname, DS, 60, (bytes(36),)),), born=10.0)
    witness.hear(need, (), message, 10.0)
    assert witness.recall(need, ("one",), 69.9) is message
    assert witness.recall(need, (), 70.0) is None


def test_what_upstreams_say_that_were_asked_elsewhere_is_kept_apart() -> None:
    witness, need = Witness(Recorder()), Need(from_text("com."), DS)
    one, other = Answer(0, upstream="one"), Answer(0, upstream="two")
    witness.hear(need, (), one, 0.0)
    witness.hear(need, ("one",), other, 0.0)
    assert witness.recall(need, ("one",), BOGUS_TIME - 0.1) is other
    assert witness.recall(need, (), BOGUS_TIME - 0.1) is one


def test_errors_and_what_nobody_wants_are_not_kept() -> None:
    recorder = Recorder()
    witness, need = Witness(recorder), Need(from_text("com."), DS)
    witness.hear(need, (), NoReachableUpstream("gone"), 0.0)
    recorder.active = False
    witness.hear(need, (), Answer(0), 0.0)
    assert witness.recall(need, (), 0.0) is None


def test_the_time_of_the_tree_is_that_of_the_records() -> None:
    assert Bench(Recorder()).world(False).wall == WALL
