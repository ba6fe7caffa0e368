"""One connection to an upstream over QUIC: what is asked on it goes into streams, on a path that may change."""

from __future__ import annotations

from math import inf

import trio
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent

from dohproxy.bell import Turn
from dohproxy.errors import Disconnected, MalformedMessage, NoHandshake, NoReachableUpstream, ResolveError, UpstreamFailed
from dohproxy.identity.own import BadCertificate
from dohproxy.protocol.quic_client import QuicSession
from dohproxy.upstream.connect import is_local
from dohproxy.upstream.connection import Connection, State
from dohproxy.upstream.exchange import Route
from dohproxy.upstream.quic import Path, in_words, is_alert, is_lost, meet
from dohproxy.upstream.quic_client import QuicClient
from dohproxy.upstream.tls import Unwelcome

_PATIENCE = 0.75
"""Seconds without a sign of life from a server that owes one, after which it gets no more questions until it speaks."""
_PROBES = 2
"""Times in a row that no acknowledgement came, after which the path is thought to be broken: another is tried."""
_IDLE_SHARE = 0.9
"""Of the time after which a peer may forget a connection: no question shall meet it just then."""


class QuicConnection(Connection):
    """Opens to the first address that answers, or with its first question to one that knows us."""

    _session: QuicSession

    def __init__(self, route: Route, session: QuicSession, client: QuicClient) -> None:
        super().__init__(route, session)
        self._client = client
        self._path: Path | None = None
        self._early = False
        """Whether questions have left before the server was heard."""
        self._moved = -inf
        """When the path was last changed."""

    @property
    def room(self) -> int:
        """How many more questions it could carry; those that its peer lets not begin yet wait for a moment only."""
        if self.state not in (State.OPEN, State.CONNECTING) or self._session.closing:
            return 0
        return self.route.pipeline - len(self._under_way) - len(self._backlog)

    @property
    def queue(self) -> int:
        """How many more questions may wait for their turn here."""
        return self.route.pipeline + self.room if self.state is not State.SUSPECT and not self.retiring else 0

    @property
    def greeted(self) -> bool:
        """Whether the server has answered at all."""
        return self._path is not None and self._path.quic.greeted

    async def _live(self) -> None:
        try:
            path = self._path = await self._connect()
            self._session.attach(path.quic)
            if self._early:
                self._admit()
            self._take(path)
            await self._read(path)
        except BadCertificate as error:
            self._end(NoHandshake(str(error)))
        except OSError as error:
            self._end(self._broken(error))

    async def _connect(self) -> Path:
        """With a session that lets questions leave at once, to where it was made; else to whoever answers first."""
        address = self._client.early_address()
        if address is None:
            return await meet(self._client, await self.route.addresses.known(), self.route.port)
        path = Path(self._client, address, self.route.port)
        self._early = path.quic.has_early_keys
        return path

    async def _read(self, path: Path) -> None:
        while True:
            try:
                await trio.lowlevel.wait_readable(path.socket)
                path.receive()
            except trio.ClosedResourceError:
                continue  # it moved to another socket
            except OSError as error:
                if not is_lost(error):
                    raise
                self._move(path)
                continue
            self._take(path)

    def _take(self, path: Path, *, heard: bool = True) -> None:
        """What the server has said, if it was heard, and what is to be said in turn."""
        self._heard = path.spoke
        events = path.events()
        try:
            with Turn():
                for event in events:
                    self._handle_untrusted(path, event)
        except MalformedMessage as error:
            path.quic.close(self._session.protocol_error)
            self._end(UpstreamFailed(str(error)))
            return
        if (end := path.quic.end) is not None:
            self._end(self._meaning(end))
            return
        if heard and (path.quic.trusted or self._early):
            self._admit()
        self._send(path)
        if events:
            self._end_if_done()

    def _handle_untrusted(self, path: Path, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self._client.resumed += event.session_resumed
            self._client.early += event.early_data_accepted
            if not path.quic.trusted:
                raise MalformedMessage("a server that was not verified")
            return
        for received in self._session.handle_untrusted(event):
            self._active = path.spoke
            self._deliver(received)

    # The writer

    async def _write(self) -> None:
        while True:
            await self._bell.heard()
            if self._path is not None:
                self._send(self._path)

    def _send_at_once(self) -> bool:
        if self._path is None or self.state is State.CLOSED:
            return False
        self._send(self._path)
        return True

    def _send(self, path: Path) -> None:
        try:
            path.send()
        except OSError as error:
            if is_lost(error):
                self._move(path)
            else:
                self._end(self._broken(error))
        self.expect(path.timer)

    def _move(self, path: Path) -> None:
        """Tries another socket, but not all the time: what cannot be sent now is sent again later.

        A server that forbids it is left once the way to it leads from another address (RFC 9000 9); while there is none at
        all, the clock will tell.
        """
        now = trio.current_time()
        if now < self._moved + _PATIENCE / 2:
            return
        try:
            if path.quic.may_migrate:
                self._moved = now
                path.move()
                path.send()
            elif path.strayed():
                self._end(Disconnected("the network is another one"))
        except OSError:
            return
        self.expect(path.timer)

    def follow(self) -> None:
        """The network is another one: goes on from there where the server can follow (RFC 9000 9)."""
        if self._path is not None and self.state is State.OPEN and self._path.quic.may_migrate:
            self._moved = -inf
            self._move(self._path)
        else:
            self.retire()

    def _is_cut_off(self) -> bool:
        return self._path is None or not is_local(self._path.socket)

    # The clock

    def _next_deadline(self, earliest: float) -> float:
        earliest = super()._next_deadline(earliest)
        if self._path is None:
            return earliest
        return min(earliest, self._path.timer, self._silent_until(self._path), self._unheard_until)

    @property
    def _unheard_until(self) -> float:
        """When a server will have taken too long to answer, that was sent questions at once."""
        return self._opened_by if self._early and not self.greeted else inf

    def _silent_until(self, path: Path) -> float:
        """When the server's silence will have lasted too long; it may be silent as long as it owes nothing."""
        if self.state is not State.OPEN or not self._under_way or not path.quic.owed or path.quic.probes < _PROBES:
            return inf
        since = max(path.spoke, next(iter(self._under_way.values())).began)
        return since + max(_PATIENCE, 3 * path.quic.round_trip)

    def _end_if_late(self, now: float) -> None:
        super()._end_if_late(now)
        path = self._path
        if path is None or self.state is State.CLOSED:
            return
        if now >= self._unheard_until:
            self._end(NoReachableUpstream("no connection in time"))
            return
        if now >= self._silent_until(path):
            self.state, self.silent_since = State.SUSPECT, next(iter(self._under_way.values())).began
        if path.quic.probes >= _PROBES and path.spoke > self._moved and path.quic.may_migrate:
            self._move(path)
        path.tick(now)
        self._take(path, heard=False)

    @property
    def _idle_timeout(self) -> float:
        if self._path is None:
            return self.route.idle_timeout
        return min(self.route.idle_timeout, _IDLE_SHARE * self._path.quic.idle_limit)

    # The end

    def _broken(self, error: OSError) -> ResolveError:
        if isinstance(error, Unwelcome):
            return NoHandshake(str(error))
        words = (error.strerror or str(error)).lower()
        if self._path is not None and self._path.quic.trusted:
            return Disconnected(words)
        return NoReachableUpstream(words)

    def _meaning(self, end: ConnectionTerminated) -> ResolveError:
        """What the end of the connection says of what was asked on it: mostly that it is to be asked elsewhere."""
        words = in_words(end, ours=self._path is not None and self._path.quic.ended_it)
        if is_alert(end):
            return NoHandshake(words)
        if self._path is None or not self._path.quic.trusted:
            return NoReachableUpstream(words)
        if end.frame_type is None and end.error_code == self._session.protocol_error:
            return UpstreamFailed(words)
        return Disconnected(words)

    def _close(self) -> None:
        if self._path is None:
            return
        if not self.greeted:
            self._client.forget()
        self._path.close(self._session.no_error)
