"""HTTP/2 frames, cut from a stream only to lift GOAWAY out (RFC 9113 4.1, 6.8).

The h2 library closes its connection at a GOAWAY, though streams up to the last one named may still be answered.
"""

from __future__ import annotations

from typing import Final

from dohproxy.errors import MalformedMessage

_HEADER: Final = 9
_GOAWAY: Final = 7
_MAX_FRAME: Final = 16384
"""What we never raise above its default (RFC 9113 6.5.2)."""


class GoawaySifter:
    """Passes whole frames on, but for GOAWAY, of which it keeps the last stream that the peer still answers."""

    def __init__(self) -> None:
        self._rest = b""
        self.last_stream: int | None = None

    def receive_untrusted(self, data: bytes) -> bytes:
        """The whole frames that are there now. Raises MalformedMessage for one that is too large or too short."""
        data = self._rest + data
        passed, start, at = b"", 0, 0
        while len(data) - at >= _HEADER:
            length = int.from_bytes(data[at : at + 3])
            end = at + _HEADER + length
            if length > _MAX_FRAME:
                raise MalformedMessage("an HTTP/2 frame that is too large")
            if end > len(data):
                break
            if data[at + 3] == _GOAWAY:
                self._goaway_untrusted(data[at + _HEADER : end])
                passed += data[start:at]
                start = end
            at = end
        self._rest = data[at:]
        return passed + data[start:at]

    def _goaway_untrusted(self, payload: bytes) -> None:
        if len(payload) < 8:
            raise MalformedMessage("an HTTP/2 GOAWAY that is too short")
        last = int.from_bytes(payload[:4]) & 0x7FFFFFFF
        self.last_stream = last if self.last_stream is None else min(last, self.last_stream)
