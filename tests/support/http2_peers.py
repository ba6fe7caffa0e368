"""DoH servers of every manner, on h2."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Awaitable, Callable
from copy import copy
from urllib.parse import parse_qs, urlsplit

import trio
from dns_peers import Peer, reply_to
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings


class Request:
    """What a client asked on one stream."""

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self.headers = headers
        self.body = b""

    @property
    def query(self) -> bytes:
        if self.headers[b":method"] == b"POST":
            return self.body
        (text,) = parse_qs(urlsplit(self.headers[b":path"].decode()).query).get("dns", [""])
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))


Answering = Callable[["Http2", int, Request], Awaitable[None]]


async def answer(http: Http2, stream_id: int, request: Request) -> None:
    """As a good server does."""
    await http.respond(stream_id, reply_to(request.query))


class Http2:
    """A connection at a time; `answering` is called for each request that has come whole. Use it as a manner of a Peer."""

    def __init__(self, answering: Answering = answer, *, streams: int = 100) -> None:
        self.answering = answering
        self.streams = streams
        self.requests: dict[int, Request] = {}
        self.resets: list[tuple[int, int]] = []
        self.open: list[int] = []
        """How many requests were under way, each time that one came."""
        self.stream: trio.abc.Stream
        self.h2: H2Connection

    async def __call__(self, peer: Peer, stream: trio.abc.Stream) -> None:
        await copy(self)._serve(peer, stream)

    async def _serve(self, peer: Peer, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.requests = {}
        self._events: list[Event] = []
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.local_settings = Settings(client=False, initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: self.streams})
        self.h2.initiate_connection()
        await self.flush()
        while data := await stream.receive_some():
            self._events += self.h2.receive_data(data)
            while self._events:
                await self._handle(peer, self._events.pop(0))
            await self.flush()

    async def _handle(self, peer: Peer, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self.requests[event.stream_id] = Request(dict(event.headers))
            self.open.append(len(self.requests))
        elif isinstance(event, DataReceived):
            self.requests[event.stream_id].body += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets.append((event.stream_id, int(event.error_code)))
        elif isinstance(event, StreamEnded):
            request = self.requests[event.stream_id]
            peer.queries.append(request.query)
            await self.answering(self, event.stream_id, request)

    async def respond(
        self, stream_id: int, body: bytes, status: bytes = b"200", media: bytes = b"application/dns-message", **more: bytes
    ) -> None:
        headers = [(b":status", status), (b"content-type", media), *((k.encode(), v) for k, v in more.items())]
        self.h2.send_headers(stream_id, headers)
        for at in range(0, len(body), 16384):
            piece = body[at : at + 16384]
            while self.h2.local_flow_control_window(stream_id) < len(piece):
                await self.flush()
                self._events += self.h2.receive_data(await self.stream.receive_some())
            self.h2.send_data(stream_id, piece)
        self.h2.end_stream(stream_id)
        self.requests.pop(stream_id)
        await self.flush()

    async def flush(self) -> None:
        if data := self.h2.data_to_send():
            await self.stream.send_all(data)
