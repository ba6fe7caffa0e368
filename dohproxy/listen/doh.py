"""DNS over HTTPS as a server (RFC 8484): what comes is answered at once where the reply is at hand, else as it is ready."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import trio

from dohproxy.errors import MalformedMessage
from dohproxy.listen.intake import Intake
from dohproxy.listen.stream_queries import StreamQueries
from dohproxy.listen.tcp import Served
from dohproxy.listen.tls_stream import TlsStream
from dohproxy.model import Attested, Peer, Transport
from dohproxy.protocol.doh_request import Fields, Query, Response, Site
from dohproxy.protocol.http1_server import Http1Server
from dohproxy.protocol.http2_server import Http2Server, Request

ALPN = ("h2", "http/1.1")


class Http(Protocol):
    """One connection's HTTP, whatever the version."""

    withdrawn: list[int]

    @property
    def open(self) -> int:
        """How many requests have begun whose answers have not left."""
        ...

    @property
    def closing(self) -> bool:
        """Whether no more requests are taken."""
        ...

    def receive_untrusted(self, data: bytes) -> Sequence[Request]:
        """The requests that these octets complete; raises MalformedMessage where the connection has to end."""
        ...

    def ready(self) -> Sequence[Request]:
        """The requests that waited until others were answered."""
        ...

    def respond(self, stream: int, fields: Fields, body: bytes) -> None:
        """Answer a request."""
        ...

    def take(self) -> bytes:
        """The octets to send, once only."""
        ...

    def leave(self) -> None:
        """Take no more requests."""
        ...


class HttpConnection:
    """One client's connection.

    It ends when the client is done and has its answers, when for the idle time-out nothing was asked or answered, when
    answers are not taken within that time, when the client breaks the rules or does nothing but make work, or when it is
    told to. `stop` and `close` may be called at any time.
    """

    def __init__(self, stream: trio.abc.Stream, http: Http, site: Site, peer: Peer, intake: Intake) -> None:
        self.host = peer.address if isinstance(peer, Attested) else peer
        self.idle_since = trio.current_time()
        """When the last answer was given; math.inf while queries are under way."""
        self._stream, self._http, self._site, self._peer, self._intake = stream, http, site, peer, intake
        self._counters = intake.counters
        self._patience = intake.limits.tcp_idle_timeout
        self._to_write, self._sending = trio.lowlevel.ParkingLot(), trio.Lock()
        self._reading = trio.CancelScope()
        self._all = trio.CancelScope()
        self._queries: StreamQueries | None = None
        self._taking = False
        self._answered = False
        """Whether there was an answer since the writer looked: it may have been busy sending."""

    @property
    def idle(self) -> bool:
        """Whether no query is under way."""
        return not self._queries

    async def run(self) -> None:
        """Serve the connection to its end, and close it."""
        try:
            with self._all:
                async with trio.open_nursery() as asking:
                    self._queries = StreamQueries(self._peer, Transport.DOH, self._intake, asking, self._settled, self.close)
                    try:
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._write)
                            with self._reading:
                                await self._read()
                            await self._end(self._queries)
                            nursery.cancel_scope.cancel()
                    finally:
                        self._queries.cancel()
                    asking.cancel_scope.cancel()
        except* (trio.BrokenResourceError, MalformedMessage):
            self._counters.tcp_broken += 1
        finally:
            await trio.aclose_forcefully(self._stream)

    def stop(self) -> None:
        """Take no more requests; the answers to those under way still leave."""
        self._http.leave()
        self._reading.cancel()

    def close(self) -> None:
        """End at once."""
        self._all.cancel()

    async def _read(self) -> None:
        self._settled()
        await self._send()
        while not self._is_done:
            octets = await self._stream.receive_some(65536)
            if not octets:
                break
            try:
                self._advance(bytes(octets))
            finally:
                await self._send()

    async def _end(self, queries: StreamQueries) -> None:
        """Let out what is under way."""
        self._http.leave()
        while queries:
            await self._to_write.park()
        await self._send()

    def _advance(self, data: bytes) -> None:
        """Take what has come, and what waited for what is answered."""
        self._taking = True
        requests = self._http.receive_untrusted(data) if data else self._http.ready()
        busy = bool(requests or self._http.withdrawn)
        while requests:
            for request in requests:
                self._ask(request)
            requests = self._http.ready()
        self._withdraw()
        self._taking = False
        if busy:
            self._settled()

    def _withdraw(self) -> None:
        assert self._queries is not None
        for stream in self._http.withdrawn:
            self._queries.withdraw(stream)
        self._http.withdrawn.clear()

    def _ask(self, request: Request) -> None:
        assert self._queries is not None
        self._counters.doh_queries += 1
        query = self._site.query_untrusted(request.head, request.body)
        if isinstance(query, Response):
            self._respond(request, query)
            return
        self._queries.ask(request.stream, query.wire, partial(self._put, request, query))

    def _put(self, request: Request, query: Query, _: int, reply: bytes) -> None:
        self._respond(request, self._site.response(query, reply))
        if not self._taking:
            self._answered = True
            self._to_write.unpark_all()

    def _respond(self, request: Request, response: Response) -> None:
        self._http.respond(request.stream, response.fields, b"" if request.head.method == b"HEAD" else response.body)

    def _settled(self) -> None:
        """Set how long the client may take to ask again, or to take what it asked for, while no query is under way."""
        if self._taking:
            return
        self.idle_since = math.inf if self._queries else trio.current_time()
        self._reading.deadline = self.idle_since + self._patience

    async def _write(self) -> None:
        """Send the answers that come later."""
        while True:
            if not self._answered:
                await self._to_write.park()
            self._answered = False
            try:
                self._advance(b"")
            finally:
                await self._send()
            if self._is_done:  # a client may wait for the end (RFC 9112 9.6)
                self._reading.cancel()

    @property
    def _is_done(self) -> bool:
        """Whether no more requests are taken, and all are answered."""
        return self._http.closing and not self._http.open

    async def _send(self) -> None:
        """Send what there is; when this is done, all of it has left, whoever began to."""
        async with self._sending:
            if octets := self._http.take():
                with trio.move_on_after(self._patience) as sending:
                    await self._stream.send_all(octets)
                if sending.cancelled_caught:
                    raise trio.BrokenResourceError("the client does not read")


class SpeakHttp:
    """Makes connections for DNS over HTTPS on which TLS agreed on a version of HTTP."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __call__(self, stream: TlsStream, peer: Peer, intake: Intake) -> Served:
        """HTTP/1.1 where nothing was agreed on."""
        http: Http = Http2Server(intake.limits.tcp_pipeline) if stream.alpn == "h2" else Http1Server()
        return HttpConnection(stream, http, self._site, peer, intake)
