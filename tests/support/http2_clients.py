"""HTTP/2 clients of every manner, without a connection: good ones on h2, and bad ones by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hpack import Encoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS = 1, 4

Headers = list[tuple[bytes, bytes]]


def post(path: bytes = b"/dns-query", *more: tuple[bytes, bytes]) -> Headers:
    return [
        (b":method", b"POST"),
        (b":path", path),
        (b":scheme", b"https"),
        (b":authority", b"proxy.test"),
        (b"content-type", b"application/dns-message"),
        *more,
    ]


def get(path: bytes, method: bytes = b"GET") -> Headers:
    return [(b":method", method), (b":path", path), (b":scheme", b"https"), (b":authority", b"proxy.test")]


class Client:
    """A good one: asks, and keeps what it was answered."""

    def __init__(self, **settings: int) -> None:
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        values = {SettingCodes[name.upper()]: value for name, value in settings.items()}
        self.h2.local_settings = Settings(client=True, initial_values=values)
        self.h2.initiate_connection()
        self.status: dict[int, int] = {}
        self.fields: dict[int, dict[bytes, bytes]] = {}
        self.body: dict[int, bytes] = {}
        self.ended: list[int] = []
        self.resets: dict[int, int] = {}
        self.goodbye: ConnectionTerminated | None = None
        self.acknowledges = True

    def ask(self, headers: Headers, body: bytes | None = None, *, end: bool = True) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers, end_stream=end and body is None)
        if body is not None:
            for at in range(0, len(body), 16384):
                self.h2.send_data(stream, body[at : at + 16384])
            if end:
                self.h2.end_stream(stream)
        return stream

    def sends(self) -> bytes:
        return self.h2.data_to_send()

    def hears(self, octets: bytes) -> None:
        for event in self.h2.receive_data(octets):
            self._hear(event)

    def _hear(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.fields[event.stream_id] = dict(event.headers)
            self.status[event.stream_id] = int(dict(event.headers)[b":status"])
            self.body[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            self.body[event.stream_id] += event.data
            if self.acknowledges:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.append(event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = int(event.error_code)
        elif isinstance(event, ConnectionTerminated):
            self.goodbye = event


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Without a table."""
    return bytes(Encoder().encode([(name, value, True) for name, value in headers]))


def opening(*frames: bytes) -> bytes:
    """A connection that begins as it should, and goes on like this."""
    return PREFACE + frame(SETTINGS) + b"".join(frames)


def frames_in(octets: bytes) -> list[tuple[int, int, int, bytes]]:
    found, at = [], 0
    while at < len(octets):
        length, kind, flags = int.from_bytes(octets[at : at + 3]), octets[at + 3], octets[at + 4]
        found.append((kind, flags, int.from_bytes(octets[at + 5 : at + 9]), octets[at + 9 : at + 9 + length]))
        at += 9 + length
    return found


def goodbye_in(octets: bytes) -> ErrorCodes | None:
    """The error code of the GOAWAY among these frames."""
    codes = [ErrorCodes(int.from_bytes(payload[4:8])) for kind, _, _, payload in frames_in(octets) if kind == GOAWAY]
    return codes[-1] if codes else None
