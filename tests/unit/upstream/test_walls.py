"""A defect that one connection, probe or watcher meets ends that one; questions under way are told, the next are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest
import trio
from dns_peers import QUICK, Certificates, answer_all, ask
from quic_peers import QuicBench, answer

from dohproxy import courses
from dohproxy.config.settings import Forwarding
from dohproxy.contained import kept
from dohproxy.errors import Disconnected, ResolveError
from dohproxy.protocol.dns_stream import DnsStream
from dohproxy.protocol.doq_client import DoqSession
from dohproxy.resolve.selected import Group
from dohproxy.upstream import either
from dohproxy.upstream.connection import Connection
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.either import Either
from dohproxy.upstream.network import Network
from dohproxy.upstream.pool import Pool
from dohproxy.upstream.quic import Path
from dohproxy.upstream.quic_connection import QuicConnection
from dohproxy.upstream.stream_connection import StreamConnection
from dohproxy.upstream.tls import _Tls

LIMIT = 10.0


class Defect(RuntimeError):
    pass


def fail(*_: object, **__: object) -> NoReturn:
    raise Defect


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> QuicBench:
    return QuicBench(nursery, certificates)


Open = Callable[[str], Awaitable[Pool]]


@pytest.fixture
def opened(bench: QuicBench) -> Open:
    """An upstream over TLS or QUIC, as named, whose server answers everything."""

    async def open_(kind: str) -> Pool:
        if kind == "dot":
            return await bench.dot((await bench.serve(answer_all)).port)
        return await bench.doq((await bench.quic(answer)).port)

    return open_


def told(caplog: pytest.LogCaptureFixture) -> set[type[BaseException] | None]:
    return {record.exc_info[0] for record in caplog.records if record.exc_info}


PLACES: list[tuple[str, Any, str]] = [
    ("dot", Connection, "_deliver"),
    ("dot", Connection, "_admit"),
    ("dot", Connection, "_wake_late"),
    ("dot", StreamConnection, "_connect"),
    ("dot", StreamConnection, "_gather"),
    ("dot", DnsStream, "begin"),
    ("dot", DnsStream, "receive_untrusted"),
    ("dot", _Tls, "shake_hands"),
    ("dot", _Tls, "open"),
    ("dot", _Tls, "seal"),
    ("doq", Connection, "_admit"),
    ("doq", DoqSession, "begin"),
    ("doq", DoqSession, "handle_untrusted"),
    ("doq", DoqSession, "attach"),
    ("doq", Path, "receive"),
    ("doq", Path, "send"),
    ("doq", Path, "events"),
    ("doq", Path, "__init__"),
    ("doq", QuicConnection, "_next_deadline"),
]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(("kind", "owner", "name"), PLACES)
async def test_a_defect_costs_one_connection(
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    owner: Any,
    name: str,
    warm: bool,
) -> None:
    upstream: Pool = await opened(kind)
    with trio.fail_after(LIMIT):
        if warm:
            await upstream.resolve(ask())
        with monkeypatch.context() as broken:
            broken.setattr(owner, name, fail)
            try:
                await upstream.resolve(ask())
            except ResolveError as error:
                assert isinstance(error, Disconnected) or "defect" not in str(error)
                assert Defect in told(caplog)
        for _ in range(2):
            try:
                assert (await upstream.resolve(ask())).rcode == 0
                break
            except Disconnected:  # by one that met it last
                continue
        else:
            pytest.fail("it did not come back")
    assert told(caplog) <= {Defect}


@pytest.mark.parametrize(("kind", "owner", "name"), [("dot", _Tls, "close"), ("doq", Path, "close")])
async def test_a_defect_in_closing_leaves_no_question_waiting(
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    owner: Any,
    name: str,
) -> None:
    upstream: Pool = await opened(kind)
    with trio.fail_after(LIMIT):
        await upstream.resolve(ask())
        whole = getattr(owner, name)

        def close(self: Any, *args: object) -> NoReturn:
            whole(self, *args)
            raise Defect

        with monkeypatch.context() as broken:
            broken.setattr(owner, name, close)
            exchange = upstream.begin(ask())
            upstream._connections[0].give_up()
            with pytest.raises(Disconnected):
                await exchange.answer(trio.current_time() + LIMIT)
            assert told(caplog) == {Defect}
        assert (await upstream.resolve(ask())).rcode == 0


@pytest.mark.parametrize(("kind", "session"), [("dot", DnsStream), ("doq", DoqSession)])
@pytest.mark.parametrize("driven", [False, True])
async def test_a_defect_in_forgetting_a_question_costs_the_connection(
    opened: Open,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
    session: Any,
    driven: bool,
) -> None:
    """Trio itself has it forgotten when a task is cancelled, and bears no exception there."""
    upstream: Pool = await opened(kind)

    async def question() -> None:
        await upstream.begin(ask()).answer(trio.current_time() + LIMIT)

    with trio.fail_after(LIMIT):
        await upstream.resolve(ask())
        with monkeypatch.context() as broken, trio.move_on_after(0):
            broken.setattr(session, "forget", fail)
            if driven:
                async with courses.owned() as own:
                    own.begin(question())
                    await trio.sleep_forever()
            else:
                await question()
        assert told(caplog) == {Defect}
        assert (await upstream.resolve(ask())).rcode == 0


async def test_a_course_that_fails_does_not_hurt_the_reader(opened: Open, caplog: pytest.LogCaptureFixture) -> None:
    upstream = await opened("dot")
    answered: list[int] = []

    async def question(*, fails: bool) -> None:
        answer = await upstream.begin(ask()).answer(trio.current_time() + LIMIT)
        assert courses.stepped() is not None, "no course of the reader's"
        if fails:
            raise Defect
        assert answer is not None
        again = await upstream.begin(ask()).answer(trio.current_time() + LIMIT)  # on the same connection
        assert again is not None
        answered.append(again.rcode)

    with trio.fail_after(LIMIT):
        await upstream.resolve(ask())
        async with courses.owned() as own:
            for number in range(10):
                own.begin(question(fails=number % 2 == 0))
    assert answered == [0] * 5
    assert told(caplog) == {Defect}
    assert "open with 0 under way" in repr(upstream)


async def test_a_course_may_end_the_connection_that_drives_it(opened: Open) -> None:
    upstream = await opened("dot")
    outcomes: list[str] = []

    async def question(*, ends: bool) -> None:
        try:
            await upstream.begin(ask()).answer(trio.current_time() + LIMIT)
        except Disconnected:
            outcomes.append("lost")
            return
        if ends:
            upstream._connections[0].give_up()
            again = await upstream.begin(ask()).answer(trio.current_time() + LIMIT)  # on another one
            assert again is not None
        outcomes.append("answered")

    with trio.fail_after(LIMIT):
        await upstream.resolve(ask())
        async with courses.owned() as own:
            for number in range(4):
                own.begin(question(ends=number == 0))
    assert len(outcomes) == 4
    assert outcomes.count("answered") >= 1


async def test_parked_courses_are_told_of_the_end_of_the_pool(bench: QuicBench) -> None:
    async def never(_: object, stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass

    peer = await bench.serve(never)
    outcomes: list[ResolveError] = []
    with trio.fail_after(LIMIT):
        async with courses.owned() as own, trio.open_nursery() as nursery:
            upstream = Dot(bench.settings(peer.port, "tls"), QUICK)
            await nursery.start(upstream.run)

            async def question() -> None:
                try:
                    await upstream.begin(ask()).answer(trio.current_time() + LIMIT)
                except ResolveError as error:
                    outcomes.append(error)

            for _ in range(3):
                own.begin(question())
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    assert len(outcomes) == 3


class Faulty:
    """An upstream that meets a defect, so many times."""

    name = "faulty"

    def __init__(self, times: int) -> None:
        self.times, self.asked = times, 0
        self.is_open = self.is_heard = False

    def begin(self, _: object) -> Any:
        self.asked += 1
        if self.asked <= self.times:
            raise Defect
        return self

    async def answer(self, _: float) -> Any:
        return type("Answer", (), {"rcode": 0})()

    def drop(self) -> None:
        pass

    def renew(self) -> None:
        pass

    silent = False

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()


async def test_probes_go_on_after_a_defect(nursery: trio.Nursery, autojump_clock: object, caplog: Any) -> None:
    faulty = Faulty(4)
    group = Group((faulty,), Forwarding())
    await nursery.start(group.run)
    await trio.sleep(1)
    group.renew()  # probes at once
    await trio.sleep(100)
    assert faulty.asked >= 5
    assert told(caplog) == {Defect}
    assert not group.is_lost


async def test_either_goes_on_trying_after_a_defect(nursery: trio.Nursery, autojump_clock: object, caplog: Any) -> None:
    faulty, sure = Faulty(3), Faulty(0)
    both = Either(sure, faulty)  # type: ignore[arg-type]
    await nursery.start(both.run)
    both.lean()
    await trio.sleep(either.LONGEST_PAUSE)
    assert not both._leans
    assert told(caplog) == {Defect}


async def test_the_network_is_watched_after_a_defect(nursery: trio.Nursery, autojump_clock: object, caplog: Any) -> None:
    slept, changes = 0.0, []

    def changed() -> None:
        changes.append(trio.current_time())
        if len(changes) == 1:
            raise Defect

    network = Network((), changed, slept=lambda: slept, news=lambda: None)
    nursery.start_soon(kept, "watching the network", network.run)
    for _ in range(3):
        await trio.sleep(20)
        slept += 10
    await trio.sleep(20)
    assert len(changes) == 3
    assert told(caplog) == {Defect}
