"""HTTP/3, the server's side, for requests and responses that are small (RFC 9114): aioquic's, bounded.

There is no dynamic table in either direction (RFC 9204 3.2.3): no stream waits for another, a block of headers cannot stand for
many times its size, and equal responses are equal octets.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import pylsqpack
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, HeadersState, Setting, encode_frame
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.connection import stream_is_unidirectional
from aioquic.quic.events import QuicEvent, StreamDataReceived, StreamReset

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_request import MOST_HEADERS, Fields, Head, head_untrusted
from dohproxy.protocol.quic_server import ServerConnection
from dohproxy.wire.constants import MAX_MESSAGE

ALPN: Final = "h3"
_FIELD: Final = 32
"""Octets that a header counts beyond its own (RFC 9114 4.2.2)."""


class Request(NamedTuple):
    """One that has come whole, or as far as it is taken: then `refused` is the status to refuse it with."""

    stream: int
    head: Head
    body: bytes
    refused: int = 0


_NO_HEAD: Final = Head(b"", b"")


class _Coming:
    """A request whose end has not come."""

    __slots__ = ("body", "head")

    def __init__(self, head: Head) -> None:
        self.head = head
        self.body = bytearray()


class Http3Server(H3Connection):
    """One connection."""

    def __init__(self, quic: ServerConnection) -> None:
        self._server = quic
        self._coming: dict[int, _Coming] = {}
        self._next_stream = 0
        self._refuse_from: int | None = None
        super().__init__(quic)

    def _init_connection(self) -> None:
        self._max_table_capacity = self._blocked_streams = 0
        self._decoder = pylsqpack.Decoder(0, 0)
        super()._init_connection()

    def _get_local_settings(self) -> dict[int, int]:
        return {
            Setting.QPACK_MAX_TABLE_CAPACITY: 0,
            Setting.QPACK_BLOCKED_STREAMS: 0,
            Setting.MAX_FIELD_SECTION_SIZE: MOST_HEADERS,
        }

    @property
    def held(self) -> int:
        """Octets of requests and control frames that are not complete."""
        return sum(len(one.body) for one in self._coming.values()) + sum(len(one.buffer) for one in self._stream.values())

    def receive_untrusted(self, event: QuicEvent) -> list[Request]:
        """The requests that an event completes. aioquic closes the connection where the client does not keep to HTTP/3."""
        if isinstance(event, StreamDataReceived) and not stream_is_unidirectional(event.stream_id):
            if self._refuse_from is not None and event.stream_id >= self._refuse_from:
                self._reject(event.stream_id)
                return []
            self._next_stream = max(self._next_stream, event.stream_id + 4)
        requests = [found for told in self.handle_event(event) if (found := self._request(told)) is not None]
        if isinstance(event, StreamDataReceived) and (too_much := self._over_headers(event.stream_id)) is not None:
            requests.append(too_much)
        elif isinstance(event, StreamReset):
            self._coming.pop(event.stream_id, None)
        return requests

    def respond(self, stream: int, fields: Fields, body: bytes) -> bytes:
        """The octets, to be sent as the last of the stream, that answer a request."""
        self.finish(stream)
        head = encode_frame(FrameType.HEADERS, response_block(fields))
        return head + encode_frame(FrameType.DATA, body) if body else head

    def finish(self, stream: int) -> None:
        """Nothing more is sent on this stream."""
        self._coming.pop(stream, None)
        if stream in self._stream:
            with self._get_or_create_stream(stream) as state:
                state.sending_ended = True
                state.headers_send_state = HeadersState.AFTER_TRAILERS

    def leave(self) -> None:
        """Take no requests but those that have come so far, and say so (RFC 9114 5.2)."""
        if self._refuse_from is None and self._local_control_stream_id is not None:
            self._refuse_from = self._next_stream
            goaway = encode_frame(FrameType.GOAWAY, encode_uint_var(self._refuse_from))
            self._quic.send_stream_data(self._local_control_stream_id, goaway)

    def _reject(self, stream: int) -> None:
        """Whoever asks may ask elsewhere: nothing was done (RFC 9114 8.1)."""
        if self._server.is_open(stream):
            self._quic.reset_stream(stream, ErrorCode.H3_REQUEST_REJECTED)

    def _over_headers(self, stream: int) -> Request | None:
        """The refusal of headers that are announced to be longer than we take, or trailers."""
        state = self._stream.get(stream)
        if state is None or state.frame_type != FrameType.HEADERS or (state.frame_size or 0) <= MOST_HEADERS:
            return None
        self._quic.stop_stream(stream, ErrorCode.H3_EXCESSIVE_LOAD)
        return Request(stream, _NO_HEAD, b"", 431)

    def _request(self, event: H3Event) -> Request | None:
        if isinstance(event, HeadersReceived):
            return self._take_headers(event)
        if isinstance(event, DataReceived):
            return self._take_body(event)
        return None

    def _take_headers(self, event: HeadersReceived) -> Request | None:
        stream, coming = event.stream_id, self._coming.get(event.stream_id)
        if coming is None:
            if sum(len(name) + len(value) + _FIELD for name, value in event.headers) > MOST_HEADERS:
                return self._refused(stream, 431)
            try:
                head = head_untrusted(event.headers)
            except MalformedMessage:
                return self._refused(stream, 400)
            if event.stream_ended:
                return Request(stream, head, b"")
            if head.length is not None and head.length > MAX_MESSAGE:
                return self._refused(stream, 413)
            self._coming[stream] = _Coming(head)
        elif event.stream_ended:
            return self._whole(stream)
        return None

    def _take_body(self, event: DataReceived) -> Request | None:
        coming = self._coming.get(event.stream_id)
        if coming is None:  # refused already
            return None
        coming.body += event.data
        if len(coming.body) > MAX_MESSAGE:
            return self._refused(event.stream_id, 413)
        return self._whole(event.stream_id) if event.stream_ended else None

    def _whole(self, stream: int) -> Request:
        coming = self._coming.pop(stream)
        return Request(stream, coming.head, bytes(coming.body))

    def _refused(self, stream: int, status: int) -> Request:
        """What more there is of it is not wanted (RFC 9114 4.1)."""
        self._coming.pop(stream, None)
        if (state := self._stream.get(stream)) is not None and not state.receiving_ended:
            self._quic.stop_stream(stream, ErrorCode.H3_NO_ERROR)
        return Request(stream, _NO_HEAD, b"", status)


@lru_cache(4096)
def response_block(fields: Fields) -> bytes:
    """The header block of a response, without a table: the same on every connection (RFC 9204 4.5)."""
    _, block = pylsqpack.Encoder().encode(0, list(fields))
    return block
