import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dohproxy import courses
from dohproxy.courses import as_task, parked, stepped


class Log(list):
    """What happened, in order."""

    async def park(self, name):
        self.append(f"{name} parks")
        await parked()
        self.append(f"{name} goes on")


@pytest.fixture
def log():
    return Log()


async def test_a_course_without_a_wait_is_over_at_once(log):
    async def course():
        log.append(stepped() is not None)

    async with courses.owned() as own:
        own.begin(course())
        assert log == [True]
        assert stepped() is None


async def test_a_parked_course_goes_on_in_whoever_steps_it(log):
    held = []

    async def course():
        held.append(stepped())
        await log.park("it")

    async with courses.owned() as own:
        own.begin(course())
        assert log == ["it parks"]
        held[0].step()
        assert log == ["it parks", "it goes on"]


async def test_a_course_may_begin_another_while_it_is_stepped(log):
    async def inner():
        log.append(stepped())

    async def outer():
        me = stepped()
        own.begin(inner())
        log.append(stepped() is me)

    async with courses.owned() as own:
        own.begin(outer())
    assert [type(seen) for seen in log] == [courses._Coroutine, bool]
    assert log[1]


async def test_a_course_becomes_a_task_for_what_trio_does(log, autojump_clock):
    async def course():
        await as_task()
        assert stepped() is None
        await as_task()
        with trio.move_on_after(3):
            await trio.sleep_forever()
        log.append(trio.current_time())

    began = trio.current_time()
    async with courses.owned() as own:
        own.begin(course())
        assert not log
    assert log == [began + 3]


async def test_a_parked_course_can_be_told_to_go_on_as_a_task(log):
    held = []

    async def course():
        held.append(stepped())
        await log.park("it")
        assert stepped() is None
        await trio.lowlevel.checkpoint()
        log.append("done")

    async with courses.owned() as own:
        own.begin(course())
        held[0].go_on()
        assert log == ["it parks"]
    assert log == ["it parks", "it goes on", "done"]


async def test_in_a_task_both_words_mean_nothing():
    assert stepped() is None
    await as_task()


async def test_the_end_waits_for_all(log):
    held = []

    async def course():
        held.append(stepped())
        await log.park("it")

    async def own():
        async with courses.owned() as own:
            own.begin(course())
            own.begin(course())
        log.append("end")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(own)
        await wait_all_tasks_blocked()
        held[0].step()
        await wait_all_tasks_blocked()
        assert "end" not in log
        held[1].step()
    assert log[-1] == "end"


async def test_cancelled_with_its_owner_a_course_ends_where_it_is(log):
    async def parks():
        try:
            await log.park("it")
        finally:
            log.append("cleaned up")

    async def sleeps():
        try:
            await as_task()
            await trio.sleep_forever()
        finally:
            log.append("cancelled")

    with trio.move_on_after(0):
        async with courses.owned() as own:
            own.begin(parks())
            own.begin(sleeps())
            await trio.sleep_forever()
    assert sorted(log) == ["cancelled", "cleaned up", "it parks"]


@pytest.mark.parametrize("later", [False, True])
async def test_a_defect_hurts_neither_the_stepper_nor_the_owner(later, log, caplog):
    held = []

    async def course():
        held.append(stepped())
        if later:
            await parked()
        raise ZeroDivisionError

    async with courses.owned() as own:
        own.begin(course())
        if later:
            held[0].step()
        log.append("went on")
    assert log == ["went on"]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


async def test_a_defect_of_one_that_became_a_task_hurts_nobody_either(log, caplog):
    async def course():
        await as_task()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await trio.sleep_forever()

    async def fail():
        raise ZeroDivisionError

    async def sleeps():
        await as_task()
        await trio.sleep(1)
        log.append("slept")

    async with courses.owned() as own:
        own.begin(sleeps())
        own.begin(course())
    assert log == ["slept"]
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


async def test_trio_in_no_task_is_refused_where_it_is_asked(caplog):
    async def course():
        await trio.lowlevel.checkpoint()

    async with courses.owned() as own:
        own.begin(course())
    assert [type(record.exc_info[1]) for record in caplog.records] == [RuntimeError]
    assert "as_task" in str(caplog.records[0].exc_info[1])


async def test_whoever_wants_the_process_to_end_has_it_end():
    async def course():
        raise KeyboardInterrupt

    with pytest.RaisesGroup(KeyboardInterrupt, flatten_subgroups=True):
        async with courses.owned() as own:
            own.begin(course())
            await trio.sleep_forever()


async def test_one_that_cannot_be_ended_does_not_keep_the_others_from_it(log, caplog):
    held = []

    async def stubborn():
        held.append(stepped())
        try:
            await parked()
        finally:
            raise ZeroDivisionError

    async def parks(name):
        try:
            await log.park(name)
        finally:
            log.append(f"{name} ends")

    with trio.move_on_after(0):
        async with courses.owned() as own:
            for name in "abc":
                own.begin(parks(name))
                own.begin(stubborn())
            await trio.sleep_forever()
    assert sorted(log[3:]) == ["a ends", "b ends", "c ends"]
    assert len(caplog.records) == 3


async def test_who_goes_on_with_one_whose_owner_is_gone_is_not_hurt(log):
    held = []

    async def course():
        held.append(stepped())
        await log.park("it")

    with trio.move_on_after(0):
        async with courses.owned() as own:
            own.begin(course())
            await trio.sleep_forever()
    held[0].go_on()
    assert log == ["it parks"]


async def test_a_query_alone_is_withdrawn_where_it_is_parked(log):
    async def course():
        try:
            await log.park("it")
        finally:
            log.append("it ends")

    async with trio.open_nursery() as nursery:
        alone = courses.Alone(nursery)
        alone.begin(course())
        alone.close()
        assert log == ["it parks", "it ends"]
        alone.close()
        assert not nursery.child_tasks


async def test_a_query_alone_is_withdrawn_where_it_waits_as_a_task_and_no_other_with_it(log):
    async def course(name):
        await as_task()
        try:
            await trio.sleep_forever()
        finally:
            log.append(name)

    async with trio.open_nursery() as nursery:
        one, other = courses.Alone(nursery), courses.Alone(nursery)
        one.begin(course("one"))
        other.begin(course("other"))
        await wait_all_tasks_blocked()
        one.close()
        await wait_all_tasks_blocked()
        assert log == ["one"]
        other.close()
        await wait_all_tasks_blocked()
    assert log == ["one", "other"]


async def test_a_query_alone_that_is_withdrawn_before_its_task_has_begun_does_nothing_more(log):
    async def course():
        await as_task()
        await trio.lowlevel.checkpoint()
        log.append("went on")

    async with trio.open_nursery() as nursery:
        alone = courses.Alone(nursery)
        alone.begin(course())
        alone.close()
    assert not log
