"""QUIC over one UDP socket: datagrams to connections, answers back, and one clock for all of them.

Three tasks: one takes datagrams in batches, one sends what answers have come to in a turn, one watches the time.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from math import inf

import trio
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicErrorCode
from aioquic.quic.retry import QuicRetryTokenHandler

from dohproxy.bell import Bell
from dohproxy.contained import contained, kept
from dohproxy.core.mmsg import Batch
from dohproxy.core.pktinfo import wants_packet_info
from dohproxy.errors import DohproxyError, MalformedMessage
from dohproxy.listen.credentials import Credentials
from dohproxy.listen.intake import Intake
from dohproxy.listen.quic_connection import Path, QuicConnection, Session
from dohproxy.listen.quic_reception import QuicReception
from dohproxy.listen.quic_table import QuicTable
from dohproxy.model import Transport
from dohproxy.protocol import quic_packets as packets
from dohproxy.protocol.quic_server import MAX_STREAM, WINDOW, ServerConnection

log = logging.getLogger(__name__)

STRAYS = 100
"""Stateless resets sent in a second at most."""
GRANULARITY = 0.001
"""Seconds: nothing is due sooner than this (RFC 9002 6.1.2)."""
MAX_HOSTS = 65536
LONGEST = 0.1
"""Seconds without service after a defect."""


class QuicListener:
    """One socket and its connections; what is spoken on them is made by `speak`, and named `alpn` (RFC 7301)."""

    def __init__(
        self,
        sock: socket.socket,
        intake: Intake,
        table: QuicTable,
        reception: QuicReception,
        transport: Transport,
        alpn: str,
        speak: Callable[[QuicConnection], Session],
    ) -> None:
        self._socket, self._batch = sock, Batch(sock, wants_packet_info(sock))
        self._intake, self._table, self._reception = intake, table, reception
        self._counters = intake.counters
        self._transport, self._alpn, self._speak = transport, alpn, speak
        self._reset_key = reception.reset_key()
        self._versions = QuicConfiguration(is_client=False).supported_versions
        self._tokens = QuicRetryTokenHandler()
        self._connections: dict[bytes, QuicConnection] = {}
        self._open: dict[int, QuicConnection] = {}
        self._count = 0
        self._to_send: dict[QuicConnection, None] = {}
        self._alarms: list[tuple[float, int]] = []
        """When, and the number of the connection, which may be no more by then: what is left of one is small."""
        self._resets, self._resets_since = 0, 0.0
        self._hosts: dict[bytes, str] = {}
        self._sending = Bell()
        self._clock = trio.CancelScope()
        self._running = trio.CancelScope()
        self._stopping = False
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._open)

    async def run(self) -> None:
        """Serve until stopped; ends when the last connection is closed."""
        with self._running:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(partial(kept, "sending over QUIC", self._send_answers, longest=LONGEST))
                nursery.start_soon(partial(kept, "watching the time of QUIC", self._watch_time, longest=LONGEST))
                try:
                    await kept("taking datagrams of QUIC", self._take_datagrams, longest=LONGEST)
                finally:  # while the nursery takes what queries under way may become
                    self._end_all()

    def _end_all(self) -> None:
        for connection in list(self._open.values()):
            with connection.contained():
                connection.end()
        self._flush()

    def stop(self) -> None:
        """Take no more connections and no more queries; what is under way is answered."""
        self._stopping = True
        for connection in list(self._open.values()):
            with connection.contained():
                connection.stop()
        self._flush()
        self._leave_if_done()

    def use(self, credentials: Credentials) -> None:
        """Take connections with these from now on."""
        self._reception.use(credentials)

    # Datagrams

    async def _take_datagrams(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            self._take()
            self._flush()

    def _take(self) -> None:
        try:
            datagrams, clients = self._batch.receive()
        except BlockingIOError:
            return
        except OSError:
            self._counters.receive_errors += 1
            return
        now = trio.current_time()
        for i, (datagram, client) in enumerate(zip(datagrams, clients, strict=True)):
            path = self._batch.address(i, self._hosts.get(client) or self._host(client)), self._batch.back(i)
            self._route(datagram, path, now)

    def _host(self, client: bytes) -> str:
        if len(self._hosts) >= MAX_HOSTS:
            self._hosts.clear()
        host = self._hosts[client] = socket.inet_ntop(self._socket.family, client)
        return host

    def _route(self, datagram: bytes, path: Path, now: float) -> None:
        """Give a datagram to its connection, begin one with it, or answer that there is none."""
        connection = self._connections.get(datagram[1:9]) if datagram and not datagram[0] & packets.LONG else None
        if connection is None:
            try:
                header = packets.header_untrusted(datagram)
                connection = self._connections.get(header.destination)
                if connection is None:
                    self._answer_stranger(datagram, header, path, now)
            except MalformedMessage:
                self._counters.quic_strays += 1
        if connection is not None:
            connection.receive(datagram, path, now)
            self._to_send[connection] = None

    def _answer_stranger(self, datagram: bytes, header: packets.Header, path: Path, now: float) -> None:
        if header.version is None:
            self._counters.quic_strays += 1
            if self._may_reset(now) and (reset := packets.stateless_reset(self._reset_key, datagram)) is not None:
                self._send(reset, path)
        elif header.version not in self._versions:
            self._counters.quic_strays += 1
            if header.version and len(datagram) >= packets.MIN_INITIAL:
                self._send(packets.version_negotiation(header, self._versions), path)
        elif (token := packets.initial_token_untrusted(datagram)) is None or self._stopping:
            self._counters.quic_strays += 1
        else:
            self._welcome(datagram, header, token, path, now)

    def _may_reset(self, now: float) -> bool:
        if now - self._resets_since >= 1:
            self._resets, self._resets_since = 0, now
        self._resets += 1
        return self._resets <= STRAYS

    def _welcome(self, datagram: bytes, header: packets.Header, token: bytes, path: Path, now: float) -> None:
        """Begin a connection, if there is room for it, and first ask for a proof of the address if there are many."""
        original, retried = header.destination, None
        if token:
            retried = header.destination
            try:
                original = self._tokens.validate_token(address=path[0], destination_cid=retried, token=token, now=now)
            except ValueError:
                self._send(packets.refusal(header, QuicErrorCode.INVALID_TOKEN), path)
                return
        elif self._table.wary:
            self._retry(header, path, now)
            return
        if not self._table.has_room(path[0][0]):
            self._refuse(header, path)
            return
        try:
            configuration = self._configuration()
        except DohproxyError as error:
            log.warning("a QUIC connection is refused: %s", error)
            self._refuse(header, path)
            return
        with contained("the beginning of a QUIC connection"):
            self._begin(configuration, datagram, header.destination, original, retried, path, now)

    def _refuse(self, header: packets.Header, path: Path) -> None:
        self._counters.quic_refused += 1
        self._send(packets.refusal(header, QuicErrorCode.CONNECTION_REFUSED), path)

    def _retry(self, header: packets.Header, path: Path, now: float) -> None:
        self._counters.quic_retried += 1
        source = os.urandom(packets.ID_SIZE)
        token = self._tokens.create_token(
            address=path[0],
            original_destination_connection_id=header.destination,
            retry_source_connection_id=source,
            now=now,
        )
        self._send(packets.retry(header, source, token), path)

    def _begin(
        self,
        configuration: QuicConfiguration,
        datagram: bytes,
        destination: bytes,
        original: bytes,
        retried: bytes | None,
        path: Path,
        now: float,
    ) -> None:
        assert self._nursery is not None
        quic = ServerConnection(
            configuration,
            self._reception,
            original=original,
            retried=retried,
            streams=self._intake.limits.tcp_pipeline,
            reset_key=self._reset_key,
        )
        quic.receive_datagram(datagram, path, now)
        if not quic.begun:  # nothing in it could be read
            self._counters.quic_strays += 1
            return
        self._count += 1
        connection = self._open[self._count] = QuicConnection(
            self._count, quic, path, self._transport, self._intake, self._table, self, self._nursery, self._speak
        )
        self.lead(destination, connection)
        self.lead(quic.host_cid, connection)
        with connection.contained():
            connection.listen()
        self._to_send[connection] = None

    def _configuration(self) -> QuicConfiguration:
        certificate = self._reception.certificates()[0]
        return QuicConfiguration(
            is_client=False,
            alpn_protocols=[self._alpn],
            idle_timeout=self._intake.limits.quic_idle_timeout,
            connection_id_length=packets.ID_SIZE,
            max_stream_data=MAX_STREAM,
            max_data=WINDOW,
            certificate=certificate.chain[0],
            certificate_chain=list(certificate.chain[1:]),
            private_key=certificate.key,
        )

    def _flush(self) -> None:
        """Send what the connections have to send."""
        now = trio.current_time()
        while self._to_send:
            connection, _ = self._to_send.popitem()
            with connection.contained():
                for datagram, path in connection.datagrams(now):
                    self._send(datagram, path)
                self._set_alarm(connection, now)

    def _send(self, datagram: bytes, path: Path) -> None:
        """Send, or count that it was not possible; what is lost is sent again."""
        client, back = path
        try:
            if back is None:
                self._socket.sendto(datagram, client)
            else:
                self._socket.sendmsg([datagram], back, 0, client)
        except OSError:
            self._counters.send_errors += 1

    async def _send_answers(self) -> None:
        while True:
            await self._sending.heard()
            self._flush()

    # Connections

    def lead(self, connection_id: bytes, connection: QuicConnection) -> None:
        """Datagrams to this connection ID are for this connection."""
        self._connections[connection_id] = connection
        connection.ids.add(connection_id)

    def mislead(self, connection_id: bytes) -> None:
        """Datagrams to this connection ID are for nobody any more."""
        if (connection := self._connections.pop(connection_id, None)) is not None:
            connection.ids.discard(connection_id)

    def changed(self, connection: QuicConnection) -> None:
        """Have what it has to send leave in this turn, or the next."""
        connection.eager = True
        self._to_send[connection] = None
        self._sending.ring()

    def forget(self, connection: QuicConnection) -> None:
        """It is no more."""
        for connection_id in list(connection.ids):
            self.mislead(connection_id)
        self._open.pop(connection.number, None)
        self._to_send.pop(connection, None)
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if self._stopping and not self._open:
            self._running.cancel()

    # Time

    def _set_alarm(self, connection: QuicConnection, now: float) -> None:
        """Have the connection looked after in time. An alarm that is not needed any more stays, and finds nothing due."""
        if connection.number not in self._open:
            return
        at = max(connection.due(), now + GRANULARITY)
        if not connection.alarms or at < connection.alarms[-1]:
            connection.alarms.append(at)
            heappush(self._alarms, (at, connection.number))
            self._clock.deadline = min(self._clock.deadline, at)

    async def _watch_time(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._alarms[0][0] if self._alarms else inf) as self._clock:
                await trio.sleep_forever()
            now = trio.current_time()
            while self._alarms and self._alarms[0][0] <= now:
                connection = self._open.get(heappop(self._alarms)[1])
                if connection is not None:
                    connection.alarms.pop()
                    with connection.contained():
                        connection.expire(now)
                    self._to_send[connection] = None
            self._flush()
