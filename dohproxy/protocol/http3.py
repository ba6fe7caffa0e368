"""HTTP/3 for a client that asks (RFC 9114): aioquic's, with the GOAWAY frames that it passes over.

A response that has come whole, headers and body in a frame each, is taken as it is; aioquic reads all others. Blocks of headers
that refer to the static table only (RFC 9204 4.5.1) mean the same each time: what they are, or mean, is remembered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pylsqpack
from aioquic._buffer import Buffer, BufferReadError
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import (
    FrameType,
    H3Connection,
    H3Stream,
    HeadersState,
    ProtocolError,
    StreamType,
    encode_frame,
    validate_response_headers,
)
from aioquic.quic.events import QuicEvent, StreamDataReceived

from dohproxy.protocol.doh_exchange import ResponseHead, response_head
from dohproxy.protocol.quic_brief import BriefStreams
from dohproxy.protocol.remembered import Remembered

Headers = list[tuple[bytes, bytes]]
_SERVERS_UNIDIRECTIONAL = 3
"""The two lowest bits of a stream number (RFC 9000 2.1)."""
_MOST_HEADERS = 65536
"""Octets of response headers; a server that sends more is up to something."""

_STATIC = b"\0"
"""How a block begins that refers to nothing that was sent before (RFC 9204 4.5.1.1)."""


@lru_cache(256)
def _data_head(size: int) -> bytes:
    """What is ahead of a body of so many octets."""
    return encode_uint_var(FrameType.DATA) + encode_uint_var(size)


class ExcessiveHeaders(Exception):
    """More of them than anybody needs."""


class Http3(H3Connection):
    """A client's end, which takes no pushes."""

    def __init__(self, quic: BriefStreams) -> None:
        self._asking = quic
        self._heads = Remembered[tuple[tuple[bytes, bytes], ...], bytes]()
        """HEADERS frames of requests."""
        self._meanings = Remembered[bytes, ResponseHead]()
        """What blocks of responses say."""
        self._control = bytearray()
        self._control_stream = -1
        self._others = set[int]()
        """Unidirectional streams that are no control stream."""
        self._skip = 0
        self.last_stream: int | None = None
        """From which on the server answers none, once it said so (RFC 9114 5.2)."""
        super().__init__(quic)

    @property
    def broken(self) -> bool:
        """Whether the server did not keep to the protocol, and the connection is being closed for it."""
        return self._is_done

    def handle_event(self, event: QuicEvent) -> list[Any]:
        """What it means for requests. Raises ExcessiveHeaders."""
        if isinstance(event, StreamDataReceived):
            if event.stream_id & 3 == _SERVERS_UNIDIRECTIONAL:
                self._look_for_goaway(event)
            elif event.stream_id & 3 == 0:
                self._look_for_excess(event.stream_id)
        return super().handle_event(event)

    def _look_for_excess(self, number: int) -> None:
        """Of a response that does not come whole; aioquic is told that its request has left."""
        if (stream := self._stream.get(number)) is None:
            stream = self._stream[number] = H3Stream(number)
            stream.headers_send_state, stream.sending_ended = HeadersState.AFTER_HEADERS, True
        elif len(stream.buffer) > _MOST_HEADERS:
            raise ExcessiveHeaders

    def ask(self, headers: Headers, body: bytes) -> int:
        """A whole request, `body` b"" where it has none: its stream."""
        fields = tuple(headers)
        frames = self._heads.get(fields) or self._head(fields, headers)
        return self._asking.ask(frames + _data_head(len(body)) + body if body else frames)

    def _head(self, fields: tuple[tuple[bytes, bytes], ...], headers: Headers) -> bytes:
        instructions, block = self._encoder.encode(self._asking.get_next_available_stream_id(), headers)
        if instructions and self._local_encoder_stream_id is not None:
            self._quic.send_stream_data(self._local_encoder_stream_id, instructions)
        frame = encode_frame(FrameType.HEADERS, bytes(block))
        if not instructions and block.startswith(_STATIC):
            self._heads.keep(fields, frame, len(frame))
        return frame

    def whole(self, event: StreamDataReceived) -> tuple[ResponseHead, bytes] | None:
        """Head and body of a response that this event is all of; None if it is not, or not in order: then handle it."""
        if not event.end_stream or event.stream_id in self._stream or self._is_done:
            return None
        buffer = Buffer(data=event.data)
        try:
            if buffer.pull_uint_var() != FrameType.HEADERS:
                return None
            block = buffer.pull_bytes(buffer.pull_uint_var())
            if buffer.pull_uint_var() != FrameType.DATA:
                return None
            body = buffer.pull_bytes(buffer.pull_uint_var())
        except BufferReadError:
            return None
        head = self._meanings.get(block) or self._meaning(event.stream_id, block)
        if not buffer.eof() or head is None or head.length not in (None, len(body)):
            return None
        return head, body

    def _meaning(self, number: int, block: bytes) -> ResponseHead | None:
        """What a block says; None if it may mean something else another time, or is none."""
        if not block.startswith(_STATIC) or len(block) > _MOST_HEADERS:
            return None
        try:
            _, headers = self._decoder.feed_header(number, block)
            validate_response_headers(headers)
        except (pylsqpack.DecompressionFailed, pylsqpack.StreamBlocked, ProtocolError):
            return None
        head = response_head(headers)
        if head.is_interim:
            return None
        self._meanings.keep(block, head, len(block))
        return head

    def _init_connection(self) -> None:
        self._max_push_id = None
        super()._init_connection()

    def _look_for_goaway(self, event: StreamDataReceived) -> None:
        """Reads the control stream along with aioquic, which sees to it that it is well-formed."""
        if event.stream_id == self._control_stream:
            self._control += event.data
        elif self._control_stream >= 0 or event.stream_id in self._others or not event.data:
            return
        elif event.data[0] == StreamType.CONTROL:
            self._control_stream = event.stream_id
            self._control += event.data[1:]
            self._others.clear()
        else:
            self._others.add(event.stream_id)
            return
        while self._next_frame():
            pass

    def _next_frame(self) -> bool:
        skipped = min(self._skip, len(self._control))
        del self._control[:skipped]
        self._skip -= skipped
        buffer = Buffer(data=bytes(self._control[:64]))
        try:
            kind, size = buffer.pull_uint_var(), buffer.pull_uint_var()
            if kind == FrameType.GOAWAY:
                last = buffer.pull_uint_var()
                self.last_stream = last if self.last_stream is None else min(last, self.last_stream)
        except BufferReadError:
            return False  # the rest is yet to come
        header = 0
        for _ in range(2):
            header += 1 << (self._control[header] >> 6)
        del self._control[:header]
        self._skip = size
        return True
