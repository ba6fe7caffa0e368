"""What all listeners of a process share: who answers, the limits, the counters, and how many queries are under way."""

from __future__ import annotations

import trio

from dohproxy.config.settings import Listen
from dohproxy.listen import Front
from dohproxy.telemetry.counters import Counters


class UnderWay:
    """A count of queries with a limit. UDP sheds what is beyond it, a TCP reader waits for room."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = trio.lowlevel.ParkingLot()
        self.count = 0

    def enter(self) -> bool:
        """Count one more, if there is room for it."""
        if self.count >= self._limit:
            return False
        self.count += 1
        return True

    async def wait(self) -> None:
        """Count one more as soon as there is room."""
        while not self.enter():
            await self._waiting.park()

    def leave(self) -> None:
        """Count one less, and let in who waits longest."""
        self.count -= 1
        if self._waiting:
            self._waiting.unpark()


class Intake:
    """Made once per process, given to every listener and connection."""

    def __init__(self, front: Front, limits: Listen, counters: Counters) -> None:
        self.front = front
        self.limits = limits
        self.counters = counters
        self.under_way = UnderWay(limits.in_flight)
