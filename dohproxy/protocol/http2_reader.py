"""What a peer's octets are in HTTP/2: header blocks, bodies, and frames that are about the connection (RFC 9113 3.4, 4, 6).

Frames are read by hyperframe, but for the two shapes that every request, and every response, is made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from h2.errors import ErrorCodes as Error
from hyperframe.exceptions import HyperframeError, InvalidFrameError
from hyperframe.frame import DataFrame, Frame, HeadersFrame, SettingsFrame

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_request import MOST_HEADERS

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER: Final = 9
MAX_FRAME: Final = 16384
"""Octets, which we never raise above the default (RFC 9113 6.5.2)."""
DATA, HEADERS = DataFrame.type, HeadersFrame.type
END_STREAM, END_HEADERS = 0x1, 0x4
_PADDED_OR_PRIORITY: Final = 0x28
_CONTINUATION: Final = 9
_MOST_CONTINUATIONS: Final = 8
_LAST_STREAM: Final = (1 << 31) - 1


class Fault(MalformedMessage):
    """The connection has to end, with this error code."""

    def __init__(self, code: Error, reason: str) -> None:
        super().__init__(f"HTTP/2: {reason}")
        self.code = code


class Piece(NamedTuple):
    """A whole header block, a piece of a body, or any other frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes
    """Of a header block, or a body."""
    size: int
    """Octets that count for flow control."""
    frame: Frame | None = None
    """What it is if not one of those."""


class Http2Reader:
    """Cuts what a peer sends. It holds one frame that is not complete, and one header block, of limited sizes both."""

    def __init__(self, preface: bytes = PREFACE, most_headers: int = MOST_HEADERS) -> None:
        self._rest = b""
        self._preface = preface
        """What of it is still to come."""
        self._most_headers = most_headers
        self._settled = False
        """Whether the peer's first SETTINGS have come, ahead of all other frames."""
        self._block: tuple[int, int] | None = None
        """The stream and flags of a header block that is not complete; nothing may come between its pieces."""
        self._pieces: list[bytes] = []

    def receive_untrusted(self, data: bytes) -> Iterator[Piece]:
        """What is whole now. Raises Fault."""
        if self._preface:
            data = self._without_preface(data)
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        try:
            while size - at >= HEADER:
                length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
                if length > MAX_FRAME:
                    raise Fault(Error.FRAME_SIZE_ERROR, "a frame that is too large")
                end = at + HEADER + length
                if end > size:
                    break
                octets, at = data[at:end], end
                if (piece := self._piece(octets)) is not None:
                    yield piece
        finally:
            self._rest = data[at:]

    def _without_preface(self, data: bytes) -> bytes:
        """What comes after the preface (RFC 9113 3.4)."""
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            raise Fault(Error.PROTOCOL_ERROR, "no preface")
        self._preface = self._preface[size:]
        return data[size:]

    def _piece(self, octets: bytes) -> Piece | None:
        """What a frame is, or makes complete."""
        kind, flags = octets[3], octets[4]
        stream = int.from_bytes(octets[5:HEADER]) & _LAST_STREAM
        if self._block is not None:
            return self._continue(kind, flags, stream, octets[HEADER:])
        if not self._settled:
            if kind != SettingsFrame.type or flags & 1:
                raise Fault(Error.PROTOCOL_ERROR, "something ahead of SETTINGS")
            self._settled = True
        size = len(octets) - HEADER
        if kind not in (DATA, HEADERS):
            return Piece(kind, flags, stream, b"", size, parsed_untrusted(octets))
        payload = octets[HEADER:]
        if flags & _PADDED_OR_PRIORITY:
            frame = parsed_untrusted(octets)
            assert isinstance(frame, DataFrame | HeadersFrame)
            payload = bytes(frame.data)
        if kind == DATA or flags & END_HEADERS:
            return Piece(kind, flags, stream, payload, size)
        self._block, self._pieces = (stream, flags), [payload]
        return None

    def _continue(self, kind: int, flags: int, stream: int, payload: bytes) -> Piece | None:
        """The whole header block, once it is: nothing else may come before that (RFC 9113 6.10)."""
        assert self._block is not None
        began, first = self._block
        if kind != _CONTINUATION or stream != began:
            raise Fault(Error.PROTOCOL_ERROR, "something amid a header block")
        self._pieces.append(payload)
        if len(self._pieces) > _MOST_CONTINUATIONS or sum(map(len, self._pieces)) > self._most_headers:
            raise Fault(Error.ENHANCE_YOUR_CALM, "headers without end")
        if not flags & END_HEADERS:
            return None
        block = b"".join(self._pieces)
        self._block, self._pieces = None, []
        return Piece(HEADERS, first, stream, block, len(block))


def parsed_untrusted(octets: bytes) -> Frame:
    """By hyperframe, which knows padding and priorities, and what may be in a frame. Raises Fault."""
    view = memoryview(octets)
    try:
        frame, _ = Frame.parse_frame_header(view[:HEADER])
        frame.parse_body(view[HEADER:])
    except InvalidFrameError as error:
        raise Fault(Error.FRAME_SIZE_ERROR, str(error)) from error
    except HyperframeError as error:
        raise Fault(Error.PROTOCOL_ERROR, str(error)) from error
    return frame
