"""Plain DNS over UDP (RFC 1035 4.2.1): take datagrams in batches, answer what is at hand, begin a course for each other."""

from __future__ import annotations

import socket
from collections import deque
from functools import partial

import trio

from dohproxy import courses
from dohproxy.bell import Bell, Turn
from dohproxy.contained import kept, tell
from dohproxy.core import datagrams
from dohproxy.core.mmsg import BATCH
from dohproxy.core.pktinfo import wants_packet_info
from dohproxy.core.pure import Miss
from dohproxy.listen.intake import Intake, Room
from dohproxy.model import Transport

BATCHES = 4
"""Batches taken in a turn at most."""
STARTS = 32
"""Misses begun in a turn: each costs as much as dozens of hits, which come in between."""

_UDP = Transport.UDP  # here: an enumeration looks its members up slowly
LONGEST = 0.1
"""Seconds without service after a defect."""


class UdpListener:
    """One socket: its reader, and the courses of the queries that are under way. Answers of one turn leave in one call."""

    def __init__(self, sock: socket.socket, intake: Intake) -> None:
        self._socket = sock
        self._intake = intake
        self._front = intake.front
        self._counters = intake.counters
        self._taking = trio.CancelScope()
        self._waiting: deque[tuple[Miss, Room]] = deque()
        self._replies: list[tuple[bytes, bytes]] = []
        self._bell = Bell(self._send_at_once)
        self.renew()

    def renew(self) -> None:
        """Take datagrams by the limits that the intake has now."""
        wildcard = wants_packet_info(self._socket)
        self._datagrams = datagrams(self._socket, self._front.recall, self._counters, wildcard, self._intake.limited)

    async def run(self) -> None:
        """Serve until stopped; ends when the last answer is out."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(kept, "sending datagrams", self._send_each_turn, longest=LONGEST))
            async with courses.owned() as begun:
                with self._taking:
                    await kept("taking datagrams", partial(self._take_all, begun), longest=LONGEST)
                self._begin(begun, len(self._waiting))
            self._send()
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Take no more queries."""
        self._taking.cancel()

    async def _take_all(self, begun: courses.Courses) -> None:
        while True:
            await self._turn()
            with Turn():
                self._take()
                self._begin(begun, STARTS)

    async def _turn(self) -> None:
        """Let other tasks have their turn, and wait until there is something to do."""
        if self._waiting:
            await trio.lowlevel.checkpoint()
        else:
            await trio.lowlevel.wait_readable(self._socket)

    def _take(self) -> None:
        """Answer what is at hand and queue the rest; several batches while misses wait, as turns are long then."""
        for _ in range(BATCHES):
            before = self._counters.udp_queries
            for miss in self._datagrams.take():
                room = self._intake.room(miss[1])
                if room.enter():
                    self._waiting.append((miss, room))
                else:
                    self._counters.shed += 1
            if not self._waiting or self._counters.udp_queries - before < BATCH:
                return

    def _begin(self, begun: courses.Courses, most: int) -> None:
        for _ in range(min(most, len(self._waiting))):
            self._counters.misses += 1
            (wire, host, origin), room = self._waiting.popleft()
            try:
                self._front.begin(wire, host, _UDP, begun, partial(self._answered, origin, room))
            except Exception as defect:  # noqa: BLE001 -- told
                tell("a query", defect)
                room.leave()

    def _answered(self, origin: bytes, room: Room, reply: bytes) -> None:
        """Take the reply, to be sent soon. Raises nothing: who tells it is innocent."""
        room.leave()
        try:
            if reply:
                self._counters.rcodes[reply[3] & 15] += 1
                self._replies.append((origin, reply))
                self._bell.ring()
        except Exception as defect:  # noqa: BLE001 -- told
            tell("a reply", defect)

    async def _send_each_turn(self) -> None:
        while True:
            await self._bell.heard()
            self._send()

    def _send_at_once(self) -> bool:
        self._send()
        return True

    def _send(self) -> None:
        """Send what is ready; what cannot be sent is counted: a full buffer or an unreachable client ends nothing."""
        replies, self._replies = self._replies, []
        self._datagrams.send(replies)
