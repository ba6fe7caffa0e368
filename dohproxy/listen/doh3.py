"""DNS over HTTP/3 as a server (RFC 8484, RFC 9114)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from aioquic.h3.connection import ErrorCode
from aioquic.quic import events

from dohproxy.listen.quic_connection import QuicConnection
from dohproxy.protocol.doh_request import Query, Response, Site, refusal
from dohproxy.protocol.http3_server import Http3Server, Request


class Doh3Session:
    """What is spoken on one connection."""

    excess: int = ErrorCode.H3_EXCESSIVE_LOAD
    closed: int = ErrorCode.H3_NO_ERROR

    def __init__(self, connection: QuicConnection, site: Site) -> None:
        self._connection, self._site = connection, site
        self._counters = connection.counters
        self._http = Http3Server(connection.quic)

    @property
    def held(self) -> int:
        """Octets of requests that are not complete."""
        return self._http.held

    def handle(self, event: events.QuicEvent) -> None:
        """Take what came on a stream."""
        for request in self._http.receive_untrusted(event):
            self._ask(request)
        if isinstance(event, (events.StreamReset, events.StopSendingReceived)) and not event.stream_id & 3:
            self._connection.reset(event.stream_id, ErrorCode.H3_REQUEST_CANCELLED)
            self._http.finish(event.stream_id)
            self._connection.withdraw(event.stream_id)

    def stop(self) -> None:
        """Take no more requests."""
        self._http.leave()

    def _ask(self, request: Request) -> None:
        if not self._connection.quic.is_open(request.stream):
            return
        self._counters.doh3_queries += 1
        query = refusal(request.refused) if request.refused else self._site.query_untrusted(request.head, request.body)
        if isinstance(query, Response):
            self._respond(request, query)
        else:
            self._connection.ask(request.stream, query.wire, partial(self._put, request, query))

    def _put(self, request: Request, query: Query, _: int, reply: bytes) -> None:
        self._respond(request, self._site.response(query, reply))

    def _respond(self, request: Request, response: Response) -> None:
        body = b"" if request.head.method == b"HEAD" else response.body
        self._connection.answer(request.stream, self._http.respond(request.stream, response.fields, body))


def speak_doh3(site: Site) -> Callable[[QuicConnection], Doh3Session]:
    """What makes the sessions of a listener."""
    return lambda connection: Doh3Session(connection, site)
