"""HTTP/2, the server's side, for requests and responses that are small (RFC 9113).

What a client may have us do or keep is limited, whatever it sends: see the constants, and `_toil`.
"""

from __future__ import annotations

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

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_request import MOST_HEADERS, Fields, Head
from dohproxy.protocol.header_blocks import NO_TABLE, Oversized, RequestDecoder, Undecodable, response_block
from dohproxy.protocol.http2_reader import DATA, END_HEADERS, END_STREAM, HEADERS, MAX_FRAME, Fault, Http2Reader
from dohproxy.wire.constants import MAX_MESSAGE

WINDOW: Final = 65535
"""Octets of bodies that a client may send ahead, on a stream and in all: so much is kept of a connection (RFC 9113 6.9.2)."""
MOST_TOIL: Final = 1000
"""How much work a client may cause beyond what belongs to requests that are answered."""
LITTLE: Final = 1024
"""Octets of a body: a client that sends less at once, and has more, makes toil."""
_RELIEF: Final = 50
"""For each request that is answered: a client may well withdraw more than it waits for."""
_TOIL_OF_RESET: Final = 10
"""A hundred requests may be withdrawn before one is answered (CVE-2023-44487)."""
_MOST_WINDOW: Final = (1 << 31) - 1
_SETTINGS: Final[dict[int, range]] = {Setting.ENABLE_PUSH: range(2), Setting.MAX_FRAME_SIZE: range(MAX_FRAME, 1 << 24)}
"""What they may be (RFC 9113 6.5.2)."""
_frame_header = Struct(">HBBBL").pack


class Request(NamedTuple):
    """One that has come whole."""

    stream: int
    head: Head
    body: bytes


class _Stream:
    """A request that is coming, is being answered, or whose answer waits for the client's window."""

    __slots__ = ("asked", "body", "head", "size", "unsent", "window")

    def __init__(self, head: Head, window: int) -> None:
        self.head, self.window = head, window
        self.body: list[bytes] = []
        self.size = 0
        self.asked = False
        """Whether the request has been handed out."""
        self.unsent = b""


class Http2Server:
    """One connection, of which at most `streams` requests are under way at once. Its owner sends what there is to `take`."""

    def __init__(self, streams: int) -> None:
        self._limit = streams
        self._reader, self._decoder = Http2Reader(), RequestDecoder()
        self._streams: dict[int, _Stream] = {}
        self._highest = 0
        self._room, self._room_of_stream = WINDOW, WINDOW
        """What the client takes before it says so."""
        self._taken = 0
        """Octets of bodies that are done with, and the client has not been told of."""
        self._ahead = 0
        """Octets of bodies that came and were not given back to the client's window."""
        self._toil = 0
        self._leaving = False
        self._lead = NO_TABLE
        self.withdrawn: list[int] = []
        """Streams whose requests nobody waits for any longer; to be emptied by the owner."""
        settings = SettingsFrame(
            0, settings={Setting.MAX_CONCURRENT_STREAMS: streams, Setting.MAX_HEADER_LIST_SIZE: MOST_HEADERS}
        )
        self._outgoing = [settings.serialize()]

    @property
    def open(self) -> int:
        """How many requests have begun whose answers have not left."""
        return len(self._streams)

    @property
    def closing(self) -> bool:
        """Whether no more requests are taken."""
        return self._leaving

    def ready(self) -> list[Request]:
        """The requests that waited until others were answered: none does."""
        return []

    def take(self) -> bytes:
        """The octets to send, once only."""
        outgoing, self._outgoing = self._outgoing, []
        return b"".join(outgoing)

    # What comes

    def receive_untrusted(self, data: bytes) -> list[Request]:
        """The requests that these octets complete.

        Raises MalformedMessage where the connection has to end; what there is to take then says why.
        """
        requests: list[Request] = []
        try:
            for kind, flags, stream, payload, size, frame in self._reader.receive_untrusted(data):
                if kind == HEADERS:
                    self._headers(stream, flags, payload, requests)
                elif kind == DATA:
                    self._data(stream, flags, payload, size, requests)
                elif frame is not None:
                    self._control(frame)
        except Fault as fault:
            self._put(GoAwayFrame(0, last_stream_id=self._highest, error_code=fault.code))
            raise
        if self._taken >= WINDOW // 4:
            self._give_back()
        return requests if not self.withdrawn else [request for request in requests if request.stream in self._streams]

    # Headers

    def _headers(self, stream: int, flags: int, block: bytes, requests: list[Request]) -> None:
        if not stream & 1:
            raise Fault(Error.PROTOCOL_ERROR, "a stream that no client may open")
        if stream <= self._highest:
            return self._trailers(stream, flags, block, requests)
        self._highest = stream
        try:
            head = self._decoder.head_untrusted(block)
        except (Oversized, Undecodable) as error:
            code = Error.ENHANCE_YOUR_CALM if isinstance(error, Oversized) else Error.COMPRESSION_ERROR
            raise Fault(code, str(error)) from error
        except MalformedMessage:
            return self._reset(stream, Error.PROTOCOL_ERROR)
        if len(self._streams) >= self._limit or self._leaving:
            return self._reset(stream, Error.REFUSED_STREAM)
        begun = self._streams[stream] = _Stream(head, self._room_of_stream)
        if flags & END_STREAM:
            self._complete(stream, begun, requests)
        elif head.length is not None and head.length > MAX_MESSAGE:
            self._hand_out(stream, begun, requests)
        return None

    def _trailers(self, stream: int, flags: int, block: bytes, requests: list[Request]) -> None:
        """Headers that come after a body are read, for the table's sake, and mean nothing."""
        try:
            self._decoder.head_untrusted(block)
        except (Oversized, Undecodable) as error:
            raise Fault(Error.COMPRESSION_ERROR, str(error)) from error
        except MalformedMessage:
            pass  # they are those of no request, of course
        begun = self._streams.get(stream)
        if begun is None or begun.asked:
            self._work(1)
            return self._reset(stream, Error.STREAM_CLOSED)
        if not flags & END_STREAM:
            return self._reset(stream, Error.PROTOCOL_ERROR)
        return self._complete(stream, begun, requests)

    def _complete(self, stream: int, begun: _Stream, requests: list[Request]) -> None:
        if begun.head.length is not None and begun.head.length != begun.size:  # RFC 9113 8.1.1
            return self._reset(stream, Error.PROTOCOL_ERROR)
        return self._hand_out(stream, begun, requests)

    def _hand_out(self, stream: int, begun: _Stream, requests: list[Request]) -> None:
        begun.asked = True
        self._taken += begun.size
        requests.append(Request(stream, begun.head, b"".join(begun.body)))
        begun.body = []

    # Bodies

    def _data(self, stream: int, flags: int, payload: bytes, size: int, requests: list[Request]) -> None:
        if not stream or stream > self._highest:
            raise Fault(Error.PROTOCOL_ERROR, "a body without a head")
        self._ahead += size
        if self._ahead > WINDOW:
            raise Fault(Error.FLOW_CONTROL_ERROR, "more octets than there is room for")
        begun = self._streams.get(stream)
        if begun is None or begun.asked:  # one that was reset may not have known
            self._taken += size
            return self._work(1)
        self._taken += size - len(payload)
        begun.size += len(payload)
        if payload:
            begun.body.append(payload)
        if flags & END_STREAM:
            return self._complete(stream, begun, requests)
        if begun.size >= MAX_MESSAGE:
            return self._hand_out(stream, begun, requests)
        return self._work(1 if len(payload) < LITTLE else 0)

    def _give_back(self) -> None:
        self._put(WindowUpdateFrame(0, window_increment=self._taken))
        self._ahead -= self._taken
        self._taken = 0

    # All else

    def _control(self, frame: Frame) -> None:
        self._work(1)
        if isinstance(frame, SettingsFrame):
            self._settings(frame)
        elif isinstance(frame, PingFrame):
            if "ACK" not in frame.flags:
                self._put(PingFrame(0, frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, WindowUpdateFrame):
            self._window(frame.stream_id, frame.window_increment)
        elif isinstance(frame, RstStreamFrame):
            self._withdraw(frame.stream_id)
        elif isinstance(frame, GoAwayFrame):
            self._leaving = True
        elif isinstance(frame, PushPromiseFrame | ContinuationFrame):
            raise Fault(Error.PROTOCOL_ERROR, "a frame that no client may send here")

    def _work(self, toil: int) -> None:
        """Count what belongs to no request that was answered."""
        self._toil += toil
        if self._toil > MOST_TOIL:
            raise Fault(Error.ENHANCE_YOUR_CALM, "too much beside what was asked")

    def _settings(self, frame: SettingsFrame) -> None:
        if "ACK" in frame.flags:
            return
        for setting, value in frame.settings.items():
            if setting == Setting.INITIAL_WINDOW_SIZE:
                self._resize(value)
            elif setting in _SETTINGS and value not in _SETTINGS[setting]:
                raise Fault(Error.PROTOCOL_ERROR, "a setting that cannot be")
        self._put(SettingsFrame(0, flags=["ACK"]))
        self._send_unsent()

    def _resize(self, window: int) -> None:
        """Of every stream, those that are open too (RFC 9113 6.9.2)."""
        if window > _MOST_WINDOW:
            raise Fault(Error.FLOW_CONTROL_ERROR, "a window that is too large")
        for begun in self._streams.values():
            begun.window += window - self._room_of_stream
        self._room_of_stream = window

    def _window(self, stream: int, increment: int) -> None:
        if not stream:
            self._room += increment
            if self._room > _MOST_WINDOW:
                raise Fault(Error.FLOW_CONTROL_ERROR, "a window that is too large")
            return self._send_unsent()
        if stream > self._highest:
            raise Fault(Error.PROTOCOL_ERROR, "a window of no stream")
        if (begun := self._streams.get(stream)) is not None:
            begun.window += increment
            if begun.window > _MOST_WINDOW:
                return self._reset(stream, Error.FLOW_CONTROL_ERROR)
            self._send(stream, begun)
        return None

    def _withdraw(self, stream: int) -> None:
        """The client waits no longer (RFC 9113 6.4)."""
        if not stream or stream > self._highest:
            raise Fault(Error.PROTOCOL_ERROR, "the end of what never began")
        if stream in self._streams:
            self._forget(stream)
            self._work(_TOIL_OF_RESET)

    # What goes

    def respond(self, stream: int, fields: Fields, body: bytes) -> None:
        """Answer a request, unless it was withdrawn; of a HEAD request the body is b""."""
        if (begun := self._streams.get(stream)) is None:
            return
        block = response_block(fields)
        if self._lead:
            block, self._lead = self._lead + block, b""
        size, out = len(body), self._outgoing
        flags = END_HEADERS if size else END_HEADERS | END_STREAM
        head = _frame_header(len(block) >> 8, len(block) & 255, HEADERS, flags, stream) + block
        if size <= MAX_FRAME and size <= self._room and size <= begun.window:
            self._room -= size
            out.append(head + _frame_header(size >> 8, size & 255, DATA, END_STREAM, stream) + body if size else head)
            self._done(stream)
        else:
            out.append(head)
            begun.unsent = body
            self._send(stream, begun)

    def _send(self, stream: int, begun: _Stream) -> None:
        """Send what the windows let through."""
        while begun.unsent:
            size = min(len(begun.unsent), self._room, begun.window, MAX_FRAME)
            if size <= 0:
                return
            piece, begun.unsent = begun.unsent[:size], begun.unsent[size:]
            self._room -= size
            begun.window -= size
            flags = 0 if begun.unsent else END_STREAM
            self._outgoing.append(_frame_header(size >> 8, size & 255, DATA, flags, stream) + piece)
            if flags:
                self._done(stream)

    def _send_unsent(self) -> None:
        for stream, begun in [found for found in self._streams.items() if found[1].unsent]:
            self._send(stream, begun)

    def _done(self, stream: int) -> None:
        """What a client still sends after its answer is passed over: many take a reset for a failure (RFC 9113 8.1)."""
        del self._streams[stream]
        self._toil = max(0, self._toil - _RELIEF)

    def _reset(self, stream: int, code: Error) -> None:
        self._put(RstStreamFrame(stream, error_code=code))
        self._forget(stream)
        self._work(_TOIL_OF_RESET // 2)

    def _forget(self, stream: int) -> None:
        begun = self._streams.pop(stream, None)
        if begun is not None and begun.asked:
            self.withdrawn.append(stream)
        elif begun is not None:
            self._taken += begun.size

    def leave(self) -> None:
        """Tell the client that no more requests are taken; those under way are still answered (RFC 9113 6.8)."""
        if not self._leaving:
            self._leaving = True
            self._put(GoAwayFrame(0, last_stream_id=self._highest, error_code=Error.NO_ERROR))

    def _put(self, frame: Frame) -> None:
        self._outgoing.append(frame.serialize())
