from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dohproxy.courses import Course, owned, parked, stepped
from dohproxy.errors import NotReady, UpstreamFailed
from dohproxy.model import Answer
from dohproxy.resolve.flights import Flights

ANSWER = Answer(0)


class Take:
    """What a flight asks: counted, and held until let go."""

    def __init__(self, outcome: Answer | Exception = ANSWER) -> None:
        self.outcome, self.count, self.go = outcome, 0, trio.Event()

    async def __call__(self) -> Answer:
        self.count += 1
        await self.go.wait()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


async def test_askers_of_the_same_question_share_one_flight() -> None:
    take, got = Take(), []

    async def ask() -> None:
        got.append(await flights.join("key", take))

    async with Flights() as flights:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            take.go.set()
        assert (got, take.count, len(flights)) == ([ANSWER] * 5, 1, 0)


async def test_who_is_on_board_gets_there_without_the_asker_who_started_it() -> None:
    take, got = Take(), []

    async def ask() -> None:
        got.append(await flights.join("key", take))

    async with Flights() as flights, trio.open_nursery() as nursery:
        with trio.CancelScope() as leaving:
            async with trio.open_nursery() as first:
                first.start_soon(ask)
                await wait_all_tasks_blocked()
                nursery.start_soon(ask)
                await wait_all_tasks_blocked()
                leaving.cancel()
        await wait_all_tasks_blocked()
        assert flights.under_way("key")
        take.go.set()
    assert (take.count, got) == (2, [ANSWER])


async def test_a_flight_without_anyone_on_board_ends() -> None:
    take = Take()
    async with Flights() as flights, trio.open_nursery() as first:
        first.start_soon(flights.join, "key", take)
        await wait_all_tasks_blocked()
        first.cancel_scope.cancel()
    assert (take.count, len(flights)) == (1, 0)


async def test_everybody_on_board_gets_the_error() -> None:
    take, errors = Take(UpstreamFailed("SERVFAIL from quad9")), []

    async def ask() -> None:
        with pytest.raises(UpstreamFailed, match="SERVFAIL from quad9") as caught:
            await flights.join("key", take)
        errors.append(caught.value)

    async with Flights() as flights, trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        take.go.set()
    assert len(errors) == 2


async def test_a_launched_flight_is_waited_for_with_patience(autojump_clock: trio.testing.MockClock) -> None:
    take = Take()
    async with Flights() as flights:
        flights.launch("key", take)
        assert await flights.wait("key", 1.8) is None
        assert trio.current_time() == pytest.approx(1.8)
        assert flights.under_way("key")
        flights.launch("key", take)
        take.go.set()
        assert await flights.wait("key", 1.8) is ANSWER
    assert take.count == 1


async def test_the_end_of_the_service_ends_flights_and_tells_those_who_wait() -> None:
    take, told = Take(), []

    async def ask(key: str) -> None:
        with pytest.raises(NotReady):
            await flights.join(key, take)
        told.append(key)

    async with trio.open_nursery() as nursery:
        async with Flights() as flights:
            nursery.start_soon(flights.join, "asked", take)
            flights.launch("launched", take)
            await wait_all_tasks_blocked()
            nursery.start_soon(ask, "asked")
            nursery.start_soon(ask, "launched")
            await wait_all_tasks_blocked()
        flights.launch("late", take)
        assert len(flights) == 0
        await wait_all_tasks_blocked()
        assert sorted(told) == ["asked", "launched"]
        nursery.cancel_scope.cancel()


async def test_a_defect_in_a_launched_flight_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    take = Take(ZeroDivisionError())
    take.go.set()
    async with Flights() as flights:
        flights.launch("key", take)
        await wait_all_tasks_blocked()
        assert len(flights) == 0
    assert "defect" in caplog.text


async def test_a_course_that_boards_hears_of_a_landing_in_the_same_turn() -> None:
    left: list[Course | None] = []
    told: list[Answer] = []

    async def take() -> Answer:
        left.append(stepped())
        await parked()
        return ANSWER

    async with Flights() as flights:

        async def passenger() -> None:
            told.append(await flights.join("key", take))

        with trio.fail_after(1):
            async with owned() as begun:
                begun.begin(passenger())
                begun.begin(passenger())
                assert left[0] is not None
                left[0].step()
    assert told == [ANSWER, ANSWER]
