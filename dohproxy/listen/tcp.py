"""Connections over TCP, whatever is spoken on them: accepted within the limits, and served until they end (RFC 7766)."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Protocol

import trio

from dohproxy.config.settings import Listen
from dohproxy.contained import contained, kept
from dohproxy.errors import DohproxyError, MalformedMessage
from dohproxy.listen import proxy_protocol
from dohproxy.listen.intake import Intake
from dohproxy.listen.stream import StreamConnection
from dohproxy.model import Transport
from dohproxy.telemetry.counters import Counters

log = logging.getLogger(__name__)

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
PAUSE = 0.1
"""Seconds without accepting after the system ran out of something."""
OPENING = 5.0
"""Seconds that a client, or its load balancer, has for what comes before the first message."""


class Served(Protocol):
    """A connection that is being served."""

    host: str

    @property
    def idle(self) -> bool:
        """Whether no query is under way."""
        ...

    @property
    def idle_since(self) -> float:
        """When the last answer left; math.inf while queries are under way."""
        ...

    async def run(self) -> None:
        """Serve it to its end, and close it."""
        ...

    def stop(self) -> None:
        """Take no more queries; the answers to those under way still leave."""
        ...

    def close(self) -> None:
        """End at once."""
        ...


Speak = Callable[[trio.SocketStream, str, Intake], Served]
"""Makes the connection of a stream and its client's address; raises DohproxyError where that is not possible now."""


def speak_dns(stream: trio.SocketStream, host: str, intake: Intake) -> Served:
    """DNS as it is."""
    return StreamConnection(stream, host, Transport.TCP, intake)


class ConnectionTable:
    """The open connections of all listeners, and who must go when one too many comes (RFC 7766 6.2.2).

    Over either limit, in all or per client address, the connection that has been idle longest makes room: over the
    client's limit one of its own. Where none is idle the newcomer is refused, so queries under way are never cut off.
    """

    def __init__(self, limits: Listen, counters: Counters) -> None:
        self._limit = limits.tcp_connections
        self._limit_per_client = limits.tcp_connections_per_client
        self._counters = counters
        self._open: dict[str, set[Served]] = {}

    def admit(self, newcomer: Served) -> bool:
        """Enter a connection, if there is room or room can be made."""
        own = self._open.get(newcomer.host, set())
        if not (self._has_room(own, self._limit_per_client) and self._has_room(self.all(), self._limit)):
            self._counters.tcp_refused += 1
            return False
        self._open.setdefault(newcomer.host, set()).add(newcomer)
        self._counters.tcp_open += 1
        return True

    def _has_room(self, connections: set[Served], limit: int) -> bool:
        if len(connections) < limit:
            return True
        oldest = min(connections, key=lambda connection: connection.idle_since, default=None)
        if oldest is None or not oldest.idle:
            return False
        self._counters.tcp_displaced += 1
        self.remove(oldest)
        oldest.close()
        return True

    def remove(self, connection: Served) -> None:
        """Forget a connection; nothing happens if it was forgotten before."""
        own = self._open.get(connection.host, set())
        if connection in own:
            own.remove(connection)
            self._counters.tcp_open -= 1
        if not own:
            self._open.pop(connection.host, None)

    def all(self) -> set[Served]:
        """Every open connection."""
        return set().union(*self._open.values())


class TcpListener:
    """One listening socket and the connections that came through it, on which `speak` has us speak."""

    def __init__(self, sock: socket.socket, intake: Intake, table: ConnectionTable, speak: Speak = speak_dns) -> None:
        self._socket, self._speak = sock, speak
        self._intake = intake
        self._table = table
        self._own: set[Served] = set()
        self._accepting = trio.CancelScope()

    async def run(self) -> None:
        """Serve until stopped; ends when the last connection has its answers."""
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(self._socket))
        async with trio.open_nursery() as connections:
            with self._accepting:
                await kept("taking TCP connections", partial(self._accept_all, listener, connections), longest=PAUSE)

    def stop(self) -> None:
        """Take no more connections and no more queries."""
        self._accepting.cancel()
        for connection in self._own:
            connection.stop()

    async def _accept_all(self, listener: trio.SocketListener, connections: trio.Nursery) -> None:
        while True:
            await self._accept(listener, connections)

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
        connections.start_soon(self._contain, stream, host)

    async def _contain(self, stream: trio.SocketStream, host: str) -> None:
        with contained(f"a connection of {host}"):
            try:
                await self._serve(stream, host)
            finally:
                stream.socket.close()

    async def _serve(self, stream: trio.SocketStream, host: str) -> None:
        try:
            connection = self._speak(stream, await self._client(stream, host), self._intake)
        except (DohproxyError, trio.BrokenResourceError, trio.TooSlowError) as error:
            log.debug("a connection of %s was not taken: %s", host, error)
            self._intake.counters.tcp_broken += 1
            await trio.aclose_forcefully(stream)
            return
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

    async def _client(self, stream: trio.SocketStream, host: str) -> str:
        """The client's address: the balancer's word for it, where one is between us."""
        networks = self._intake.limits.proxy_protocol
        if not networks or not any(ip_address(host) in network for network in networks):
            return host
        if self._accepting.cancel_called:
            raise MalformedMessage("no more connections are taken")
        with trio.fail_after(OPENING):
            return await proxy_protocol.receive(stream, host)
