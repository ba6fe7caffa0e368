"""Plain DNS over TCP (RFC 7766): accept connections within the limits, and serve each until it ends."""

from __future__ import annotations

import errno
import logging
import socket

import trio

from dohproxy.config.settings import Listen
from dohproxy.listen.intake import Intake
from dohproxy.listen.stream import StreamConnection
from dohproxy.model import Transport
from dohproxy.telemetry.counters import Counters

log = logging.getLogger(__name__)

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE = 0.1
"""Seconds without accepting after the system ran out of something."""


class ConnectionTable:
    """The open connections of all listeners, and who must go when one too many comes (RFC 7766 6.2.2).

    Over either limit, in all or per client address, the connection that has been idle longest makes room: over the
    client's limit one of its own. Where none is idle the newcomer is refused, so queries under way are never cut off.
    """

    def __init__(self, limits: Listen, counters: Counters) -> None:
        self._limit = limits.tcp_connections
        self._limit_per_client = limits.tcp_connections_per_client
        self._counters = counters
        self._open: dict[str, set[StreamConnection]] = {}

    def admit(self, newcomer: StreamConnection) -> bool:
        """Enter a connection, if there is room or room can be made."""
        own = self._open.get(newcomer.host, set())
        if not (self._has_room(own, self._limit_per_client) and self._has_room(self.all(), self._limit)):
            self._counters.tcp_refused += 1
            return False
        self._open.setdefault(newcomer.host, set()).add(newcomer)
        self._counters.tcp_open += 1
        return True

    def _has_room(self, connections: set[StreamConnection], limit: int) -> bool:
        if len(connections) < limit:
            return True
        oldest = min(connections, key=lambda connection: connection.idle_since, default=None)
        if oldest is None or not oldest.idle:
            return False
        self._counters.tcp_displaced += 1
        self.remove(oldest)
        oldest.close()
        return True

    def remove(self, connection: StreamConnection) -> None:
        """Forget a connection; nothing happens if it was forgotten before."""
        own = self._open.get(connection.host, set())
        if connection in own:
            own.remove(connection)
            self._counters.tcp_open -= 1
        if not own:
            self._open.pop(connection.host, None)

    def all(self) -> set[StreamConnection]:
        """Every open connection."""
        return set().union(*self._open.values())


class TcpListener:
    """One listening socket and the connections that came through it."""

    def __init__(self, sock: socket.socket, intake: Intake, table: ConnectionTable) -> None:
        self._socket = sock
        self._intake = intake
        self._table = table
        self._own: set[StreamConnection] = set()
        self._accepting = trio.CancelScope()

    async def run(self) -> None:
        """Serve until stopped; ends when the last connection has its answers."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        async with trio.open_nursery() as connections:
            with self._accepting:
                while True:
                    await self._accept(listener, connections)

    def stop(self) -> None:
        """Take no more connections and no more queries."""
        self._accepting.cancel()
        for connection in self._own:
            connection.stop()

    async def _accept(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        try:
            stream = await listener.accept()
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            log.warning("cannot accept TCP connections: %s", error.strerror)
            await trio.sleep(PAUSE)
            return
        self._intake.counters.tcp_accepted += 1
        try:
            host = stream.socket.getpeername()[0]
        except OSError:  # gone already
            await trio.aclose_forcefully(stream)
            return
        connections.start_soon(self._serve, stream, host)

    async def _serve(self, stream: trio.SocketStream, host: str) -> None:
        connection = StreamConnection(stream, host, Transport.TCP, self._intake)
        if not self._table.admit(connection):
            await trio.aclose_forcefully(stream)
            return
        self._own.add(connection)
        if self._accepting.cancel_called:
            connection.stop()
        try:
            await connection.run()
        finally:
            self._own.discard(connection)
            self._table.remove(connection)
