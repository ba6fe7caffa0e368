"""An upstream that is whoever a plain resolver designates; how that is verified is in test_discovery.py."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest
import trio

from dohproxy.config.settings import Forwarding, Upstream
from dohproxy.courses import Exchange
from dohproxy.errors import NoReachableUpstream, UpstreamFailed
from dohproxy.identity.authorities import BadAuthorities
from dohproxy.model import INTERNAL, Query, Question
from dohproxy.upstream import designated
from dohproxy.upstream.designated import PAUSE, SHORTEST, Designated
from dohproxy.upstream.discovery import Offer
from dohproxy.wire.svcb import Service

FORWARDING = Forwarding(timeout=5.0, connect_timeout=3.0)
RESOLVER = Upstream("here", "ddr", "192.0.2.53", 53, addresses=("192.0.2.53",))
SERVICE = Service(1, b"\1a\0", ("dot",))


def offer(name: str, *, ttl: float = 300.0, problem: str = "") -> Offer:
    upstream = Upstream(name, "tls", "a", 853, addresses=("192.0.2.1",), designated_by="192.0.2.53")
    return Offer(SERVICE, "dot", upstream, problem=problem, verified_as="" if problem else "a", ttl=ttl)


@dataclass
class Told:
    """What the resolver says, now and later."""

    outcome: tuple[Offer, ...] | Exception = ()
    seconds: float = 0.0
    asked: int = 0

    async def discover(self, *_: object) -> tuple[Offer, ...]:
        self.asked += 1
        await trio.sleep(self.seconds)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@dataclass
class Way:
    """An upstream that was opened."""

    upstream: Upstream
    running: bool = False
    renewed: int = 0
    questions: list[Query] = field(default_factory=list)

    def begin(self, query: Query) -> Exchange:
        self.questions.append(query)
        return None  # type: ignore[return-value] # nobody looks at it

    def renew(self) -> None:
        self.renewed += 1

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self.running = True
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self.running = False


@dataclass
class World:
    told: Told
    ways: list[Way] = field(default_factory=list)

    def open(self, upstream: Upstream) -> Way:
        self.ways.append(Way(upstream))
        return self.ways[-1]

    def upstream(self) -> Designated:
        return Designated(RESOLVER, FORWARDING, self.open)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    told = Told((offer("bad", problem="refused"), offer("good"), offer("later")))
    monkeypatch.setattr(designated, "discover", told.discover)
    return World(told)


def ask() -> Query:
    return Query(Question(b"\0", 2), INTERNAL, trio.current_time() + 5)


async def test_the_first_that_is_verified_is_asked(
    world: World, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = world.upstream()
    with pytest.raises(NoReachableUpstream, match="not asked yet"):
        upstream.begin(ask())
    await nursery.start(upstream.run)
    upstream.begin(ask())
    (way,) = world.ways
    assert (way.upstream.name, way.upstream.designated_by, way.running) == ("here", "192.0.2.53", True)
    assert len(way.questions) == 1


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ((), "designates nobody"),
        ((offer("bad", problem="its certificate is refused"),), "nobody who is verified: dot: its certificate is refused"),
        (UpstreamFailed("SERVFAIL"), "cannot be asked whom it designates: SERVFAIL"),
        (BadAuthorities("ca.pem: nothing in it"), "nothing in it"),
    ],
)
async def test_nobody_is_asked_in_their_place(
    world: World,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    outcome: tuple[Offer, ...] | Exception,
    why: str,
) -> None:
    world.told.outcome = outcome
    upstream = world.upstream()
    with caplog.at_level(logging.INFO):
        await nursery.start(upstream.run)
        with pytest.raises(NoReachableUpstream, match=why):
            upstream.begin(ask())
        await trio.sleep(PAUSE * 3.5)
    assert world.told.asked == 4
    assert len(caplog.messages) == 1
    world.told.outcome = (offer("good"),)
    await trio.sleep(PAUSE)
    upstream.begin(ask())
    assert world.ways[0].questions


async def test_the_start_does_not_wait_for_ever(
    world: World, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world.told.seconds = 1000
    began = trio.current_time()
    upstream = world.upstream()
    await nursery.start(upstream.run)
    assert trio.current_time() - began == pytest.approx(FORWARDING.connect_timeout)
    with pytest.raises(NoReachableUpstream):
        upstream.begin(ask())


async def test_another_takes_over_once_the_time_is_over(
    world: World, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    world.told.outcome = (offer("first", ttl=1),)
    upstream = world.upstream()
    await nursery.start(upstream.run)
    await trio.sleep(SHORTEST + 1)
    assert (world.told.asked, len(world.ways)) == (2, 1)
    world.told.outcome = (offer("second"),)
    await trio.sleep(SHORTEST)
    upstream.begin(ask())
    assert [len(way.questions) for way in world.ways] == [0, 1]
    assert [way.running for way in world.ways] == [True, True]
    await trio.sleep(FORWARDING.timeout + 1)
    assert [way.running for way in world.ways] == [False, True]


@pytest.mark.parametrize("outcome", [(), (offer("bad", problem="refused"),), UpstreamFailed("SERVFAIL")])
async def test_who_was_verified_stays_while_no_other_is(
    world: World,
    nursery: trio.Nursery,
    autojump_clock: trio.testing.MockClock,
    outcome: tuple[Offer, ...] | Exception,
) -> None:
    world.told.outcome = (offer("first", ttl=1),)
    upstream = world.upstream()
    await nursery.start(upstream.run)
    world.told.outcome = outcome
    await trio.sleep(SHORTEST * 3)
    upstream.begin(ask())
    assert len(world.ways[0].questions) == 1


async def test_another_network_is_asked_at_once(
    world: World, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    upstream = world.upstream()
    await nursery.start(upstream.run)
    await trio.testing.wait_all_tasks_blocked()
    upstream.renew()
    await trio.sleep(0.1)
    assert (world.told.asked, world.ways[0].renewed) == (2, 1)
