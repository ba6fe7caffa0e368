"""Courses that wait at an upstream: driven on by the reader of its connection, or handed to a task."""

from __future__ import annotations

import pytest
import trio
from dns_peers import Bench, Messages, Peer, ask, framed, reply_to

from dohproxy import courses
from dohproxy.errors import Disconnected
from dohproxy.model import Answer
from dohproxy.upstream.dot import Dot

LIMIT = 10.0


async def silent(peer: Peer, stream: trio.abc.Stream) -> None:
    await Messages(stream).next()
    await trio.sleep_forever()


async def test_the_reader_drives_a_course_to_its_end_and_begins_what_it_asks_next(bench: Bench) -> None:
    dot, log, done = await bench.dot((await bench.serve()).port), list[tuple[str, bool]](), trio.Event()

    async def course(number: int) -> None:
        for step in range(3):
            await dot.resolve(ask(f"n{number}x{step}.example."))
            log.append((f"{number} {step}", courses.stepped() is not None))
        if len(log) == 60:
            done.set()

    with trio.fail_after(LIMIT):
        async with courses.owned() as own:
            for number in range(20):
                own.begin(course(number))
            assert not log
    assert done.is_set()
    assert all(stepped for _, stepped in log)
    assert len(set(log)) == 60
    assert repr(dot).count("open with 0 under way") == 1


async def test_without_an_answer_a_course_goes_on_as_a_task(bench: Bench) -> None:
    dot, log = await bench.dot((await bench.serve(silent)).port), list[tuple[Answer | None, bool]]()

    async def course() -> None:
        exchange = dot.begin(ask())
        log.append((await exchange.answer(trio.current_time() + 0.05), courses.stepped() is not None))
        exchange.drop()
        await trio.lowlevel.checkpoint()

    with trio.fail_after(LIMIT):
        async with courses.owned() as own:
            own.begin(course())
    assert log == [(None, False)]


async def test_the_end_of_its_connection_is_told_a_course_as_a_task(bench: Bench) -> None:
    async def rude(peer: Peer, stream: trio.abc.Stream) -> None:
        await Messages(stream).next()

    dot, log = await bench.dot((await bench.serve(rude)).port), list[bool]()

    async def course() -> None:
        with pytest.raises(Disconnected):
            await dot.resolve(ask())
        log.append(courses.stepped() is not None)

    with trio.fail_after(LIMIT):
        async with courses.owned() as own:
            own.begin(course())
    assert log == [False]


async def test_a_course_whose_owner_ends_asks_no_more(bench: Bench) -> None:
    asked = trio.Event()

    async def listening(peer: Peer, stream: trio.abc.Stream) -> None:
        messages = Messages(stream)
        while True:
            query = await messages.next()
            asked.set()
            if b"other" in query:
                await stream.send_all(framed(reply_to(query)))

    dot: Dot = await bench.dot((await bench.serve(listening)).port)
    with trio.fail_after(LIMIT):
        with trio.CancelScope() as scope:
            async with courses.owned() as own:
                own.begin(_unanswered(dot))
                await asked.wait()
                assert "1 under way" in repr(dot)
                scope.cancel()
        assert "0 under way" in repr(dot)
        assert (await dot.resolve(ask("other.example."))).rcode == 0


async def _unanswered(dot: Dot) -> None:
    await dot.resolve(ask())
    raise AssertionError
