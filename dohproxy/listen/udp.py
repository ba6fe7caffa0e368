"""Plain DNS over UDP (RFC 1035 4.2.1): take datagrams in batches, answer what is at hand, start tasks for the rest."""

from __future__ import annotations

import socket
from typing import Any

import trio

from dohproxy.listen.intake import Intake
from dohproxy.listen.pktinfo import Ancillary, reply_ancillary, wants_packet_info
from dohproxy.model import Transport

BATCH = 64
"""Datagrams taken before other tasks have their turn."""
MAX_QUERY = 4096
"""Octets of a datagram that are read; a longer one is no query that anybody sends, and is answered FORMERR."""
ANCILLARY = 128

Address = Any
"""As the socket module has it: a tuple whose first item is the IP address as text."""


class UdpListener:
    """One socket: its reader and the tasks of the queries that are under way."""

    def __init__(self, sock: socket.socket, intake: Intake) -> None:
        self._socket = sock
        self._front = intake.front
        self._under_way = intake.under_way
        self._counters = intake.counters
        self._taking = trio.CancelScope()
        self._drain = self._drain_wildcard if wants_packet_info(sock) else self._drain_specific

    async def run(self) -> None:
        """Serve until stopped; ends when the last answer is out."""
        async with trio.open_nursery() as answers:
            with self._taking:
                while True:
                    await trio.lowlevel.wait_readable(self._socket)
                    self._drain(answers)

    def stop(self) -> None:
        """Take no more queries."""
        self._taking.cancel()

    def _drain_specific(self, answers: trio.Nursery) -> None:
        receive, recall, send = self._socket.recvfrom, self._front.recall, self._socket.sendto
        counters, rcodes = self._counters, self._counters.rcodes
        for _ in range(BATCH):
            try:
                wire, client = receive(MAX_QUERY)
            except BlockingIOError:
                return
            except OSError:
                counters.receive_errors += 1
                return
            counters.udp_queries += 1
            reply = recall(wire, client[0], Transport.UDP)
            if reply is None:
                self._start(answers, wire, client, None)
                continue
            counters.hits += 1
            rcodes[reply[3] & 15] += 1
            try:
                send(reply, client)
            except OSError:
                counters.send_errors += 1

    def _drain_wildcard(self, answers: trio.Nursery) -> None:
        receive, recall, counters = self._socket.recvmsg, self._front.recall, self._counters
        for _ in range(BATCH):
            try:
                wire, ancillary, _flags, client = receive(MAX_QUERY, ANCILLARY)
            except BlockingIOError:
                return
            except OSError:
                counters.receive_errors += 1
                return
            counters.udp_queries += 1
            back = reply_ancillary(ancillary)
            reply = recall(wire, client[0], Transport.UDP)
            if reply is None:
                self._start(answers, wire, client, back)
            else:
                counters.hits += 1
                self._send(reply, client, back)

    def _start(self, answers: trio.Nursery, wire: bytes, client: Address, back: Ancillary | None) -> None:
        if self._under_way.enter():
            self._counters.misses += 1
            answers.start_soon(self._answer, wire, client, back)
        else:
            self._counters.shed += 1

    async def _answer(self, wire: bytes, client: Address, back: Ancillary | None) -> None:
        try:
            reply = await self._front.answer(wire, client[0], Transport.UDP)
        finally:
            self._under_way.leave()
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
