"""HTTP/2, the client's side, for requests that are small and much the same (RFC 9113).

A request leaves whole, in one piece; there is no state of a stream here but that of who asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

from h2.errors import ErrorCodes as Error
from h2.settings import SettingCodes as Setting
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    PingFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from dohproxy.protocol.doh_exchange import ResponseHead
from dohproxy.protocol.header_blocks import RequestEncoder, ResponseDecoder
from dohproxy.protocol.http2_reader import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, Fault, Http2Reader

WINDOW: Final = 1 << 20
"""Octets of answers that may be on their way to us."""
WINDOW_OF_STREAM: Final = 1 << 17
"""Of one answer, which is never given more: a message, and what may be around it."""
MOST_HEADERS: Final = 65536
"""Octets of response headers; a server that sends more is up to something."""
_DEFAULT_WINDOW: Final = 65535
_MOST_WINDOW: Final = (1 << 31) - 1
_LAST_STREAM: Final = _MOST_WINDOW - 2 * 65536
"""Streams are not numbered again (RFC 9113 5.1.1): before they run out the connection is given up."""
_MOST_TABLE: Final = 4096
_frame_header = Struct(">HBBBL").pack


class Part(NamedTuple):
    """What has come on a stream that is open or was: headers, a piece of the body, or a reset."""

    stream: int
    head: ResponseHead | None
    data: bytes
    ended: bool
    reset: int | None = None
    """The error code."""


class Http2Client:
    """One connection, its preface among the octets that there are to `take` first.

    The peer's limits of streams and octets are told, and kept by who asks: see `room`, `room_of_stream` and `streams`.
    """

    def __init__(self, streams: int) -> None:
        self._reader = Http2Reader(preface=b"", most_headers=MOST_HEADERS)
        self._encoder, self._decoder = RequestEncoder(), ResponseDecoder(MOST_HEADERS)
        self._next = 1
        self.ready = False
        """Whether the first SETTINGS have come."""
        self.streams = 0
        """How many may be open at once."""
        self.room = self.room_of_stream = _DEFAULT_WINDOW
        """Octets of bodies that the server takes, in all and of one request."""
        self.last_stream: int | None = None
        """The last that the server still answers, once it said so (RFC 9113 6.8)."""
        self._ahead = self._taken = 0
        """Octets of bodies that were not given back to the server's window, and those of them that are done with."""
        settings: dict[int, int] = {
            Setting.ENABLE_PUSH: 0,
            Setting.MAX_CONCURRENT_STREAMS: streams,
            Setting.INITIAL_WINDOW_SIZE: WINDOW_OF_STREAM,
        }
        self._outgoing = [PREFACE, SettingsFrame(0, settings=settings).serialize()]
        self._put(WindowUpdateFrame(0, window_increment=WINDOW - _DEFAULT_WINDOW))

    @property
    def spent(self) -> bool:
        """Whether stream numbers are near their end."""
        return self._next > _LAST_STREAM

    # What goes

    def ask(self, headers: list[tuple[bytes, bytes]], body: bytes) -> int:
        """A whole request: its stream."""
        stream, self._next = self._next, self._next + 2
        block, size = self._encoder.block(headers), len(body)
        flags = END_HEADERS if size else END_HEADERS | END_STREAM
        head = _frame_header(len(block) >> 8, len(block) & 255, HEADERS, flags, stream) + block
        if size:
            self.room -= size
            head += _frame_header(size >> 8, size & 255, DATA, END_STREAM, stream) + body
        self._outgoing.append(head)
        return stream

    def reset(self, stream: int, code: Error = Error.CANCEL) -> None:
        """Nobody waits for its answer any longer."""
        self._put(RstStreamFrame(stream, error_code=code))

    def take(self) -> bytes:
        """The octets to send, once only."""
        outgoing, self._outgoing = self._outgoing, []
        return b"".join(outgoing)

    def _put(self, frame: Frame) -> None:
        self._outgoing.append(frame.serialize())

    # What comes

    def receive_untrusted(self, data: bytes) -> Iterator[Part]:
        """What these octets bring to streams. Raises MalformedMessage where nothing that follows can be trusted."""
        for kind, flags, stream, payload, size, frame in self._reader.receive_untrusted(data):
            if kind == DATA:
                self._ahead += size
                self._taken += size
                if self._ahead > WINDOW:
                    raise Fault(Error.FLOW_CONTROL_ERROR, "more octets than there is room for")
                self._check(stream)
                yield Part(stream, None, payload, bool(flags & END_STREAM))
            elif kind == HEADERS:
                self._check(stream)
                yield Part(stream, self._decoder.head_untrusted(payload), b"", bool(flags & END_STREAM))
            elif isinstance(frame, RstStreamFrame):
                self._check(stream)
                yield Part(stream, None, b"", True, frame.error_code)
            elif frame is not None:
                self._control(frame)
        if self._taken >= WINDOW // 4:
            self._put(WindowUpdateFrame(0, window_increment=self._taken))
            self._ahead -= self._taken
            self._taken = 0

    def _check(self, stream: int) -> None:
        """Raises Fault for a stream that we did not open."""
        if not stream & 1 or stream >= self._next:
            raise Fault(Error.PROTOCOL_ERROR, "a stream that was not opened")

    def _control(self, frame: Frame) -> None:
        if isinstance(frame, SettingsFrame):
            self._settings(frame)
        elif isinstance(frame, PingFrame):
            if "ACK" not in frame.flags:
                self._put(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, WindowUpdateFrame):
            self._window(frame.stream_id, frame.window_increment)
        elif isinstance(frame, GoAwayFrame):
            last = frame.last_stream_id
            self.last_stream = last if self.last_stream is None else min(last, self.last_stream)
        elif isinstance(frame, PushPromiseFrame | ContinuationFrame):
            raise Fault(Error.PROTOCOL_ERROR, "a frame that no server may send here")

    def _settings(self, frame: SettingsFrame) -> None:
        """Takes the server's limits; those that it does not tell of are none (RFC 9113 6.5.2)."""
        if "ACK" in frame.flags:
            return
        told = frame.settings
        if not self.ready:
            self.ready, self.streams = True, _MOST_WINDOW
        self.streams = told.get(Setting.MAX_CONCURRENT_STREAMS, self.streams)
        self.room_of_stream = told.get(Setting.INITIAL_WINDOW_SIZE, self.room_of_stream)
        if self.room_of_stream > _MOST_WINDOW:
            raise Fault(Error.FLOW_CONTROL_ERROR, "a window that is too large")
        if told.get(Setting.ENABLE_PUSH, 0) or not 16384 <= told.get(Setting.MAX_FRAME_SIZE, 16384) < 1 << 24:
            raise Fault(Error.PROTOCOL_ERROR, "a setting that cannot be")
        if Setting.HEADER_TABLE_SIZE in told:
            self._encoder.resize(min(told[Setting.HEADER_TABLE_SIZE], _MOST_TABLE))
        self._put(SettingsFrame(0, flags=["ACK"]))

    def _window(self, stream: int, increment: int) -> None:
        """More room; what is said of a stream comes too late for a request that has left whole."""
        if stream:
            return self._check(stream)
        self.room += increment
        if self.room > _MOST_WINDOW:
            raise Fault(Error.FLOW_CONTROL_ERROR, "a window that is too large")
        return None
