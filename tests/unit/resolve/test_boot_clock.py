"""Names that are answered unvalidated until the clock is set."""

from __future__ import annotations

import pytest
import trio
from stages import Canned, answer, query
from trio.testing import MockClock

from dohproxy.config import settings
from dohproxy.config.texts import name_pattern
from dohproxy.dnssec.reasons import CLOCK_NOT_SET
from dohproxy.model import Answer, Security
from dohproxy.resolve.boot_clock import BootClock

NAMES = (
    "0.pool.example",
    "a.b.pool.example",
    "pool.example",
    "time.example",
    "x.time.example",
    "both.example",
    "x.both.example",
)
MEANT = {"0.pool.example", "a.b.pool.example", "time.example", "both.example", "x.both.example"}


class Machine:
    """A clock that somebody sets, or nobody, and the stages on either side."""

    def __init__(self) -> None:
        self.is_set, self.ended = False, 0
        self.validated, self.unvalidated = Canned(), Canned()
        for name in (*NAMES, "www.example"):
            self.validated.on(name, answer(f"{name}. 60 A 192.0.2.1", security=Security.SECURE))
            self.unvalidated.on(name, answer(f"{name}. 60 A 192.0.2.1"))
        configured = settings.BootClock(tuple(map(name_pattern, ("*.pool.example", "time.example", ".both.example"))), 600)
        started = trio.current_time()
        self.stage = BootClock(
            self.validated,
            self.unvalidated,
            configured,
            is_set=lambda: self.is_set,
            age=lambda: trio.current_time() - started,
        )

    async def end(self) -> None:
        self.ended += 1

    async def ask(self, name: str, **more: bool) -> Answer:
        return await self.stage.resolve(query(name, **more))


async def test_the_names_are_let_through_until_the_clock_is_set(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(machine.stage.run, machine.end)
        await trio.sleep(0.5)
        found = {name: await machine.ask(name) for name in NAMES}
        assert {name for name, one in found.items() if one.security is Security.INSECURE} == MEANT
        assert [ede.text for ede in found["time.example"].ede] == [CLOCK_NOT_SET]
        assert found["pool.example"].security is Security.SECURE
        await trio.sleep(300)
        assert machine.stage.is_open
        machine.is_set = True
        await trio.sleep(2)
        assert (machine.stage.is_open, machine.ended) == (False, 1)
    assert (await machine.ask("time.example")).security is Security.SECURE
    assert [record.message for record in caplog.records] == [
        "the clock is not synchronised: 3 names are answered unvalidated until it is",
        "the clock is synchronised: all names are validated from now on",
    ]


async def test_it_is_over_in_time_even_if_nobody_sets_the_clock(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    machine = Machine()
    await machine.stage.run(machine.end)
    assert 600 <= trio.current_time() <= 602
    assert (machine.stage.is_open, machine.ended) == (False, 1)
    assert "not synchronised after 600 s: all names are validated" in caplog.text


async def test_it_does_not_begin_again_with_another_configuration(autojump_clock: MockClock) -> None:
    machine = Machine()
    await trio.sleep(600)
    await machine.stage.run(machine.end)
    assert machine.ended == 0


async def test_a_clock_that_is_set_excuses_nothing(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    machine = Machine()
    machine.is_set = True
    await machine.stage.run(machine.end)
    assert (await machine.ask("time.example")).security is Security.SECURE
    assert machine.unvalidated.asked == []
    assert caplog.records == []


async def test_before_it_runs_and_without_checking_nothing_is_different(autojump_clock: MockClock) -> None:
    machine = Machine()
    await machine.ask("time.example")
    machine.stage.is_open = True
    await machine.ask("time.example", cd=True)
    assert len(machine.validated.asked) == 2
