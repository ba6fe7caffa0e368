from __future__ import annotations

import logging
from contextlib import suppress

import pytest
import trio
from stages import answer, query
from trio.testing import MockClock
from upstreams import GOOD, OTHER, SILENCE, Fake, Start

from dohproxy.config.settings import Forwarding
from dohproxy.errors import Disconnected, NoReachableUpstream, NotReady, Overloaded, ResolveError, UpstreamFailed
from dohproxy.model import Ede
from dohproxy.resolve.health import Health
from dohproxy.resolve.selected import Group
from dohproxy.telemetry.counters import NETWORK_ERROR


@pytest.fixture
async def start(nursery: trio.Nursery) -> Start:
    return Start(nursery)


async def failure(group: Group, **more: object) -> ResolveError:
    with pytest.raises(ResolveError) as caught:
        await group.resolve(query("www.example.", **more))
    return caught.value


async def test_the_first_is_asked_and_nobody_else(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    assert await group.resolve(query("www.example.")) is GOOD
    assert (len(first.asked), len(second.asked), second.probes) == (1, 0, 0)


async def test_the_path_without_failures_starts_no_task(autojump_clock: MockClock, start: Start) -> None:
    group = await start(Fake("first", (0.5, GOOD)))
    tasks = trio.lowlevel.current_statistics().tasks_living
    found: list[int] = []

    async def look() -> None:
        await trio.sleep(0.1)
        found.append(trio.lowlevel.current_statistics().tasks_living)

    async with trio.open_nursery() as asking:
        asking.start_soon(look)
        await group.resolve(query("www.example."))
    assert found == [tasks + 1]


@pytest.mark.parametrize(
    "error", [NoReachableUpstream("connection refused"), UpstreamFailed("garbage"), Overloaded("full"), NotReady("not yet")]
)
async def test_a_failure_goes_on_at_once_with_the_next(autojump_clock: MockClock, start: Start, error: ResolveError) -> None:
    group = await start(Fake("first", error), Fake("second", GOOD))
    before = trio.current_time()
    assert await group.resolve(query("www.example.")) is GOOD
    assert trio.current_time() == before


async def test_that_no_upstream_has_room_is_told_as_their_failure(autojump_clock: MockClock, start: Start) -> None:
    group = await start(Fake("first", Overloaded("full")), Fake("second", Overloaded("full")))
    with pytest.raises(Overloaded) as caught:
        await group.resolve(query("www.example."))
    assert [ede.code for ede in caught.value.edes] == [NETWORK_ERROR]


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
async def test_an_rcode_that_is_no_answer_goes_on_with_the_next(autojump_clock: MockClock, start: Start, rcode: int) -> None:
    group = await start(Fake("first", answer(rcode=rcode)), Fake("second", GOOD))
    assert await group.resolve(query("www.example.")) is GOOD


async def test_nxdomain_is_an_answer(autojump_clock: MockClock, start: Start) -> None:
    no = answer(rcode=3)
    assert await (await start(Fake("first", no), Fake("second", GOOD))).resolve(query("www.example.")) is no


async def test_a_connection_that_was_just_closed_costs_a_retry(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", Disconnected("closed the connection"), GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:] = [Disconnected("closed the connection"), GOOD]
    assert await group.resolve(query("www.example.")) is GOOD
    assert not second.asked
    assert repr(group) == "<Group: first up, second up>"


async def test_twice_closed_is_enough(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", Disconnected("closed the connection")), Fake("second", GOOD)
    group = await start(first, second)
    assert await group.resolve(query("www.example.")) is GOOD
    assert len(first.asked) == 2


async def test_a_late_one_starts_the_next_and_may_still_win(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", (0.6, GOOD)), Fake("second", (0.4, OTHER))
    group = await start(first, second, try_timeout=0.3)
    before = trio.current_time()
    assert await group.resolve(query("www.example.")) is GOOD
    assert trio.current_time() - before == pytest.approx(0.6)
    assert second.dropped == 1


async def test_the_next_may_win_and_the_late_one_is_dropped(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", (3.0, GOOD)), Fake("second", (0.2, OTHER))
    group = await start(first, second, try_timeout=0.3)
    before = trio.current_time()
    assert await group.resolve(query("www.example.")) is OTHER
    assert trio.current_time() - before == pytest.approx(0.5)
    assert first.dropped == 1


async def test_a_lone_late_upstream_is_asked_once_more(autojump_clock: MockClock, start: Start) -> None:
    only = Fake("only", GOOD)
    group = await start(only, try_timeout=1.5)
    only.manners[:] = [SILENCE, GOOD]
    assert await group.resolve(query("www.example.")) is GOOD
    assert len(only.asked) == 2


async def test_all_fail_within_the_deadline_and_the_error_names_each(autojump_clock: MockClock, start: Start) -> None:
    group = await start(
        Fake("first", SILENCE), Fake("second", NoReachableUpstream("connection refused")), Fake("third", SILENCE)
    )
    before = trio.current_time()
    error = await failure(group, deadline=before + 5)
    assert trio.current_time() - before == pytest.approx(5)
    assert type(error) is NoReachableUpstream
    assert str(error) == "first: no answer in time; second: connection refused; third: no answer in time"
    assert error.code == 22


async def test_garbage_from_all_is_a_network_error(autojump_clock: MockClock, start: Start) -> None:
    error = await failure(await start(Fake("first", UpstreamFailed("garbage")), Fake("second", SILENCE)))
    assert type(error) is UpstreamFailed
    assert str(error) == "first: garbage; second: no answer in time"
    assert error.code == 23


async def test_servfail_from_all_tells_their_extended_errors(autojump_clock: MockClock, start: Start) -> None:
    said = answer(rcode=2, ede=(Ede(22, "no reachable authority"), Ede(9)))
    group = await start(Fake("first", said), Fake("second", answer(rcode=5)))
    error = await failure(group)
    assert type(error) is UpstreamFailed
    assert str(error) == "SERVFAIL from first (EDE 22: no reachable authority) (EDE 9); REFUSED from second"


async def test_no_upstream_is_asked_more_than_twice(autojump_clock: MockClock, start: Start) -> None:
    fakes = Fake("first", UpstreamFailed("garbage")), Fake("second", Disconnected("closed")), Fake("third", answer(rcode=2))
    await failure(await start(*fakes))
    assert [len(fake.asked) for fake in fakes] == [2, 2, 1]


async def test_before_it_runs(autojump_clock: MockClock) -> None:
    assert type(await failure(Group((Fake("first", NotReady("not running")),), Forwarding()))) is NotReady


async def test_those_to_avoid_are_asked_last(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    assert await group.resolve(query("www.example.", avoid=("first",))) is OTHER
    second.manners = [UpstreamFailed("garbage")]
    assert await group.resolve(query("www.example.", avoid=("first",))) is GOOD


async def test_a_dead_upstream_is_left_and_comes_back_by_itself(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", NoReachableUpstream("connection refused")), Fake("second", GOOD)
    group = await start(first, second)
    assert repr(group) == "<Group: first down (connection refused), second up>"
    await group.resolve(query("www.example."))
    assert not first.asked
    first.manners = [OTHER]
    await trio.sleep(120)
    assert repr(group) == "<Group: first up, second up>"
    assert await group.resolve(query("www.example.")) is OTHER


async def test_probes_become_rarer_and_end_with_an_answer(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", NoReachableUpstream("connection refused")), Fake("second", GOOD)
    await start(first, second)
    await trio.sleep(1000)
    assert 15 < first.probes < 30
    first.manners = [answer(rcode=5)]
    await trio.sleep(60)
    probes = first.probes
    await trio.sleep(1000)
    assert first.probes == probes


async def test_two_timeouts_in_a_row_are_needed(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners = [SILENCE]
    await group.resolve(query("www.example."))
    assert group.__repr__() == "<Group: first up, second up>"
    await group.resolve(query("www.example."))
    assert "first down (no answer in time)" in repr(group)


async def test_one_slow_question_says_nothing_of_the_upstream(autojump_clock: MockClock, start: Start) -> None:
    """Others were answered meanwhile."""
    first = Fake("first", GOOD)
    group = await start(first, Fake("second", OTHER))
    for _ in range(3):
        first.manners = [SILENCE, GOOD]
        async with trio.open_nursery() as asking:
            asking.start_soon(group.resolve, query("slow.example."))
            await trio.sleep(0.1)
            await group.resolve(query("www.example."))
    assert repr(group) == "<Group: first up, second up>"


async def test_it_says_once_that_nothing_works_and_once_that_it_does_again(
    autojump_clock: MockClock, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    first, second = Fake("first", NoReachableUpstream("network is unreachable")), Fake("second", SILENCE)
    group = await start(first, second)
    for _ in range(20):
        with suppress(NoReachableUpstream):
            await group.resolve(query("www.example."))
        await trio.sleep(10)
    assert [record.getMessage() for record in caplog.records] == [
        "no upstream can be reached: first: network is unreachable; second: no answer in time; still trying"
    ]
    caplog.clear()
    first.manners = [GOOD]
    await trio.sleep(120)
    assert [record.getMessage() for record in caplog.records] == ["upstreams can be reached again: first answers"]


async def test_while_all_are_down_questions_are_tried_all_the_same(autojump_clock: MockClock, start: Start) -> None:
    first = Fake("first", NoReachableUpstream("connection refused"))
    group = await start(first)
    await failure(group)
    first.manners = [GOOD]
    assert await group.resolve(query("www.example.")) is GOOD


async def test_a_cancelled_caller_drops_what_is_under_way(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", SILENCE), Fake("second", SILENCE)
    group = await start(first, second)
    first.dropped = second.dropped = 0
    with trio.move_on_after(0.7):
        await group.resolve(query("www.example."))
    assert (first.dropped, second.dropped) == (2, 1)


def test_health_counts_failures_in_a_row() -> None:
    health = Health()
    assert not health.failed("late", began=1.0)
    assert not health.succeeded(2.0)
    assert not health.failed("late", began=3.0)
    assert health.failed("late", began=4.0)
    assert not health.failed("late", began=5.0)
    assert health.succeeded(6.0)
    assert health.up


def test_health_believes_later_answers_more_than_earlier_questions() -> None:
    health = Health()
    health.succeeded(5.0)
    assert not any(health.failed("late", began=4.0) for _ in range(9))
    assert health.failed("refused", began=4.0, certain=True)
