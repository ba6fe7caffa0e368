"""Questions that go straight are answered as those that take the stages, whatever becomes of them on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import dns.message
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked
from wires import answer_to, serving

from dohproxy import courses
from dohproxy.cache.answers import key_of
from dohproxy.model import Answer, Ede, Question, Security, Transport
from dohproxy.resolve import validated

CONFIG = """
[listen]
udp = ["127.0.0.1:5300"] # nobody listens: it is asked directly
[access]
allow = ["0.0.0.0/0"]
[[upstream]]
url = "tls://192.0.2.1"
name = "one"
[[upstream]]
url = "tls://192.0.2.2"
name = "two"
[[zone]]
name = "corp.example"
upstream = ["tls://192.0.2.3"]
[dnssec]
mode = "off"
[local]
records = ["host.lan. 60 IN A 192.0.2.77"]
[[policy.group]]
name = "strict"
clients = ["10.1.0.0/16"]
default = "deny"
allow = ["*.example"]
deny_addresses = ["198.51.100.0/24"]
"""
NAMES = ("a.example.", "b.example.", "c.corp.example.", "d.test.", "host.lan.", "localhost.")
HOSTS = ("10.1.0.1", "10.2.0.1")
SOA = "example. 60 IN SOA ns.example. host.example. 1 2 3 4 30"
ANSWERS = {
    "address": lambda query, name: answer_to(query, f"{name} 30 IN A 192.0.2.5"),
    "denied": lambda query, name: answer_to(query, f"{name} 30 IN A 198.51.100.5"),
    "private": lambda query, name: answer_to(query, f"{name} 30 IN A 10.0.0.5"),
    "fleeting": lambda query, name: answer_to(query, f"{name} 0 IN A 192.0.2.6"),
    "alias": lambda query, name: answer_to(query, f"{name} 30 IN CNAME z.example.", "z.example. 30 IN A 192.0.2.9"),
    "alias away": lambda query, name: answer_to(
        query, f"{name} 30 IN CNAME c.corp.example.", "c.corp.example. 30 IN A 192.0.2.7"
    ),
    "redirected": lambda query, name: answer_to(
        query,
        "example. 30 IN DNAME elsewhere.test.",
        f"{name} 30 IN CNAME {name.removesuffix('example.')}elsewhere.test.",
        f"{name.removesuffix('example.')}elsewhere.test. 30 IN A 192.0.2.10",
    ),
    "open alias": lambda query, name: answer_to(query, f"{name} 30 IN CNAME b.example."),
    "nothing": lambda query, _: answer_to(query, authority=SOA),
    "no name": lambda query, _: answer_to(query, rcode=3, authority=SOA),
    "failure": lambda query, _: answer_to(query, rcode=2),
    "garbage": lambda query, name: answer_to(query, f"{name} 30 IN A 192.0.2.5")[:-2],
    "cut": lambda query, _: answer_to(query)[:2] + b"\x83" + answer_to(query)[3:],
}

ask = st.tuples(st.just("ask"), st.sampled_from(HOSTS), st.sampled_from(NAMES), st.sampled_from((0, 0, 0, 0x10)), st.booleans())
reply = st.tuples(st.just("reply"), st.sampled_from(sorted(ANSWERS)))
others = st.sampled_from([("cut off",), ("wait", 0.1), ("wait", 0.6), ("wait", 3.0), ("wait", 31.0), ("wait", 100.0)])
STEPS = st.lists(st.one_of(ask, ask, reply, reply, others), min_size=1, max_size=14)


class Run:
    """What came of these steps."""

    def __init__(self, *, straight: bool) -> None:
        self._straight = straight
        self.replies: dict[int, bytes] = {}
        self.asked = 0
        """Of upstreams."""
        self.went = 0
        """Straight, to their end."""

    async def take(self, steps: list[Any]) -> None:
        async with serving(CONFIG) as (service, _, pools), courses.owned() as begun:
            front = service.front
            if not self._straight:
                front.replace(without_straight(front._generation))
            else:
                self._count(front._generation.straight)
            await wait_all_tasks_blocked()
            for number, step in enumerate(steps):
                for pool in pools.values():
                    pool.look()
                if step[0] == "ask":
                    self._ask(front, begun, number, *step[1:])
                elif step[0] == "wait":
                    await trio.sleep(step[1])
                else:
                    self._act(pools, *step)
                await wait_all_tasks_blocked()
            await trio.sleep(20)
            await wait_all_tasks_blocked()
            self.asked = sum(pool.count for pool in pools.values())
            assert not service._core._flights._flights
            assert idle(service)

    def _count(self, straight: Any) -> None:
        landed = straight.landed

        def counted(*args: Any) -> Any:
            answer = landed(*args)
            self.went += answer is not None
            return answer

        straight.landed = counted

    def _ask(self, front: Any, begun: courses.Courses, number: int, host: str, name: str, flags: int, do: bool) -> None:
        query = dns.message.make_query(name, "A", use_edns=0 if do else None, want_dnssec=do, id=number)
        query.flags |= flags
        wire = query.to_wire()

        def done(reply: bytes) -> None:
            assert number not in self.replies
            self.replies[number] = reply

        if recalled := front.recall(wire, host, Transport.UDP):
            done(recalled)
        else:
            front.begin(wire, host, Transport.UDP, begun, done)

    @staticmethod
    def _act(pools: Any, what: str, kind: str = "") -> None:
        for pool in pools.values():
            if (found := pool.next()) is None:
                continue
            query, connection = found
            if what == "cut off":
                connection.break_off()
            else:
                connection.receive(ANSWERS[kind](query, query.question[0].name.to_text()))
            return


def without_straight(generation: Any) -> Any:
    return type(generation)(
        *(getattr(generation, field) for field in generation.__struct_fields__ if field != "straight"), straight=None
    )


def idle(service: Any) -> bool:
    """Whether nothing is under way at any upstream."""
    return all(m.under_way == 0 for group in service._core._groups.values() for m in group._standing.members)


def outcome(steps: list[Any], *, straight: bool) -> Run:
    run = Run(straight=straight)
    trio.run(run.take, steps, clock=MockClock(autojump_threshold=0))
    return run


@settings(max_examples=250, deadline=None, derandomize=True)
@given(STEPS)
def test_straight_or_by_stages_the_answers_are_the_same(steps: list[Any]) -> None:
    straight, staged = outcome(steps, straight=True), outcome(steps, straight=False)
    assert straight.replies == staged.replies
    assert straight.asked == staged.asked
    assert set(straight.replies) == {number for number, step in enumerate(steps) if step[0] == "ask"}


ASK, OTHER = ("ask", "10.2.0.1", "a.example.", 0, False), ("ask", "10.2.0.1", "b.example.", 0, True)


def test_what_is_ordinary_goes_straight() -> None:
    for kind in ("address", "fleeting", "alias", "redirected", "nothing", "no name"):
        assert outcome([ASK, OTHER, ("reply", kind), ("reply", kind)], straight=True).went == 2, kind
    assert outcome([ASK, ASK, ("reply", "address")], straight=True).went == 1  # one flight, two on board
    for kind in ("open alias", "alias away", "failure", "garbage", "cut"):
        assert outcome([ASK, ("reply", kind)], straight=True).went == 0, kind


def test_a_question_that_is_late_is_taken_up_where_it_is_and_asked_elsewhere() -> None:
    for straight in (True, False):
        run = outcome([ASK, ("wait", 0.6), ("reply", "address")], straight=straight)
        assert (len(run.replies), run.asked) == (1, 2), straight


async def test_what_is_under_way_when_its_owner_ends_is_given_up(autojump_clock: MockClock) -> None:
    told: list[bytes] = []
    async with serving(CONFIG) as (service, _, pools):
        wire = dns.message.make_query("a.example.", "A").to_wire()
        for pool in pools.values():
            pool.look()
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            async with courses.owned() as begun:
                service.front.begin(wire, HOSTS[0], Transport.UDP, begun, told.append)
                service.front.begin(wire, HOSTS[0], Transport.UDP, begun, told.append)
                await wait_all_tasks_blocked()
                assert not told
                scope.cancel()
        await wait_all_tasks_blocked()
        assert told == [b"", b""]
        assert not idle(service)  # the flight goes on, for who was on board
        await trio.sleep(30)
        assert not service._core._flights._flights
        assert idle(service)


async def test_a_defect_on_the_way_costs_one_question(autojump_clock: MockClock, caplog: Any) -> None:
    told: list[bytes] = []
    async with at_rest() as (service, pools, begun):
        straight: Any = service.front._generation.straight
        landed, straight.landed = straight.landed, None
        service.front.begin(dns.message.make_query("a.example.", "A").to_wire(), HOSTS[0], Transport.UDP, begun, told.append)
        Run._act(pools, "reply", "address")
        assert [dns.message.from_wire(reply).rcode() for reply in told] == [2]
        assert [record.exc_info[0] for record in caplog.records] == [TypeError]
        assert idle(service)
        straight.landed = landed
        service.front.begin(dns.message.make_query("b.example.", "A").to_wire(), HOSTS[0], Transport.UDP, begun, told.append)
        Run._act(pools, "reply", "address")
        assert dns.message.from_wire(told[1]).answer


def asked(service: Any, begun: courses.Courses, name: str, done: Callable[[bytes], None], **more: Any) -> None:
    service.front.begin(dns.message.make_query(name, "A", **more).to_wire(), HOSTS[1], Transport.UDP, begun, done)


@asynccontextmanager
async def at_rest(config: str = CONFIG, *, straight: bool = True) -> AsyncIterator[tuple[Any, Any, courses.Courses]]:
    """A service whose probes were answered."""
    async with serving(config) as (service, _, pools), courses.owned() as begun:
        if not straight:
            service.front.replace(without_straight(service.front._generation))
        for _ in range(2):
            await wait_all_tasks_blocked()
            for pool in pools.values():
                pool.look()
        yield service, pools, begun


@pytest.mark.parametrize("straight", [True, False])
async def test_who_asks_when_another_is_just_late_shares_what_comes_of_it(autojump_clock: MockClock, straight: bool) -> None:
    """However the tasks of that moment are ordered: nothing is asked more, and nobody waits longer."""
    for _ in range(8):
        assert await waits_of_two(straight=straight) == [True, True]


async def waits_of_two(*, straight: bool) -> list[bool]:
    """Whether either is told within the time of one question."""
    told: list[float] = []
    async with at_rest(straight=straight) as (service, pools, begun):
        began = trio.current_time()
        asked(service, begun, "a.example.", lambda _: told.append(trio.current_time() - began))
        [connection] = pools["one"]._connections
        await trio.sleep_until(next(iter(connection._under_way.values())).until)
        asked(service, begun, "a.example.", lambda _: told.append(trio.current_time() - began))
        await trio.sleep(60)
        for pool in pools.values():
            pool.look()
        await wait_all_tasks_blocked()
        assert idle(service)
        return [wait < 5.5 for wait in told]


@pytest.mark.parametrize("straight", [True, False])
async def test_who_tells_of_an_answer_is_innocent_of_a_defect(autojump_clock: MockClock, straight: bool, caplog: Any) -> None:
    def fail(_: bytes) -> None:
        raise KeyError("a defect")

    with trio.fail_after(30):
        async with at_rest(straight=straight) as (service, pools, begun):
            asked(service, begun, "a.example.", fail)
            Run._act(pools, "reply", "address")
    assert {record.exc_info[0] for record in caplog.records} == {KeyError}


@pytest.mark.parametrize("straight", [True, False])
async def test_who_asks_is_told_once_even_where_nothing_can_be_said(
    autojump_clock: MockClock, straight: bool, monkeypatch: Any
) -> None:
    told: list[bytes] = []
    async with at_rest(straight=straight) as (service, pools, begun):
        for what in ("_tell_answer", "_tell_error"):
            monkeypatch.setattr(service.front, what, None)
        asked(service, begun, "a.example.", told.append)
        Run._act(pools, "reply", "address")
        assert told == [b""]
        assert idle(service)


VALIDATING = """
[listen]
udp = ["127.0.0.1:5300"]
[[upstream]]
url = "tls://192.0.2.1"
name = "one"
[dnssec]
mode = "log-only"
report_errors = true
"""


async def test_a_failed_answer_at_hand_is_for_the_stages_to_tell(autojump_clock: MockClock) -> None:
    async with at_rest(VALIDATING) as (service, pools, begun):
        core, question = service._core, Question(b"\x01b\x07example\0", 1)
        failed = Answer(0, security=Security.BOGUS, ede=(Ede(6, "bogus"),), agent=b"\5agent\0", born=trio.current_time())
        core._cached._failures.put(key_of(question, False), failed, core._now())
        asked(service, begun, "b.example.", lambda _: None)
        await wait_all_tasks_blocked()
        pools["one"].look()
        assert [str(message.question[0].name) for message, _ in pools["one"].asked] == ["_er.1.b.example.6._er.agent."]
        begun.close()


@pytest.mark.parametrize("straight", [True, False])
async def test_what_takes_the_stages_is_not_redirected_by_its_own_answer(autojump_clock: MockClock, straight: bool) -> None:
    async with at_rest(VALIDATING, straight=straight) as (service, pools, begun):
        asked(service, begun, "a.example.", lambda _: None)
        Run._act(pools, "reply", "redirected")  # all of it, but whether it holds takes links that nobody has
        await wait_all_tasks_blocked()
        pools["one"].look()
        questions = {message.question[0].name.to_text() for message, _ in pools["one"].asked}
        assert "a.elsewhere.test." not in questions
        begun.close()


async def test_what_was_judged_at_hand_counts_in_the_budget_of_the_stages(autojump_clock: MockClock, monkeypatch: Any) -> None:
    budgets: list[Any] = []
    judge = validated.validate

    def judging(question: Any, answer: Any, world: Any) -> Any:
        budgets.append(world.budget)
        return judge(question, answer, world)

    monkeypatch.setattr(validated, "validate", judging)
    async with at_rest(VALIDATING.replace("log-only", "validate")) as (service, pools, begun):
        asked(service, begun, "b.example.", lambda _: None)
        Run._act(pools, "reply", "address")  # unsigned, and whether it may be takes links that nobody has
        await wait_all_tasks_blocked()
        assert len(budgets) == 2
        assert budgets[0] is budgets[1]
        begun.close()
