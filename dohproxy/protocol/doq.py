"""What both ends of DNS over dedicated QUIC connections (RFC 9250) have in common: error codes, and a stream's one message."""

from __future__ import annotations

from enum import IntEnum

from dohproxy.errors import MalformedMessage
from dohproxy.wire.constants import HEADER_SIZE

ALPN = "doq"
"""RFC 9250 4.1.1."""
_LENGTH = 2
"""Octets in front of a message that tell its size (RFC 1035 4.2.2)."""


class DoqError(IntEnum):
    """Why a connection is closed or a stream is reset (RFC 9250 4.3)."""

    NO_ERROR = 0
    INTERNAL_ERROR = 1
    PROTOCOL_ERROR = 2
    REQUEST_CANCELLED = 3
    EXCESSIVE_LOAD = 4
    UNSPECIFIED_ERROR = 5


class Incoming:
    """One direction of a stream: a length, a message of that length with the ID 0, and the end (RFC 9250 4.2, 4.2.1)."""

    def __init__(self) -> None:
        self._octets = bytearray()

    def __len__(self) -> int:
        return len(self._octets)

    def receive_untrusted(self, data: bytes, end: bool) -> bytes | None:
        """The message, once all of it and the end of the stream are there. Raises MalformedMessage."""
        octets = self._octets
        octets += data
        if end:
            return message_untrusted(bytes(octets))
        if len(octets) > _LENGTH + int.from_bytes(octets[:_LENGTH]):
            raise MalformedMessage("more than one message on a stream")
        return None


def message_untrusted(stream: bytes) -> bytes:
    """The one message of a whole stream (RFC 9250 4.2, 4.2.1). Raises MalformedMessage."""
    size = _LENGTH + int.from_bytes(stream[:_LENGTH])
    if len(stream) < max(size, _LENGTH):
        raise MalformedMessage("a stream ended amid its message")
    if len(stream) > size:
        raise MalformedMessage("more than one message on a stream")
    if size < _LENGTH + HEADER_SIZE:
        raise MalformedMessage(f"a message of {size - _LENGTH} octets")
    if stream[_LENGTH : _LENGTH + 2] != b"\0\0":
        raise MalformedMessage("a message ID other than 0")
    return stream[_LENGTH:]
