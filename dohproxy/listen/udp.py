"""Plain DNS over UDP (RFC 1035 4.2.1): take datagrams in batches, answer what is at hand, start tasks for the rest."""

from __future__ import annotations

import socket
from collections import deque

import trio

from dohproxy.core import datagrams
from dohproxy.core.mmsg import BATCH, Address
from dohproxy.core.pktinfo import Ancillary, wants_packet_info
from dohproxy.core.pure import Miss
from dohproxy.listen.intake import Intake, Room
from dohproxy.model import Transport

BATCHES = 4
"""Batches taken in a turn at most."""
STARTS = 32
"""Misses begun in a turn: each costs as much as dozens of hits, which come in between."""


class UdpListener:
    """One socket: its reader and the tasks of the queries that are under way."""

    def __init__(self, sock: socket.socket, intake: Intake) -> None:
        self._socket = sock
        self._intake = intake
        self._front = intake.front
        self._counters = intake.counters
        self._taking = trio.CancelScope()
        self._waiting: deque[tuple[Miss, Room]] = deque()
        self.renew()

    def renew(self) -> None:
        """Take datagrams by the limits that the intake has now."""
        self._datagrams = datagrams(self._socket, self._intake.recall, self._counters, wants_packet_info(self._socket))

    async def run(self) -> None:
        """Serve until stopped; ends when the last answer is out."""
        async with trio.open_nursery() as answers:
            with self._taking:
                while True:
                    await self._turn()
                    self._take()
                    self._start(answers, STARTS)
            self._start(answers, len(self._waiting))

    def stop(self) -> None:
        """Take no more queries."""
        self._taking.cancel()

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
                room = self._intake.room(miss[1][0])
                if room.enter():
                    self._waiting.append((miss, room))
                else:
                    self._counters.shed += 1
            if not self._waiting or self._counters.udp_queries - before < BATCH:
                return

    def _start(self, answers: trio.Nursery, most: int) -> None:
        for _ in range(min(most, len(self._waiting))):
            self._counters.misses += 1
            miss, room = self._waiting.popleft()
            answers.start_soon(self._answer, *miss, room)

    async def _answer(self, wire: bytes, client: Address, back: Ancillary | None, room: Room) -> None:
        try:
            reply = await self._front.answer(wire, client[0], Transport.UDP)
        finally:
            room.leave()
        self._send(reply, client, back)

    def _send(self, reply: bytes, client: Address, back: Ancillary | None) -> None:
        """Send, or count that it was not possible: a full buffer or an unreachable client ends nothing."""
        if not reply:
            return
        self._counters.rcodes[reply[3] & 15] += 1
        try:
            if back is None:
                self._socket.sendto(reply, client)
            else:
                self._socket.sendmsg([reply], back, 0, client)
        except OSError:
            self._counters.send_errors += 1
