"""What all listeners of a process share: who answers, the limits, the counters, and how many queries are under way."""

from __future__ import annotations

from typing import Protocol

import trio

from dohproxy.config.settings import ClientLimits, Listen
from dohproxy.core.pure import Limit
from dohproxy.listen import Front
from dohproxy.listen.limited import Limited
from dohproxy.policy.rates import Prefixes, Rates
from dohproxy.telemetry.counters import Counters

NO_LIMITS = ClientLimits()


class Room(Protocol):
    """How many queries may be under way. UDP sheds what is beyond it, a TCP reader waits for room."""

    def enter(self) -> bool:
        """Count one more, if there is room for it."""
        ...

    async def wait(self) -> None:
        """Count one more as soon as there is room."""
        ...

    def leave(self) -> None:
        """Count one less, and let in who waits longest."""
        ...


class UnderWay:
    """A count of queries with a limit: a Room."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = trio.lowlevel.ParkingLot()
        self._waits = 0
        """Tasks in there: the lot itself tells slowly."""
        self.count = 0

    @property
    def is_empty(self) -> bool:
        """Whether nobody is in it or waits for it."""
        return not self.count and not self._waits

    def enter(self) -> bool:
        """Count one more, if there is room for it."""
        if self.count >= self._limit:
            return False
        self.count += 1
        return True

    async def wait(self) -> None:
        """Count one more as soon as there is room."""
        while not self.enter():
            self._waits += 1
            try:
                await self._waiting.park()
            finally:
                self._waits -= 1

    def leave(self) -> None:
        """Count one less, and let in who waits longest."""
        self.count -= 1
        if self._waits:
            self._waiting.unpark()


class OwnRoom:
    """One client's room within that of all: a Room. It goes from `rooms` when nobody is in it, or waits for it."""

    def __init__(self, key: bytes, limit: int, everyone: UnderWay, rooms: dict[bytes, OwnRoom]) -> None:
        self._own, self._everyone = UnderWay(limit), everyone
        self._key, self._rooms = key, rooms

    def enter(self) -> bool:
        """Count one more, if there is room for it here and there."""
        if self._own.enter():
            if self._everyone.enter():
                return True
            self._leave_own()
        return False

    async def wait(self) -> None:
        """Count one more as soon as there is room, first here and then there."""
        try:
            await self._own.wait()
        except trio.Cancelled:
            self._end_if_empty()
            raise
        try:
            await self._everyone.wait()
        except trio.Cancelled:
            self._leave_own()
            raise

    def leave(self) -> None:
        """Count one less, and let in who waits longest."""
        self._everyone.leave()
        self._leave_own()

    def _leave_own(self) -> None:
        self._own.leave()
        self._end_if_empty()

    def _end_if_empty(self) -> None:
        if self._own.is_empty and self._rooms.get(self._key) is self:
            del self._rooms[self._key]


class Intake:
    """Made once per process, given to every listener and connection."""

    def __init__(self, front: Front, limits: Listen, counters: Counters, clients: ClientLimits = NO_LIMITS) -> None:
        self.front = front
        self.limits = limits
        self.counters = counters
        self.under_way = UnderWay(limits.in_flight)
        self.limit(clients)

    def limit(self, clients: ClientLimits) -> None:
        """Keep these limits for each client from now on."""
        self._clients = clients
        self._prefixes = Prefixes(clients.ipv4_prefix, clients.ipv6_prefix)
        self._rooms: dict[bytes, OwnRoom] = {}
        self.limited: Limit | None = None
        """Knows which clients ask too often by UDP; None if they may ask as often as they like."""
        if clients.queries_per_second:
            self.limited = Limited(Rates(clients, self._prefixes), self.counters)

    def room(self, host: str) -> Room:
        """Where a query of the client at this address has to find room."""
        if not self._clients.in_flight:
            return self.under_way
        key = self._prefixes.of(host)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = OwnRoom(key, self._clients.in_flight, self.under_way, self._rooms)
        return room
