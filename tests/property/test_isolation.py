"""What policy decided for one workload reaches no other, whatever is remembered, shared, renewed or late."""

from __future__ import annotations

from ipaddress import ip_network
from typing import NamedTuple

import dns.message
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from stages import Canned, answer
from trio.testing import MockClock, wait_all_tasks_blocked

from dohproxy.cache.answers import AnswerStore
from dohproxy.cache.failures import FailureStore
from dohproxy.cache.replies import ReplyStore
from dohproxy.clock import Clock
from dohproxy.config.settings import Access, Cache, Local, Place, Policy, PolicyGroup, PolicyRule
from dohproxy.core import KIND
from dohproxy.errors import NoReachableUpstream
from dohproxy.front import Front, Generation
from dohproxy.gate import Gate
from dohproxy.model import Action, Answer, Attested, Mode, Peer, Security, Transport
from dohproxy.policy.engine import Engine
from dohproxy.resolve import local
from dohproxy.resolve.cached import Cached, Stores
from dohproxy.resolve.flights import Flights
from dohproxy.resolve.policed import Policed

BANK, NEWS, SINK = "192.0.2.1", "198.51.100.1", "203.0.113.9"
HOST = "127.0.0.1"
PEERS: dict[str, tuple[Peer, ...]] = {
    "pay": (Attested(HOST, "spiffe://prod.example/ns/pay/web"), Attested("10.7.0.1", "spiffe://prod.example/ns/pay/db/1")),
    "shop": (Attested(HOST, "spiffe://prod.example/ns/shop/web"), Attested("10.1.0.1", "spiffe://prod.example/ns/shop/web")),
    "strict": (Attested(HOST, "dns:strict.example"),),
    "near": ("10.1.0.1", Attested("10.1.0.1", "spiffe://prod.example/ns/none")),
    "default": (HOST, Attested(HOST, "spiffe://prod.example/ns/pay"), Attested(HOST, "dns:other.example")),
}


def rules(*texts: str) -> tuple[PolicyRule, ...]:
    return tuple(PolicyRule(text, Place("x.toml", 1)) for text in texts)


POLICY = Policy(
    groups=(
        PolicyGroup(
            "pay",
            spiffe=("spiffe://prod.example/ns/pay/*",),
            default=Action.REFUSED,
            deny_action=Action.REFUSED,
            allow=rules("bank.example"),
        ),
        PolicyGroup(
            "shop",
            spiffe=("spiffe://prod.example/ns/shop/*",),
            deny=rules("bank.example"),
            deny_action=Action.SINKHOLE,
            sinkhole=(SINK,),
        ),
        PolicyGroup("strict", identities=("dns:strict.example",), mode=Mode.REQUIRE_SECURE),
        PolicyGroup("near", clients=(ip_network("10.1.0.0/16"),), deny_addresses=(ip_network("198.51.100.0/24"),)),
        PolicyGroup("default", rebinding=False),
    )
)
ALLOWED = {
    ("pay", "bank"): (0, BANK),
    ("pay", "news"): (5, ""),
    ("shop", "bank"): (0, SINK),
    ("shop", "news"): (0, NEWS),
    ("strict", "bank"): (0, BANK),
    ("strict", "news"): (2, ""),
    ("near", "bank"): (0, BANK),
    ("near", "news"): (3, ""),
    ("default", "bank"): (0, BANK),
    ("default", "news"): (0, NEWS),
}
"""What each group gets of each name: RCODE and address."""
BY_POLICY_ALONE = {("pay", "news"), ("shop", "bank")}
"""Decided before anybody is asked."""


class Step(NamedTuple):
    """Some ask at once; then time passes."""

    asks: list[tuple[str, int, str, Transport]]
    works: bool
    """Whether the upstream does."""
    then: float


STEPS = st.lists(
    st.builds(
        Step,
        st.lists(
            st.tuples(
                st.sampled_from(sorted(PEERS)),
                st.integers(0, 2),
                st.sampled_from(["bank", "news"]),
                st.sampled_from([Transport.DOT, Transport.DOQ, Transport.UDP]),
            ),
            min_size=1,
            max_size=6,
        ),
        st.booleans(),
        st.sampled_from([0.0, 0.0, 5.0, 9.5, 11.0, 100.0]),
    ),
    min_size=1,
    max_size=6,
)


class House:
    """All stages from the front to an upstream, which fails when it is told to."""

    def __init__(self, flights: Flights) -> None:
        self.works = True
        self.canned = Canned()
        self.canned.on("bank.example", lambda _: self.found(f"bank.example. 10 A {BANK}", Security.SECURE))
        self.canned.on("news.example", lambda _: self.found(f"news.example. 10 A {NEWS}", Security.INSECURE))
        kept = Cache(stale_after=0.5)
        cached = Cached(
            self.canned,
            Stores(AnswerStore(kept), FailureStore(kept.failure_ttl), None),
            flights,
            prefetch=True,
            stale_after=kept.stale_after,
            timeout=2.0,
            now=trio.current_time,
            wall=lambda: 1_800_000_000,
        )
        engine = Engine(POLICY, {})
        below = local.Local(cached, Local(), trio.current_time)
        stage = Policed(below, engine, mode=Mode.VALIDATE, modes={}, zones=frozenset(), now=trio.current_time)
        gate = Gate(Access((ip_network("127.0.0.0/8"), ip_network("10.0.0.0/8"))), engine)
        generation = Generation(stage, gate, ReplyStore(1 << 20), False, 1232, 2.0)
        self.front = Front(generation, (), Clock(trio.current_time, trio.current_time))

    def found(self, line: str, security: Security) -> Answer:
        if not self.works:
            raise NoReachableUpstream("down")
        return answer(line, security=security, born=trio.current_time())

    async def ask(self, peer: Peer, name: str, transport: Transport) -> tuple[int, str]:
        wire = dns.message.make_query(f"{name}.example.", "A", use_edns=0, want_dnssec=True).to_wire()
        recalled = self.front.recall(wire, peer, transport)
        reply = dns.message.from_wire(recalled or await self.front.answer(wire, peer, transport))
        return reply.rcode(), reply.answer[0][0].address if reply.answer else ""

    async def take(self, step: Step) -> None:
        """Have all ask before anything is answered from above; each gets what its group may have, or nothing at all."""
        self.works, self.canned.gate = step.works, trio.Event()
        async with trio.open_nursery() as nursery:
            for group, number, name, transport in step.asks:
                nursery.start_soon(self.expect, group, PEERS[group][number % len(PEERS[group])], name, transport)
            await wait_all_tasks_blocked()
            self.canned.gate.set()
        await trio.sleep(step.then)

    async def expect(self, group: str, peer: Peer, name: str, transport: Transport) -> None:
        got = await self.ask(peer, name, transport)
        failed = got == (2, "") and (group, name) not in BY_POLICY_ALONE
        assert got == ALLOWED[group, name] or failed, (peer, name, got)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(STEPS)
def test_each_workload_gets_what_its_policy_says_and_nothing_else(steps: list[Step]) -> None:
    async def run() -> None:
        async with Flights() as flights:
            house = House(flights)
            for step in steps:
                await house.take(step)

    trio.run(run, clock=MockClock(autojump_threshold=0))


def test_two_workloads_ask_at_the_same_time() -> None:
    async def run() -> None:
        async with Flights() as flights:
            house = House(flights)
            for _ in range(3):  # from above, from the cache, from the finished replies
                await house.take(Step([("pay", 0, "bank", Transport.DOT), ("shop", 0, "bank", Transport.DOT)], True, 1.0))
            assert len(house.canned.asked) == 1
            await house.take(Step([("shop", 0, "bank", Transport.DOT), ("pay", 0, "bank", Transport.DOT)], False, 20.0))
            await house.take(
                Step([("pay", 0, "bank", Transport.DOT), ("shop", 0, "bank", Transport.DOT)], False, 20.0)
            )  # stale

    trio.run(run, clock=MockClock(autojump_threshold=0))


@pytest.mark.skipif(KIND == "off", reason="with the core off nothing is recalled")
async def test_finished_replies_are_shared_within_a_group_and_by_no_other() -> None:
    async with Flights() as flights:
        house = House(flights)
        wire = dns.message.make_query("bank.example.", "A").to_wire()
        first, second = PEERS["pay"]
        told = await house.front.answer(wire, first, Transport.DOT)
        await house.front.answer(dns.message.make_query("x.test.", "A").to_wire(), second, Transport.DOT)
        assert house.front.recall(wire, second, Transport.DOT) == told
        for group, peers in PEERS.items():
            for peer in peers if group != "pay" else ():
                await house.front.answer(dns.message.make_query("x.test.", "A").to_wire(), peer, Transport.DOT)
                assert house.front.recall(wire, peer, Transport.DOT) is None


async def test_whose_address_is_not_served_is_not_by_any_identity() -> None:
    async with Flights() as flights:
        house = House(flights)
        assert await house.ask(Attested("192.0.2.7", "spiffe://prod.example/ns/pay/web"), "bank", Transport.DOT) == (5, "")
        assert house.canned.asked == []
