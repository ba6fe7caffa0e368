"""One client's QUIC connection: packets on one side, what is spoken on its streams on the other, its limits between them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol

import trio
from aioquic.quic import events

from dohproxy.contained import contained
from dohproxy.listen.intake import Intake
from dohproxy.listen.quic_table import QuicTable
from dohproxy.listen.stream_queries import StreamQueries
from dohproxy.model import Attested, Peer, Transport
from dohproxy.protocol.quic_server import ServerConnection

log = logging.getLogger(__name__)

HANDSHAKE = 5.0
"""Seconds that a handshake may take."""
PATIENCE = 10.0
"""Seconds at least, and twice as many at most, that a client may leave an answer unread while it goes on sending."""
LINGER = 0.5
"""Seconds that the last answers have to be acknowledged, once there will be no more."""
MAX_OWED = 524288
"""Octets of answers that a client may leave unread."""
MAX_WITHDRAWN = 256
"""Queries that a client may withdraw beyond those that it let us answer."""

Path = tuple[Any, Any]
"""A client's address, as the socket module has it, and what makes datagrams leave from the address that it asked."""


class Session(Protocol):
    """What is spoken on a connection."""

    excess: int
    """The error code for a client that wants too much of us."""
    closed: int
    """The code for a connection that ends in order."""

    @property
    def held(self) -> int:
        """Octets kept of requests that are not complete."""
        ...

    def handle(self, event: events.QuicEvent) -> None:
        """Take what came on a stream."""
        ...

    def stop(self) -> None:
        """Take no more, and tell the client, where there is a way to."""
        ...


class Home(Protocol):
    """Where a connection's datagrams come from and go to."""

    def lead(self, connection_id: bytes, connection: QuicConnection) -> None:
        """Datagrams to this connection ID are for this connection."""
        ...

    def mislead(self, connection_id: bytes) -> None:
        """Datagrams to this connection ID are for nobody any more."""
        ...

    def changed(self, connection: QuicConnection) -> None:
        """There is something to send."""
        ...

    def forget(self, connection: QuicConnection) -> None:
        """The connection is no more."""
        ...


class QuicConnection:
    """From the first packet of a client to the last. The session begins when the client's certificate, if any, is verified."""

    def __init__(
        self,
        number: int,
        quic: ServerConnection,
        path: Path,
        transport: Transport,
        intake: Intake,
        table: QuicTable,
        home: Home,
        nursery: trio.Nursery,
        speak: Callable[[QuicConnection], Session],
    ) -> None:
        self.number = number
        self.quic = quic
        self.admitted: str = path[0][0]
        """The client's address when it came."""
        self.idle_since = math.inf
        """When the last answer was given; math.inf while there is a handshake or a query under way."""
        self.eager = False
        """Whether there is more to send than acknowledgements, which may wait."""
        self.ids: set[bytes] = set()
        """The connection IDs that lead here; these and `alarms` are kept by the listener."""
        self.alarms: list[float] = []
        """When it is looked after, the soonest last."""
        self.queries = StreamQueries(self.admitted, transport, intake, nursery, self._settle, self._forget)
        self._path = path
        self.counters = intake.counters
        self._table, self._home, self._speak = table, home, speak
        self._session: Session | None = None
        self._open = True
        self._stopping = False
        self._owed = 0
        self._credit = MAX_WITHDRAWN
        self._unread: set[int] = set()
        self._end_at = trio.current_time() + HANDSHAKE
        self._look_at = self._ask_at = math.inf
        table.enter(self)

    @property
    def half_open(self) -> bool:
        """Whether it is a handshake still, of a client that has shown its address to be true."""
        return self._session is None and self.quic.retried

    def contained(self) -> AbstractContextManager[None]:
        """Has a defect within the block end this connection, and nothing else: whatever a stranger's packet finds in us."""
        return contained("a QUIC connection", self._forget)

    # Packets

    def listen(self) -> None:
        """Heed what the first datagram has brought."""
        self._handle_events()

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a datagram of the client's."""
        if self.quic.closing:
            return
        with self.contained():
            self.quic.receive_datagram(datagram, path, now)
            self._handle_events()
            if now >= self._look_at:
                self._look(now)
            if self._stopping:
                self._finish()

    def datagrams(self, now: float) -> list[tuple[bytes, Path]]:
        """What there is to send now, and where to."""
        if self.eager:
            self.quic.acknowledge(now)
            self.eager = False
        sent: list[tuple[bytes, Path]] = self.quic.datagrams_to_send(now)
        self._handle_events()
        return sent

    def expire(self, now: float) -> None:
        """Do what is due."""
        if now >= self._end_at:
            self.end()
        if now >= self._ask_at:
            self._ask_who_it_is(now)
        at = self.quic.get_timer()
        if at is not None and now >= at:
            self.quic.handle_timer(now)
            self._handle_events()

    def due(self) -> float:
        """When `expire` should next be called."""
        at = self.quic.get_timer()
        own = min(self._end_at, self._ask_at)
        return own if at is None else min(at, own)

    def _handle_events(self) -> None:
        path = self.quic.path
        if path is not None and path is not self._path:
            self._move(path)
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, events.ConnectionIdIssued):
                self._home.lead(event.connection_id, self)
            elif isinstance(event, events.ConnectionIdRetired):
                self._home.mislead(event.connection_id)
            elif isinstance(event, events.HandshakeCompleted):
                self._begin()
            elif isinstance(event, events.ConnectionTerminated):
                self._forget()
            elif self._session is not None and not self.quic.closing:
                self._session.handle(event)
        if self.quic.closing:
            self._release()

    def _begin(self) -> None:
        """The client is who it says: listen to it."""
        handshake = self.quic.handshake
        assert handshake is not None and handshake.done, "a client that was not judged"
        self.queries.peer = _peer(self._path, handshake.identity)
        self._table.handshakes -= 1
        self.counters.tls_handshakes += 1
        self.counters.tls_resumed += self.quic.tls.session_resumed
        self._session = self._speak(self)
        self.quic.held = lambda: self._session.held if self._session is not None else 0
        now = trio.current_time()
        self.idle_since, self._end_at, self._look_at = now, math.inf, now + PATIENCE
        self._ask_who_it_is(now)
        self.quic.settle()

    def _ask_who_it_is(self, now: float) -> None:
        """Take no more queries once the client's certificate does not count any more; else ask again in time."""
        assert self.quic.handshake is not None
        seconds = self.quic.handshake.holds()
        self._ask_at = now + seconds if seconds > 0 else math.inf
        if seconds <= 0:
            self.stop()

    def _move(self, path: Path) -> None:
        """The client is somewhere else now, as it has proven (RFC 9000 9.3)."""
        self._path = path
        if self.quic.handshake is not None:
            self.queries.peer = _peer(path, self.quic.handshake.identity)

    # What is asked and answered

    def ask(self, stream: int, wire: bytes, put: Callable[[int, bytes], None]) -> None:
        """Ask what a request on this stream asks; `put` takes the answer."""
        self.idle_since = math.inf
        self.queries.ask(stream, wire, partial(self._put, put))

    def _put(self, put: Callable[[int, bytes], None], stream: int, reply: bytes) -> None:
        with self.contained():
            put(stream, reply)

    def answer(self, stream: int, octets: bytes, *, end: bool = True) -> None:
        """Send an answer, or a part of it; nothing happens if the client does not want it any more."""
        if self.quic.closing or not self.quic.is_open(stream):
            return
        self.quic.send_stream_data(stream, octets, end_stream=end)
        self.note(len(octets))

    def note(self, octets: int) -> None:
        """So much of an answer was given to be sent."""
        self._credit = min(self._credit + 1, MAX_WITHDRAWN)
        self._owed += octets
        if self._owed > MAX_OWED:
            self._owed = self.quic.owed()
            if self._owed > MAX_OWED:
                self._refuse("answers are not read")
        self._home.changed(self)

    def reset(self, stream: int, error: int) -> None:
        """There is no answer on this stream."""
        if not self.quic.closing and self.quic.is_open(stream):
            self.quic.reset_stream(stream, error)
            self._home.changed(self)

    def withdraw(self, stream: int) -> None:
        """The client does not want the answer on this stream; too often, and it wastes our time (CVE-2023-44487)."""
        self.queries.withdraw(stream)
        self._credit -= 1
        if self._credit < 0:
            self._refuse("queries are withdrawn")
        self._settle()

    def close(self, error: int, reason: str) -> None:
        """End the connection with an error."""
        self.counters.quic_broken += 1
        self.quic.close(error, None, reason)
        self._home.changed(self)

    # How it ends

    def stop(self) -> None:
        """Take no more queries; the answers to those under way still leave."""
        self._stopping = True
        if self._session is None:
            self.end()
        else:
            self._session.stop()
            self._home.changed(self)
            self._settle()

    def end(self) -> None:
        """Close it in order, whatever is under way."""
        self.quic.close(self._session.closed if self._session is not None else 0, None if self._session is not None else 0)
        self._release()
        self._home.changed(self)

    def _settle(self) -> None:
        """Note that there is no query under way, if so."""
        if self.queries:
            return
        self.idle_since = trio.current_time()
        if self._stopping:
            self._end_at = self.idle_since + LINGER
            self._finish()

    def _finish(self) -> None:
        """End, if the client has got all that it will get."""
        if self._open and not self.queries and not self.quic.answered():
            self.end()

    def _look(self, now: float) -> None:
        """See whether the client reads what it asks for."""
        self._look_at = now + PATIENCE
        unread = self.quic.answered()
        if unread & self._unread:
            self._refuse("answers are not read")
        self._unread = unread

    def _refuse(self, reason: str) -> None:
        if self._session is not None:
            self.close(self._session.excess, reason)

    def _release(self) -> None:
        """Count no more, and work for the client no more; its late packets still have somewhere to go."""
        if not self._open:
            return
        self._open = False
        self._end_at = self._ask_at = math.inf
        if self._session is None:
            self._table.handshakes -= 1
            self.counters.tls_failed += 1
            log.debug("no connection with a client by QUIC: %s", self.quic.why_closed or "it went away")
        self._session = None
        self.queries.cancel()
        self._table.leave(self)

    def _forget(self) -> None:
        self.quic.closing = True
        self._release()
        self._home.forget(self)


def _peer(path: Path, identity: str) -> Peer:
    host: str = path[0][0]
    return Attested(host, identity) if identity else host
