from __future__ import annotations

import logging
from collections import Counter

import pytest
import trio
from stages import answer, query
from trio.testing import MockClock
from upstreams import GOOD, OTHER, SILENCE, Fake, Start

from dohproxy.errors import Disconnected, NoReachableUpstream, ResolveError, UpstreamFailed
from dohproxy.resolve.doubts import HALF_LIFE
from dohproxy.resolve.selected import Group
from dohproxy.wire.names import from_text


@pytest.fixture
async def start(nursery: trio.Nursery) -> Start:
    return Start(nursery)


async def took(group: Group, name: str = "www.example.", **more: object) -> float:
    before = trio.current_time()
    await group.resolve(query(name, **more))
    return trio.current_time() - before


# An upstream that is silent


async def test_a_silent_connection_is_soon_given_up_for_another_of_the_same_upstream(
    autojump_clock: MockClock, start: Start
) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:] = [SILENCE, GOOD]
    assert await took(group) == pytest.approx(0.4)
    assert [len(fake.asked) for fake in (first, second)] == [2, 0]


async def test_an_upstream_without_a_sign_of_life_is_soon_left_for_the_next(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:] = [SILENCE]
    assert await took(group) == pytest.approx(0.65)
    assert [len(fake.asked) for fake in (first, second)] == [2, 1]


async def test_an_upstream_that_tells_it_cannot_be_reached_is_left_at_once(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:] = [SILENCE, NoReachableUpstream("refused")]
    assert await took(group) == pytest.approx(0.4)
    assert repr(group) == "<Group: first down (refused), second up>"


async def test_a_slow_name_is_no_silence_where_its_upstream_answers_a_probe(
    autojump_clock: MockClock, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:], first.probed = [(1.0, GOOD)], (0.05, GOOD)
    for _ in range(5):
        await trio.sleep(30)
        assert await took(group) == pytest.approx(1.0)
    assert not second.asked and not caplog.records
    assert repr(group) == "<Group: first up, second up>"


async def test_a_name_that_is_slower_than_a_try_may_be_is_asked_elsewhere_without_blame(
    autojump_clock: MockClock, start: Start
) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:], first.probed = [SILENCE], (0.05, GOOD)
    for _ in range(5):
        assert await took(group) == pytest.approx(1.5)
    assert [len(fake.asked) for fake in (first, second)] == [10, 5]
    assert repr(group) == "<Group: first up, second up>"


async def test_a_try_that_makes_room_for_the_next_says_nothing(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:], first.probed = [(0.41, Disconnected("the connection stalled")), (0.6, GOOD)], (0.05, GOOD)
    assert await took(group) == pytest.approx(1.0)
    assert not second.asked


async def test_many_questions_in_doubt_take_one_probe(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:], before = [SILENCE], first.probes
    async with trio.open_nursery() as asking:
        for _ in range(50):
            asking.start_soon(took, group)
    assert first.probes - before == 1
    assert repr(group) == "<Group: first down (no answer in time), second up>"


async def test_who_came_back_by_an_answer_is_probed_anew(autojump_clock: MockClock, start: Start) -> None:
    """Rather than when the pause is over that was begun while it was down."""
    first, second = Fake("first", NoReachableUpstream("refused")), Fake("second", NoReachableUpstream("refused"))
    group = await start(first, second)
    second.manners[:] = [OTHER]
    await trio.sleep(100)
    first.manners[:], second.manners[:] = [GOOD], [NoReachableUpstream("refused")]
    await group.resolve(query("www.example."))
    first.manners[:], first.probed = [(1.0, GOOD)], (0.05, GOOD)
    second.manners[:] = [OTHER]
    assert await took(group) == pytest.approx(1.0)


async def test_a_slow_answer_beside_quick_ones_is_waited_for(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    async with trio.open_nursery() as asking:
        first.manners[:] = [(1.0, GOOD), GOOD]
        asking.start_soon(group.resolve, query("slow.example."))
        await trio.sleep(0.1)
        await group.resolve(query("www.example."))
    assert not second.asked
    assert len(first.asked) == 2


async def test_what_is_silence_depends_on_what_is_usual(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", (0.3, GOOD)), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:] = [(1.1, GOOD)]
    assert await took(group) == pytest.approx(1.1)
    assert not second.asked


async def test_silence_does_not_multiply_questions(autojump_clock: MockClock, start: Start) -> None:
    fakes = Fake("first", GOOD), Fake("second", GOOD)
    group = await start(*fakes)
    for fake in fakes:
        fake.manners[:] = [SILENCE]
    with pytest.raises(NoReachableUpstream, match="first: no answer in time; second: no answer in time"):
        await group.resolve(query("www.example."))
    assert [len(fake.asked) for fake in fakes] == [2, 2]


async def test_two_silences_bring_an_upstream_down(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    first.manners[:] = [SILENCE]
    assert [await took(group) for _ in range(3)] == pytest.approx([0.65, 0.65, 0])


# Nothing can be reached


async def test_errors_are_quick_while_nothing_can_be_reached_and_answers_come_back_within_a_second(
    autojump_clock: MockClock, start: Start
) -> None:
    returned: list[float] = []
    first, second = Fake("first", SILENCE), Fake("second", SILENCE)
    group = await start(first, second, on_return=lambda: returned.append(trio.current_time()))
    await trio.sleep(20)
    before = trio.current_time()
    with pytest.raises(NoReachableUpstream):
        await group.resolve(query("www.example."))
    assert trio.current_time() - before == pytest.approx(1)
    first.manners[:] = [NoReachableUpstream("network is unreachable")]
    second.manners[:] = [NoReachableUpstream("network is unreachable")]
    await trio.sleep(60)
    first.manners[:] = [GOOD]
    back = trio.current_time()
    await trio.sleep(1.01)
    assert "first up" in repr(group)
    assert len(returned) == 1 and returned[0] - back <= 1.01


async def test_another_network_is_a_new_beginning(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", NoReachableUpstream("network is unreachable")), Fake("second", GOOD)
    group = await start(first, second)
    await trio.sleep(300)
    probes = first.probes
    first.manners[:] = [GOOD]
    group.renew()
    assert repr(group) == "<Group: first up, second up>"
    assert await took(group) == 0
    await trio.sleep(1)
    assert (first.renewed, second.renewed, first.probes - probes, len(first.asked)) == (1, 1, 1, 1)


async def test_a_new_beginning_after_an_outage_is_a_return(
    autojump_clock: MockClock, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    returned: list[float] = []
    only = Fake("only", NoReachableUpstream("network is unreachable"))
    group = await start(only, on_return=lambda: returned.append(trio.current_time()))
    await trio.sleep(10)
    only.manners[:] = [GOOD]
    group.renew()
    await group.resolve(query("www.example."))
    assert len(returned) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "no upstream can be reached: only: network is unreachable; still trying",
        "upstreams can be reached again: only answers",
    ]


async def test_probing_goes_on_after_a_new_beginning(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", NoReachableUpstream("network is unreachable")), Fake("second", GOOD)
    group = await start(first, second)
    group.renew()
    await trio.sleep(0.5)
    assert "first down" in repr(group)
    first.manners[:] = [GOOD]
    await trio.sleep(2)
    assert repr(group) == "<Group: first up, second up>"


# Doubts


async def test_a_doubted_upstream_is_asked_later_for_a_while(
    autojump_clock: MockClock, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    for name in ("one.example.", "two.example."):
        group.doubt("first", from_text(name), "RRSIGs missing")
        assert await group.resolve(query(name)) is GOOD or name.startswith("two")
    group.doubt("first", from_text("www.other."), "RRSIGs missing")
    assert repr(group) == "<Group: first up, doubted, second up>"
    assert await group.resolve(query("www.example.")) is OTHER
    await trio.sleep(HALF_LIFE * 2)
    assert repr(group) == "<Group: first up, second up>"
    assert await group.resolve(query("www.example.")) is GOOD
    assert [record.getMessage() for record in caplog.records] == [
        "upstream first is doubted, for what it says of one.example.: RRSIGs missing"
    ]


async def test_answers_to_other_questions_raise_doubts(autojump_clock: MockClock, start: Start) -> None:
    garbage = UpstreamFailed("first: the answer is to another question")
    first, second = Fake("first", GOOD), Fake("second", OTHER)
    group = await start(first, second)
    for name in ("www.one.", "www.two."):
        first.manners[:] = [garbage, GOOD]
        await group.resolve(query(name))
    assert repr(group) == "<Group: first up, doubted, second up>"


# Several at once


async def test_the_first_good_answer_of_several_wins(autojump_clock: MockClock, start: Start) -> None:
    fakes = Fake("a", (0.3, GOOD)), Fake("b", (0.2, OTHER)), Fake("c", GOOD)
    group = await start(*fakes, strategy="race", race=2)
    before = [fake.dropped for fake in fakes]
    assert await took(group) == pytest.approx(0.2)
    assert [fake.dropped - was for fake, was in zip(fakes, before, strict=True)] == [1, 0, 0]
    assert not fakes[2].asked


async def test_a_refusal_wins_no_race(autojump_clock: MockClock, start: Start) -> None:
    group = await start(Fake("a", answer(rcode=2)), Fake("b", (0.2, OTHER)), strategy="race")
    assert await group.resolve(query("www.example.")) is OTHER


async def test_when_all_of_a_race_fail_the_others_are_asked(autojump_clock: MockClock, start: Start) -> None:
    fakes = Fake("a", UpstreamFailed("garbage")), Fake("b", NoReachableUpstream("refused")), Fake("c", GOOD)
    group = await start(*fakes, strategy="race", race=2)
    assert await group.resolve(query("www.example.")) is GOOD


async def test_the_fastest_gets_most_and_the_stumbling_one_is_left(autojump_clock: MockClock, start: Start) -> None:
    slow, quick = Fake("slow", (0.2, GOOD)), Fake("quick", (0.01, OTHER))
    group = await start(slow, quick, strategy="fastest")
    for _ in range(50):
        await group.resolve(query("www.example."))
    assert len(quick.asked) > 45
    quick.manners[:] = [(0.35, OTHER)]
    before = len(quick.asked)
    for _ in range(10):
        await group.resolve(query("www.example."))
    assert len(quick.asked) - before < 4


async def test_names_are_spread_and_stay_where_they_are(autojump_clock: MockClock, start: Start) -> None:
    fakes = Fake("a", GOOD), Fake("b", GOOD), Fake("c", GOOD)
    group = await start(*fakes, strategy="spread")
    for round in range(2):
        for number in range(60):
            await group.resolve(query(f"h{round}.n{number}.example."))
    seen = [{str(asked.question.qname) for asked in fake.asked} for fake in fakes]
    assert sum(map(len, seen)) == 120 and not seen[0] & seen[1]


# Hedging


async def hedged(start: Start, share: float) -> tuple[Group, Fake, Fake]:
    first, second = Fake("first", (0.01, GOOD)), Fake("second", (0.01, OTHER))
    group = await start(first, second, hedge=share)
    for _ in range(100):
        await group.resolve(query("www.example."))
    assert not second.asked
    return group, first, second


async def test_a_late_question_is_asked_elsewhere(autojump_clock: MockClock, start: Start) -> None:
    group, first, second = await hedged(start, 0.1)
    first.manners[:] = [(0.3, GOOD)]
    assert await took(group) < 0.03
    assert (len(second.asked), first.dropped) == (1, 1)


async def test_hedging_stays_within_its_budget(autojump_clock: MockClock, start: Start) -> None:
    group, first, second = await hedged(start, 0.05)
    first.manners[:] = [(0.3, GOOD)]
    answers = Counter([await took(group) < 0.1 for _ in range(200)])
    assert 5 <= len(second.asked) <= 200 * 0.05 + 10
    assert answers[True] == len(second.asked)


async def test_without_hedging_late_questions_are_waited_for(autojump_clock: MockClock, start: Start) -> None:
    first, second = Fake("first", (0.01, GOOD)), Fake("second", (0.01, OTHER))
    group = await start(first, second)
    for _ in range(100):
        await group.resolve(query("www.example."))
    first.manners[:] = [(0.3, GOOD)]
    assert await took(group) == pytest.approx(0.3)
    assert not second.asked


async def test_errors_of_a_hedged_question_are_told(autojump_clock: MockClock, start: Start) -> None:
    group, first, second = await hedged(start, 0.5)
    first.manners[:], second.manners[:] = [(0.3, UpstreamFailed("garbage"))], [(0.3, UpstreamFailed("garbage"))]
    with pytest.raises(ResolveError, match="first: garbage; second: garbage"):
        await group.resolve(query("www.example."))
