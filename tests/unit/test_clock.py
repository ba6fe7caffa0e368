from __future__ import annotations

import pytest

from dohproxy.clock import Clock


class Times:
    def __init__(self) -> None:
        self.monotonic, self.wall = 100.0, 1_800_000_000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.monotonic, lambda: self.wall)

    def pass_(self, seconds: float, awake: bool = True) -> None:
        self.wall += seconds
        self.monotonic += seconds if awake else 0


def test_time_passes_while_the_machine_sleeps(caplog: pytest.LogCaptureFixture) -> None:
    times = Times()
    clock = times.clock()
    began = clock.now()
    times.pass_(10)
    assert clock.now() - began == 10
    assert not caplog.records
    times.pass_(8 * 3600, awake=False)
    assert clock.now() - began == 10 + 8 * 3600
    assert "28800 s" in caplog.text


def test_a_clock_that_is_slewed_or_set_back_changes_nothing() -> None:
    times = Times()
    clock = times.clock()
    began = clock.now()
    times.wall += 4
    assert clock.now() == began
    times.wall -= 3600
    assert clock.now() == began
    times.wall += 60
    assert clock.now() == began + 60
