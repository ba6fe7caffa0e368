from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import trio
from memory_tree import Tree, usual_tree
from msgspec.structs import replace
from stages import query
from trio.testing import wait_all_tasks_blocked

from dohproxy.cache.proofs import ProofStore
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.validate import World
from dohproxy.errors import NoReachableUpstream
from dohproxy.model import Answer, Query, RRset, Security
from dohproxy.resolve.flights import Flights
from dohproxy.resolve.validated import Validated
from dohproxy.wire.constants import DNSKEY, DS, A
from dohproxy.wire.names import from_text


class Resolvers:
    """Two upstreams over one tree, of which the first may spoil what it says."""

    def __init__(self, spoil: Callable[[Query, Answer], Answer] = lambda _, answer: answer, *, count: int = 2) -> None:
        self.tree: Tree = usual_tree()
        self.spoil, self.names = spoil, ("one", "two")[:count]
        self.asked: list[tuple[str, Query]] = []
        self.dead: set[int] = set()

    async def resolve(self, query: Query) -> Answer:
        name = next((name for name in self.names if name not in query.avoid), self.names[0])
        self.asked.append((name, query))
        await trio.lowlevel.checkpoint()
        if query.question.qtype in self.dead:
            raise NoReachableUpstream(f"{name}: timed out")
        answer = replace(self.tree.answer(query.question), upstream=name)
        return self.spoil(query, answer) if name == "one" else answer

    def world(self, fresh: bool) -> World:
        return self.tree.world(budget=Budget(), fresh=fresh)

    def count(self) -> Counter[int]:
        return Counter(query.question.qtype for _, query in self.asked)


def validated(below: Resolvers, flights: Flights, proofs: ProofStore | None = None) -> Validated:
    return Validated(below, below.world, proofs, flights, lambda: 0.0)


def stripped(query: Query, answer: Answer) -> Answer:
    """Without the signatures of addresses."""
    if query.question.qtype != A:
        return answer
    return without_signatures(answer)


def without_signatures(answer: Answer) -> Answer:
    return replace(answer, answer=tuple(replace(rrset, signatures=()) for rrset in answer.answer))


async def test_a_secure_answer_brings_its_chain() -> None:
    below = Resolvers()
    async with Flights() as flights:
        got = await validated(below, flights).resolve(query("www.example.com"))
    assert (got.security, got.upstream, [len(link.zone) for link in got.chain]) == (Security.SECURE, "one", [1, 5, 13])


async def test_what_the_chain_needs_is_asked_once_and_without_checking() -> None:
    below = Resolvers()
    async with Flights() as flights, trio.open_nursery() as nursery:
        stage = validated(below, flights)
        for name in ("www.example.com", "many.example.com", "deep.a.b.example.com"):
            nursery.start_soon(stage.resolve, query(name))
    count = below.count()
    assert (count[A], count[DNSKEY], count[DS]) == (3, 3, 2)
    assert all(asked.cd for _, asked in below.asked if asked.question.qtype != A)
    below.asked.clear()
    async with Flights() as flights:
        await validated(below, flights).resolve(query("www.example.com"))
    assert below.count() == {A: 1}, "a zone whose keys are known costs no more than its answer"


@pytest.mark.parametrize("fails", [False, True])
async def test_keys_in_use_are_renewed_before_they_expire(fails: bool) -> None:
    below = Resolvers()
    async with Flights() as flights:
        stage = validated(below, flights)
        await stage.resolve(query("www.example.com"))
        below.asked.clear()
        below.tree.now = 0.95 * 3600
        below.dead = {DNSKEY} if fails else set()
        assert (await stage.resolve(query("www.example.com"))).security is Security.SECURE
        assert below.count() == {A: 1}, "no client waits for it"
        await wait_all_tasks_blocked()
        below.dead.clear()
        below.asked.clear()
        below.tree.now = 0.99 * 3600
        assert (await stage.resolve(query("www.example.com"))).security is Security.SECURE
        await wait_all_tasks_blocked()
        assert below.count() == ({A: 1, DNSKEY: 3, DS: 2} if fails else {A: 1})


async def test_checking_disabled_is_left_unjudged() -> None:
    below = Resolvers(stripped)
    async with Flights() as flights:
        got = await validated(below, flights).resolve(query("www.example.com", cd=True))
    assert (got.security, len(below.asked)) == (Security.UNCHECKED, 1)


async def test_signatures_that_one_upstream_strips_are_asked_for_at_another() -> None:
    below = Resolvers(stripped)
    async with Flights() as flights:
        got = await validated(below, flights).resolve(query("www.example.com"))
    assert (got.security, got.upstream) == (Security.SECURE, "two")


async def test_who_stripped_signatures_is_told_of() -> None:
    below, told = Resolvers(stripped), []
    async with Flights() as flights:
        stage = Validated(below, below.world, None, flights, lambda: 0.0, doubt=lambda *what: told.append(what))
        asked = query("www.example.com")
        await stage.resolve(asked)
    assert [(upstream, question) for upstream, question, _ in told] == [("one", asked.question)]
    assert "www.example.com." in told[0][2]


async def test_where_both_are_bogus_nobody_is_doubted() -> None:
    below, told = Resolvers(stripped, count=1), []
    async with Flights() as flights:
        stage = Validated(below, below.world, None, flights, lambda: 0.0, doubt=lambda *what: told.append(what))
        await stage.resolve(query("www.example.com"))
    assert not told


async def test_a_zone_found_bogus_by_one_upstream_s_keys_is_looked_at_again() -> None:
    below = Resolvers(lambda query, answer: without_signatures(answer) if query.question.qtype == DNSKEY else answer)
    async with Flights() as flights:
        got = await validated(below, flights).resolve(query("www.example.com"))
    assert (got.security, got.upstream) == (Security.SECURE, "two")


async def test_with_nobody_else_to_ask_it_is_bogus_and_says_why() -> None:
    below = Resolvers(stripped, count=1)
    async with Flights() as flights:
        got = await validated(below, flights).resolve(query("www.example.com"))
    assert (got.security, got.ede[0].code) == (Security.BOGUS, 10)
    assert "www.example.com. A: no RRSIG" in got.ede[0].text


@pytest.mark.parametrize("qtype", [DS, DNSKEY])
async def test_a_link_that_cannot_be_had_makes_it_indeterminate(qtype: int) -> None:
    below = Resolvers(count=1)
    below.dead = {qtype}
    async with Flights() as flights:
        got = await validated(below, flights).resolve(query("www.example.com"))
    assert (got.security, 22 in {ede.code for ede in got.ede}) == (Security.INDETERMINATE, True)


async def test_proofs_are_learnt_from_secure_answers_only() -> None:
    below, proofs = Resolvers(count=1), ProofStore(1 << 20)
    async with Flights() as flights:
        stage = validated(below, flights, proofs)
        await stage.resolve(query("nothing.example.com", cd=True))
        assert len(proofs) == 0
        got = await stage.resolve(query("nothing.example.com"))
    assert (got.rcode, got.security) == (3, Security.SECURE)
    assert proofs.synthesize(query("nothing.example.com").question, 0.0) is not None


async def test_a_link_that_is_denied_at_hand_is_not_asked_for() -> None:
    """RFC 8198 4; the unsigned answer below a name that does not exist costs no question about a zone cut."""
    below, proofs = Resolvers(count=1), ProofStore(1 << 20)
    forged = RRset(from_text("www.nothing.example.com"), A, 60, (bytes(4),))
    async with Flights() as flights:
        stage = validated(below, flights, proofs)
        await stage.resolve(query("nothing.example.com"))
        below.asked.clear()
        below.spoil = lambda _, answer: replace(answer, rcode=0, answer=(forged,), authority=())
        got = await stage.resolve(query("www.nothing.example.com"))
    assert (got.security, got.ede[0].code) == (Security.BOGUS, 10)
    assert below.count() == {A: 2}, "the answer, and a second try: no DS"
