"""HTTP/3 for a client that asks (RFC 9114): aioquic's, with the GOAWAY frames that it passes over."""

from __future__ import annotations

from typing import Any

from aioquic._buffer import Buffer, BufferReadError
from aioquic.h3.connection import FrameType, H3Connection, HeadersState, StreamType, encode_frame
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent, StreamDataReceived

Headers = list[tuple[bytes, bytes]]
_SERVERS_UNIDIRECTIONAL = 3
"""The two lowest bits of a stream number (RFC 9000 2.1)."""
_MOST_HEADERS = 65536
"""Octets of response headers; a server that sends more is up to something."""


class ExcessiveHeaders(Exception):
    """More of them than anybody needs."""


class Http3(H3Connection):
    """A client's end, which takes no pushes."""

    def __init__(self, quic: QuicConnection) -> None:
        self._control = bytearray()
        self._control_stream = -1
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
            elif (stream := self._stream.get(event.stream_id)) is not None and len(stream.buffer) > _MOST_HEADERS:
                raise ExcessiveHeaders
        return super().handle_event(event)

    def ask(self, stream: int, headers: Headers, body: bytes) -> None:
        """A whole request, in one piece: `body` is b"" where there is none."""
        frames = encode_frame(FrameType.HEADERS, self._encode_headers(stream, headers))
        if body:
            frames += encode_frame(FrameType.DATA, body)
        with self._get_or_create_stream(stream) as state:
            state.headers_send_state = HeadersState.AFTER_HEADERS
            state.finish_sending()
        self._quic.send_stream_data(stream, frames, end_stream=True)

    def _encode_headers(self, stream_id: int, headers: Headers) -> bytes:
        instructions, block = self._encoder.encode(stream_id, headers)
        if instructions and self._local_encoder_stream_id is not None:
            self._quic.send_stream_data(self._local_encoder_stream_id, instructions)
        return bytes(block)

    def _init_connection(self) -> None:
        self._max_push_id = None
        super()._init_connection()

    def _look_for_goaway(self, event: StreamDataReceived) -> None:
        """Reads the control stream along with aioquic, which sees to it that it is well-formed."""
        if self._control_stream < 0 and event.data and event.data[0] == StreamType.CONTROL:
            self._control_stream = event.stream_id
            self._control += event.data[1:]
        elif event.stream_id == self._control_stream:
            self._control += event.data
        else:
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
