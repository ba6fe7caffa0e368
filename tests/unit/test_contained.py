import logging
from itertools import pairwise

import pytest
import trio

from dohproxy.contained import contained, kept


def told(caplog):
    return [(record.getMessage(), record.exc_info and record.exc_info[0]) for record in caplog.records]


async def test_a_defect_ends_the_block_and_is_told(caplog):
    with contained("a thing"):
        raise ZeroDivisionError
    assert told(caplog) == [("a thing failed by a defect of the program", ZeroDivisionError)]


async def test_a_group_of_one_is_seen_through(caplog):
    with contained("a thing"):
        async with trio.open_nursery() as outer, trio.open_nursery() as inner:
            outer.start_soon(trio.sleep_forever)
            inner.start_soon(_fail)
    assert told(caplog) == [("a thing failed by a defect of the program", ZeroDivisionError)]


async def test_to_be_cancelled_is_no_defect(caplog):
    with trio.CancelScope() as scope:
        with contained("a thing"):
            scope.cancel()
            await trio.sleep_forever()
        pytest.fail("it went on")
    assert scope.cancelled_caught
    assert not caplog.records


async def test_a_defect_beside_a_cancellation_is_told_and_the_rest_is_cancelled(caplog):
    with trio.CancelScope() as scope:
        with contained("a thing"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_fail_when_cancelled)
                nursery.start_soon(trio.sleep_forever)
                await trio.lowlevel.checkpoint()
                scope.cancel()
                await trio.sleep_forever()
        pytest.fail("it went on")
    assert scope.cancelled_caught
    assert told(caplog) == [("a thing failed by a defect of the program", ZeroDivisionError)]


def test_whoever_wants_the_process_to_end_has_it_end():
    with pytest.raises(KeyboardInterrupt), contained("a thing"):
        raise KeyboardInterrupt


async def test_what_is_kept_begins_anew_less_and_less_soon(autojump_clock, caplog):
    began = []

    async def run():
        began.append(trio.current_time())
        if len(began) < 10:
            raise ZeroDivisionError

    await kept("a thing", run, longest=6.4)
    pauses = [after - before for before, after in pairwise(began)]
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 6.4, 6.4])
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 9


async def test_what_lasted_begins_anew_soon(autojump_clock, caplog):
    began = []

    async def run():
        began.append(trio.current_time())
        if len(began) < 4:
            await trio.sleep(10)
            raise ZeroDivisionError

    await kept("a thing", run, longest=6.4)
    assert [after - before for before, after in pairwise(began)] == pytest.approx([10.1] * 3)


async def _fail():
    raise ZeroDivisionError


async def _fail_when_cancelled():
    try:
        await trio.sleep_forever()
    finally:
        raise ZeroDivisionError


class Panic(BaseException):
    """As pyo3's PanicException is one."""


async def test_a_panic_is_a_defect_too(caplog):
    with contained("a thing"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_panic)
    assert told(caplog) == [("a thing failed by a defect of the program", Panic)]


def test_what_is_to_be_done_after_a_defect_is_done_once():
    done = []
    with contained("a thing", lambda: done.append(1)):
        raise ZeroDivisionError
    with contained("a thing", lambda: done.append(2)):
        pass
    assert done == [1]


async def _panic():
    raise Panic
