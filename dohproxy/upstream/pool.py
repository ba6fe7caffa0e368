"""An upstream's connections: few, shared by all questions, opened only when those that are there have no room."""

from __future__ import annotations

import trio

from dohproxy.config import settings
from dohproxy.contained import contained
from dohproxy.errors import NoReachableUpstream, NotReady, Overloaded
from dohproxy.identity.own import BadCertificate
from dohproxy.model import Answer, Query, Transport
from dohproxy.protocol.session import StreamSession
from dohproxy.upstream.addresses import Addresses
from dohproxy.upstream.answers import answered
from dohproxy.upstream.bootstrap import Locate
from dohproxy.upstream.connection import Connection, State
from dohproxy.upstream.exchange import Exchange, Route
from dohproxy.upstream.stream_connection import StreamConnection
from dohproxy.upstream.tls import Layer, TlsClient

_OPEN = State.OPEN  # here: an enumeration looks its members up slowly


class Pool:
    """One upstream with its connections; its kinds say of what they are. Serves while `run` runs."""

    transport: Transport

    def __init__(
        self, upstream: settings.Upstream, forwarding: settings.Forwarding, addresses: Addresses | None = None
    ) -> None:
        self.name = upstream.name
        self._upstream = upstream
        self._limit = forwarding.connections
        self._connections: list[Connection] = []
        self._nursery: trio.Nursery | None = None
        self._addresses = addresses or Addresses(upstream.addresses)
        self._route = Route(
            upstream=upstream.name,
            transport=self.transport,
            addresses=self._addresses,
            port=upstream.port,
            connect_timeout=forwarding.connect_timeout,
            idle_timeout=forwarding.idle_timeout,
            pipeline=forwarding.pipeline,
        )

    def __repr__(self) -> str:
        connections = "; ".join(map(repr, self._connections)) or "no connection"
        return f"<{type(self).__name__} {self.name}: {connections}>"

    def located(self, locate: Locate) -> None:
        """How its addresses are found, where they are not configured."""
        if self._upstream.bootstrap:
            self._addresses.found_by(locate(self._upstream))

    def _connection(self) -> Connection:
        """A new one, which lives once it is run."""
        raise NotImplementedError

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the connections until it is cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def resolve(self, query: Query) -> Answer:
        """The upstream's answer, whatever its RCODE; raises ResolveError."""
        return await answered(self.begin(query), self.name, query.deadline)

    @property
    def is_open(self) -> bool:
        """Whether a question would leave at once."""
        return any(connection.state is State.OPEN for connection in self._connections)

    def begin(self, query: Query) -> Exchange:
        """Ask, on the connection that the pool chooses here and now. Raises NotReady, Overloaded, NoReachableUpstream."""
        return self._choose().begin(query.question, query.cd)

    def renew(self) -> None:
        """The network is another one: connections take no more questions, and end where they cannot be answered any more."""
        for connection in self._connections:
            try:
                self._renew(connection)
            except Exception as defect:  # noqa: BLE001 -- of one connection, and told
                connection.spoil(defect)

    def _renew(self, connection: Connection) -> None:
        connection.retire()

    def _choose(self) -> Connection:
        """The first connection with room; else a new one, in place of one that stalls if need be; else where fewest wait.

        Where one is silent, so are all that were open then: what goes wrong with one is mostly the way, or the server.
        """
        silent_since, tardy = -1.0, None
        for connection in self._connections:
            if silent_since < 0 and connection.state is _OPEN and connection.room > 0:
                return connection  # mostly
            if connection.room > 0:
                if connection.is_tardy:
                    tardy = connection
                elif not connection.shares_fate(silent_since):
                    return connection
                else:
                    connection.retire()
            elif connection.state is State.SUSPECT:
                silent_since = max(silent_since, connection.silent_since)
        if self._may_open() or (tardy is None and self._gave_up_one()):
            return self._open()
        if tardy is not None:
            return tardy
        shortest = max(self._connections, key=lambda connection: connection.queue)
        if shortest.queue <= 0:
            raise Overloaded(f"{self.name}: too many questions wait already")
        return shortest

    def _may_open(self) -> bool:
        """Those that only finish what they began do not count, up to as many again."""
        usable = sum(not connection.retiring for connection in self._connections)
        return usable < self._limit and len(self._connections) < 2 * self._limit

    def _gave_up_one(self) -> bool:
        for connection in self._connections:
            if connection.state is State.SUSPECT:
                connection.give_up()
                return True
        return False

    def _open(self) -> Connection:
        if self._nursery is None:
            raise NotReady(f"{self.name} is not running")
        try:
            connection = self._connection()
        except BadCertificate as error:
            raise NoReachableUpstream(f"{self.name}: {error}") from error
        connection.on_open = self._relieve
        self._connections.append(connection)
        self._nursery.start_soon(self._own, connection)
        return connection

    def _relieve(self, opened: Connection) -> None:
        """What waits for others to open need not wait any longer."""
        for connection in self._connections:
            if connection is not opened:
                opened.relieve(connection)

    async def _own(self, connection: Connection) -> None:
        try:
            with contained(f"a connection to {self.name}"):
                await connection.run()
        finally:
            self._connections.remove(connection)


class StreamPool(Pool):
    """One upstream that is spoken to over streams; its kinds say what is spoken."""

    def _connection(self) -> StreamConnection:
        return StreamConnection(self._route, self._session(), self._layer())

    def _session(self) -> StreamSession:
        """What a new connection speaks."""
        raise NotImplementedError

    def _layer(self) -> Layer:
        """What protects a new connection."""
        raise NotImplementedError


class TlsPool(StreamPool):
    """One upstream that is spoken to over TLS; its kinds say what is spoken."""

    _tls: TlsClient

    @property
    def resumed(self) -> int:
        """How many of its connections resumed a TLS session."""
        return self._tls.resumed

    def _layer(self) -> Layer:
        return self._tls.layer()
