"""Of how many workers names are asked: of as few as the load needs.

One worker finds more in a batch, sends more replies at once, and has warm in the processor's caches what it works with: two
that share its work take more time a query, and answer later (docs/performance.md). That one is not enough, the kernel's
accounts tell: it is short of time, and there is some to be had.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

PROC = Path("/proc")
LOOK = 0.5
"""Seconds from one look at the load to the next."""
SHORT = 0.9
"""Share of the time that a worker runs, or waits to run, from which on it is short of it."""
IDLE, WAITS = 0.5, 0.3
"""What more can have: so much of a processor is idle, or others are served for so much of the time that the worker waits."""
CALM, CALM_FOR = 0.4, 60.0
"""Share of the time that every worker stays below, and for how many seconds, before fewer are asked; they will not be short."""
_TICKS = os.sysconf("SC_CLK_TCK")


class Place(Protocol):
    """Where a worker serves; `seat.Seat` is one."""

    number: int

    @property
    def pid(self) -> int | None:
        """The process that serves there."""
        ...

    @property
    def takes(self) -> bool:
        """Whether there is one that can be asked."""
        ...


class Spread:
    """The workers that are asked: one at first, twice as many when one of them is short, half as many when all are calm.

    Where there are twice as many, half of the names stay where they were. Who cannot be asked is stood in for, for good, by one
    who was not asked before: it knows those names by then.
    """

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._load = Load()
        self._asked = list(places[:1] if self._load.known else places)
        self._busy = -math.inf
        """When not all of them were known to be calm."""

    def targets(self) -> list[int]:
        """The numbers of those to ask, of those that can be."""
        others = [place for place in self._places if place.takes and place not in self._asked]
        self._asked = [place if place.takes or not others else others.pop(0) for place in self._asked]
        return [place.number for place in self._asked if place.takes]

    def weigh(self, now: float) -> bool:
        """Ask more of them, or fewer, as the load was since this was called before, at `now`; whether that changes anything."""
        shares, idle = self._load.look([place.pid for place in self._asked if place.pid and place.takes], now)
        needed = [share.runs + share.waits for share in shares]
        if not needed or max(needed) > CALM:
            self._busy = now
        if needed and max(needed) >= SHORT and (idle >= IDLE or max(share.waits for share in shares) >= WAITS):
            return self._ask(2 * len(self._asked))
        if now - self._busy >= CALM_FOR:
            self._busy = now
            return self._ask((len(self._asked) + 1) // 2)
        return False

    def _ask(self, count: int) -> bool:
        before = len(self._asked)
        others = [place for place in self._places if place not in self._asked]
        others.sort(key=lambda place: not place.takes)
        self._asked = [*self._asked, *others][:count]
        return len(self._asked) != before

    def __str__(self) -> str:
        return f"{len(self._asked)} of {len(self._places)} workers"


class Share(NamedTuple):
    """The parts of the time that a process has run, and waited to run."""

    runs: float
    waits: float


class _Seen(NamedTuple):
    at: float
    idle: float
    times: Mapping[int, tuple[int, int]]


class Load:
    """What processes have of the processors that they may use, as the kernel tells (proc(5): schedstat, stat)."""

    def __init__(self) -> None:
        self._processors = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        self._seen = _Seen(-math.inf, 0.0, {})
        self.known = _times("self") is not None
        """Whether the kernel tells."""

    def look(self, pids: Sequence[int], now: float) -> tuple[list[Share], float]:
        """The shares of those that were there at the look before, and how many processors were idle meanwhile."""
        before, self._seen = self._seen, _Seen(now, self._idle(), {pid: times for pid in pids if (times := _times(pid))})
        passed = now - before.at
        shares = [
            Share(*((new - old) / 1e9 / passed for new, old in zip(times, before.times[pid], strict=True)))
            for pid, times in self._seen.times.items()
            if pid in before.times
        ]
        return shares, (self._seen.idle - before.idle) / passed

    def _idle(self) -> float:
        """Seconds that our processors were idle, each by itself, since the system started."""
        lines = [line.split() for line in _told("stat").splitlines()]
        return sum(int(ticks) for line in lines if line[0] in self._processors for ticks in line[4:6]) / _TICKS


def _times(pid: int | str) -> tuple[int, int] | None:
    """Nanoseconds that the process' first thread has run, and waited to run; None if that is not told."""
    match _told(f"{pid}/schedstat").split():
        case ran, waited, _ if int(ran):
            return int(ran), int(waited)
    return None


def _told(name: str) -> str:
    """What stands in this file of the kernel's; nothing if it cannot be read."""
    try:
        return (PROC / name).read_text()
    except OSError:
        return ""
