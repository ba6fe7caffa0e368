"""What is rung for in a turn is done when it ends; what cannot be done then, the listener does."""

import trio
from trio.testing import wait_all_tasks_blocked

from dohproxy.bell import Bell, Turn


async def heard_by_a_task(bell, ring):
    heard = []

    async def listen():
        while True:
            await bell.heard()
            heard.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        ring()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return len(heard)


async def test_out_of_turns_the_listener_is_woken_once():
    bell = Bell(lambda: True)
    assert await heard_by_a_task(bell, lambda: (bell.ring(), bell.ring())) == 1


async def test_what_a_turn_rang_for_is_done_at_its_end_and_nobody_is_woken():
    done = []
    bell = Bell(lambda: done.append(True) or True)

    def turn():
        with Turn():
            bell.ring()
            bell.ring()
            assert not done
        assert done == [True]

    assert await heard_by_a_task(bell, turn) == 0


async def test_a_turn_within_another_ends_first():
    done = []
    outer, inner = Bell(lambda: done.append("outer") or True), Bell(lambda: done.append("inner") or True)
    with Turn():
        outer.ring()
        with Turn():
            inner.ring()
        assert done == ["inner"]
    assert done == ["inner", "outer"]


async def test_the_listener_does_what_could_not_be_done_at_once():
    bell = Bell(lambda: False)

    def turn():
        with Turn():
            bell.ring()

    assert await heard_by_a_task(bell, turn) == 1


async def test_a_defect_is_told_and_left_to_the_listener_and_the_other_bells_are_served(caplog):
    done = []

    def fail():
        raise ZeroDivisionError

    bell, other = Bell(fail), Bell(lambda: done.append(True) or True)

    def turn():
        with Turn():
            bell.ring()
            other.ring()

    assert await heard_by_a_task(bell, turn) == 1
    assert done == [True]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


async def test_a_turn_that_fails_is_ended_all_the_same():
    done = []
    bell = Bell(lambda: done.append(True) or True)
    try:
        with Turn():
            bell.ring()
            raise ConnectionError
    except ConnectionError:
        pass
    assert done == [True]


async def test_what_is_no_exception_costs_no_other_bell_anything():
    class Panic(BaseException):
        pass

    done = []

    def fail():
        raise Panic

    bell, other = Bell(fail), Bell(lambda: done.append(True) or True)

    def turn():
        with Turn():
            bell.ring()
            other.ring()

    assert await heard_by_a_task(bell, turn) == 1
    assert done == [True]


async def test_what_is_rung_for_while_it_is_done_is_done_again():
    bell = Bell(lambda: bell.ring() or True)

    def turn():
        with Turn():
            bell.ring()

    assert await heard_by_a_task(bell, turn) == 1
