from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from stages import Canned, answer, query, question
from trio.testing import MockClock, wait_all_tasks_blocked

from dohproxy.cache.answers import AnswerStore
from dohproxy.cache.failures import FailureStore
from dohproxy.config.settings import Cache
from dohproxy.errors import CachedFailure, NoReachableUpstream
from dohproxy.model import Answer, Query, Security, Source
from dohproxy.resolve.cached import Cached, Stores
from dohproxy.resolve.flights import Flights

WALL = 1_800_000_000


class House:
    """A cache over a canned stage whose answers are born when they are asked for."""

    def __init__(self, canned: Canned, flights: Flights, **more: object) -> None:
        self.canned, self.flights = canned, flights
        settings = Cache(**more)  # type: ignore[arg-type]
        self.failures = FailureStore(settings.failure_ttl)
        self.cached = Cached(
            canned,
            Stores(AnswerStore(settings), self.failures, None),
            flights,
            prefetch=settings.prefetch,
            stale_after=settings.stale_after,
            timeout=5.0,
            now=trio.current_time,
            wall=lambda: WALL,
        )

    def on(self, name: str, *lines: str, **more: object) -> None:
        self.canned.on(name, lambda _query: answer(*lines, **({"born": trio.current_time()} | more)))

    async def ask(self, name: str = "www.example", **more: object) -> Answer:
        return await self.cached.resolve(query(name, **more))

    @property
    def count(self) -> int:
        return len(self.canned.asked)


@pytest.fixture
async def flights() -> AsyncIterator[Flights]:
    async with Flights() as flights:
        yield flights


@pytest.fixture
async def house(canned: Canned, flights: Flights) -> House:
    house = House(canned, flights)
    house.on("www.example", "www.example. 100 A 192.0.2.1")
    return house


async def test_an_answer_is_asked_for_once_while_it_lasts(autojump_clock: MockClock, house: House) -> None:
    first = await house.ask()
    await trio.sleep(80)
    again = await house.ask()
    assert (first.source, again.source, again.answer, house.count) == (Source.UPSTREAM, Source.CACHE, first.answer, 1)
    await trio.sleep(21)
    assert (await house.ask()).source is not Source.CACHE
    assert house.count == 2


async def test_unvalidated_answers_serve_only_those_who_asked_for_such(autojump_clock: MockClock, house: House) -> None:
    await house.ask(cd=True)
    await house.ask(cd=False)
    await house.ask(cd=True)
    assert [asked.cd for asked in house.canned.asked] == [True, False]


async def test_what_is_still_wanted_near_its_end_is_fetched_ahead(autojump_clock: MockClock, house: House) -> None:
    await house.ask()
    await trio.sleep(91)
    assert (await house.ask()).source is Source.CACHE
    await wait_all_tasks_blocked()
    assert house.count == 2
    await trio.sleep(50)
    assert (await house.ask()).source is Source.CACHE
    assert house.canned.asked[1].client.address == ""


async def test_prefetching_can_be_switched_off(autojump_clock: MockClock, canned: Canned, flights: Flights) -> None:
    house = House(canned, flights, prefetch=False)
    house.on("www.example", "www.example. 100 A 192.0.2.1")
    await house.ask()
    await trio.sleep(95)
    await house.ask()
    await wait_all_tasks_blocked()
    assert house.count == 1


async def test_a_stale_answer_is_better_than_none(autojump_clock: MockClock, house: House) -> None:
    await house.ask()
    await trio.sleep(101)
    house.canned.on("www.example", NoReachableUpstream("quad9: timed out"))
    stale = await house.ask()
    assert (stale.stale, stale.ede[0].code, stale.answer[0].rdatas) == (True, 3, (b"\xc0\0\2\1",))
    await house.ask()
    assert house.count == 2, "a failed question is not asked again at once"


async def test_a_slow_fresh_answer_comes_too_late_for_one_client_and_in_time_for_the_next(
    autojump_clock: MockClock, house: House
) -> None:
    await house.ask()
    await trio.sleep(101)
    house.canned.gate = trio.Event()
    before = trio.current_time()
    assert (await house.ask()).stale
    assert trio.current_time() - before == pytest.approx(1.8)
    house.canned.gate.set()
    await wait_all_tasks_blocked()
    assert not (await house.ask()).stale
    assert house.count == 2


async def test_nothing_is_served_stale_for_ever(autojump_clock: MockClock, house: House) -> None:
    await house.ask()
    await trio.sleep(100 + 86400)
    house.canned.on("www.example", NoReachableUpstream("quad9: timed out"))
    with pytest.raises(NoReachableUpstream):
        await house.ask()


@pytest.mark.parametrize(("expiration", "stale"), [(WALL - 1, False), (WALL + 1, True)])
async def test_a_secure_answer_is_not_served_past_its_signature(
    autojump_clock: MockClock, house: House, expiration: int, stale: bool
) -> None:
    rrsig = bytes(8) + expiration.to_bytes(4) + bytes(30)
    secure = answer("www.example. 100 A 192.0.2.1", security=Security.SECURE)
    signed = type(secure.answer[0])(*[*_fields(secure.answer[0])[:4], (rrsig,)])
    house.canned.on("www.example", lambda _query: Answer(0, (signed,), security=Security.SECURE, born=trio.current_time()))
    await house.ask()
    await trio.sleep(101)
    house.canned.on("www.example", NoReachableUpstream("quad9: timed out"))
    if stale:
        assert (await house.ask()).stale
    else:
        with pytest.raises(NoReachableUpstream):
            await house.ask()


def _fields(rrset: object) -> list[object]:
    return [getattr(rrset, field) for field in rrset.__struct_fields__]  # type: ignore[attr-defined]


async def test_a_failure_is_remembered_for_a_moment(autojump_clock: MockClock, house: House) -> None:
    house.canned.on("www.example", NoReachableUpstream("quad9: timed out"))
    with pytest.raises(NoReachableUpstream):
        await house.ask()
    with pytest.raises(CachedFailure) as caught:
        await house.ask()
    assert [ede.code for ede in caught.value.edes] == [22, 13]
    assert house.count == 1
    await trio.sleep(6)
    house.on("www.example", "www.example. 100 A 192.0.2.1")
    assert (await house.ask()).rcode == 0


async def test_what_did_not_validate_is_remembered_for_a_moment_only(autojump_clock: MockClock, house: House) -> None:
    house.on("www.example", "www.example. 86400 A 192.0.2.1", security=Security.BOGUS)
    assert (await house.ask()).security is Security.BOGUS
    assert (await house.ask()).security is Security.BOGUS
    assert house.count == 1
    await trio.sleep(6)
    await house.ask()
    assert house.count == 2


async def test_a_bogus_answer_does_not_displace_a_good_one_that_may_be_served_stale(
    autojump_clock: MockClock, house: House
) -> None:
    await house.ask()
    await trio.sleep(101)
    house.on("www.example", "www.example. 100 A 192.0.2.66", security=Security.BOGUS)
    stale = await house.ask()
    assert (stale.stale, stale.answer[0].rdatas) == (True, (b"\xc0\0\2\1",))


async def test_askers_share_a_flight(autojump_clock: MockClock, house: House) -> None:
    house.canned.gate = trio.Event()
    got: list[Answer] = []

    async def ask(asked: Query) -> None:
        got.append(await house.cached.resolve(asked))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(ask, query("www.example"))
        await wait_all_tasks_blocked()
        house.canned.gate.set()
    assert (len(got), house.count) == (3, 1)
    assert question("www.example") == house.canned.asked[0].question
