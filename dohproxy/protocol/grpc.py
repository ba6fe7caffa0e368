"""One call of gRPC whose answers come as a stream, without I/O, the client's side (gRPC over HTTP/2)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import unquote

import h2.events
import h2.exceptions
from h2.config import H2Configuration
from h2.connection import H2Connection

from dohproxy.errors import DohproxyError, MalformedMessage

OK: Final = 0
UNKNOWN: Final = 2
UNIMPLEMENTED: Final = 12
_LARGEST: Final = 4 << 20
"""Octets of a message, as of gRPC's own clients."""
_PREFIX: Final = 5
"""A flag that says whether it is compressed, and four octets of length."""


class CallEnded(DohproxyError):
    """The server has ended the call, with a status and what it says."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message or f"status {status} of gRPC")
        self.status = status


class StreamingCall:
    """A call with one request, on an HTTP/2 connection of its own."""

    def __init__(self, path: str, metadata: Iterable[tuple[str, str]] = (), request: bytes = b"") -> None:
        self.ended: CallEnded | None = None
        """Once the server has said its last word."""
        self._buffer = bytearray()
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._stream = self._h2.get_next_available_stream_id()
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        headers += [("content-type", "application/grpc"), ("te", "trailers"), *metadata]
        self._h2.send_headers(self._stream, headers)
        self._h2.send_data(self._stream, b"\0" + len(request).to_bytes(4) + request, end_stream=True)

    def take(self) -> bytes:
        """What the socket is to send."""
        return self._h2.data_to_send()

    def receive_untrusted(self, data: bytes) -> list[bytes]:
        """The messages that are whole now."""
        try:
            events = self._h2.receive_data(data)
        except (h2.exceptions.ProtocolError, UnicodeDecodeError) as error:
            raise MalformedMessage(f"no HTTP/2 that could be understood: {error}") from error
        for event in events:
            self._handle(event)
        return self._messages_untrusted()

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.DataReceived():
                self._buffer += event.data
                if event.flow_controlled_length and self.ended is None:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                self._judge(dict(event.headers))
            case h2.events.StreamEnded() | h2.events.StreamReset() | h2.events.ConnectionTerminated():
                self.ended = self.ended or CallEnded(UNKNOWN, "the call was broken off")

    def _judge(self, headers: dict[Any, Any]) -> None:
        status = headers.get("grpc-status")
        if status is not None:
            code = int(status) if status.isascii() and status.isdigit() else UNKNOWN
            self.ended = CallEnded(code, unquote(headers.get("grpc-message", "")))
        elif headers.get(":status", "200") != "200":
            self.ended = CallEnded(UNKNOWN, f"HTTP status {headers[':status']}")

    def _messages_untrusted(self) -> list[bytes]:
        messages = []
        while len(self._buffer) >= _PREFIX:
            length = int.from_bytes(self._buffer[1:_PREFIX])
            if self._buffer[0] or length > _LARGEST:
                raise MalformedMessage("a message of gRPC that is compressed or too large")
            if len(self._buffer) < _PREFIX + length:
                break
            messages.append(bytes(self._buffer[_PREFIX : _PREFIX + length]))
            del self._buffer[: _PREFIX + length]
        return messages
