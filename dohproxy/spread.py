"""Of how many workers names are asked: of as few as the load needs.

One worker finds more in a batch, sends more replies at once, and has warm in the processor's caches what it works with: two
that share its work take more time a query, and answer later (docs/performance.md). That one is not enough, the kernel's
accounts tell: it never has nothing to do.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

PROC = Path("/proc")
LOOK = 1.0
"""Seconds from one look at the load to the next."""
SHORT = 0.98
"""Share of the time that a worker runs from which on it is short of it: below, it does more by larger batches."""
IDLE = 0.5
"""How much of a processor has to be idle, for another worker to have."""
CALM, USUALLY = 0.4, 60.0
"""Share of the time below which the busiest usually has to be, and in how many seconds that shows, before fewer are asked."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Place(Protocol):
    """Where a worker serves; `seat.Seat` is one."""

    number: int

    @property
    def pid(self) -> int:
        """The process that serves there."""
        ...

    @property
    def takes(self) -> bool:
        """Whether there is one that can be asked."""
        ...


class Spread:
    """The workers that are asked: one at first, twice as many when one of them is short, and back when all are calm.

    Where there are twice as many, half of the names stay where they were. Who cannot be asked is stood in for, for good, by one
    who was not asked before: it knows those names by then.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._load = Load()
        self._asked = list(places[:1] if self._load.known else places)
        self._weighed, self._usual = -math.inf, 1.0

    def targets(self) -> list[int]:
        """The numbers of those to ask, of those that can be."""
        others = [place for place in self._places if place.takes and place not in self._asked]
        self._asked = [place if place.takes or not others else others.pop(0) for place in self._asked]
        return [place.number for place in self._asked if place.takes]

    def weigh(self, now: float) -> bool:
        """Ask more of them, or fewer, as the load was since this was called before, at `now`; whether that changes anything."""
        shares, idle = self._load.look([place.pid for place in self._asked if place.takes], now)
        passed, self._weighed = now - self._weighed, now
        if not shares:
            return False
        count, busiest = len(self._asked), max(shares)
        self._usual += (busiest - self._usual) * min(1.0, passed / USUALLY)
        if busiest >= SHORT and idle >= IDLE and all(place.takes for place in self._asked):
            return self._ask(2 * count)
        if self._usual < CALM and count > 1:
            return self._ask(1 << (count - 1).bit_length() - 1)  # the power of two below: it grew by those
        return False

    def _ask(self, count: int) -> bool:
        before = len(self._asked)
        self._asked = [*self._asked, *(place for place in self._places if place not in self._asked)][:count]
        self._usual = 1.0
        return len(self._asked) != before


class _Seen(NamedTuple):
    at: float
    idle: float | None
    ran: Mapping[int, int]


class Load:
    """What processes have of the processors that they may use, as the kernel tells (proc(5): schedstat, stat)."""

    def __init__(self) -> None:
        self._processors = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        self._seen = _Seen(-math.inf, None, {})
        self.known = _ran("self") > 0
        """Whether the kernel tells."""

    def look(self, pids: Sequence[int], now: float) -> tuple[list[float], float]:
        """Which part of the time since the look before each has run that was there then; how many processors were idle.

        Where the kernel does not tell whether any was (procfs with subset=pid), math.inf were.
        """
        before, self._seen = self._seen, _Seen(now, self._idle(), {pid: ran for pid in pids if (ran := _ran(pid))})
        passed = now - before.at
        shares = [(ran - before.ran[pid]) / 1e9 / passed for pid, ran in self._seen.ran.items() if pid in before.ran]
        if self._seen.idle is None or before.idle is None:
            return shares, math.inf
        return shares, (self._seen.idle - before.idle) / passed

    def _idle(self) -> float | None:
        """Seconds that our processors were idle, each by itself, since the system started; None if that is not told."""
        lines = [line.split() for line in _told("stat").splitlines()]
        ours = [int(line[4]) + int(line[5]) for line in lines if line and line[0] in self._processors]
        return sum(ours) / _TICKS if ours else None


def _ran(pid: int | str) -> int:
    """Nanoseconds that the process' first thread has run; 0 if that is not told."""
    return int(next(iter(_told(f"{pid}/schedstat").split()), 0))


def _told(name: str) -> str:
    """What stands in this file of the kernel's; nothing if it cannot be read."""
    try:
        return (PROC / name).read_text()
    except OSError:
        return ""
