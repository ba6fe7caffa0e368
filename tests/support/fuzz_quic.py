"""What is fuzzed around QUIC: whom a datagram is for, what is answered to strangers, and what streams are put together to."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import cast

from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import FrameType, encode_frame
from aioquic.quic.events import StopSendingReceived, StreamDataReceived, StreamReset

from dohproxy.errors import MalformedMessage
from dohproxy.listen.doq import _has_keepalive_untrusted
from dohproxy.protocol import quic_packets as packets
from dohproxy.protocol.doh_request import Query, Site
from dohproxy.protocol.doq import Incoming
from dohproxy.protocol.http3_server import Http3Server, Request, response_block
from dohproxy.protocol.quic_server import ServerConnection

SITE = Site("/dns-query", json=True)
REPLY = b"\0\0\x81\x80" + bytes(8)
HEADERS = encode_frame(
    FrameType.HEADERS,
    response_block(
        (
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", b"a"),
            (b":path", b"/dns-query"),
            (b"content-type", b"application/dns-message"),
        )
    ),
)
STREAMS = (0, 4, 8, 2, 6, 10)


class Quic:  # the names of arguments are aioquic's
    """What HTTP/3 wants of a connection."""

    configuration = SimpleNamespace(is_client=False)
    _quic_logger = None

    def __init__(self) -> None:
        self.closed = False
        self.ours = 3
        self.over: set[int] = set()

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        assert is_unidirectional
        self.ours += 4
        return self.ours - 4

    def send_stream_data(self, stream: int, data: bytes, end_stream: bool = False) -> None:  # noqa: ARG002
        assert stream not in self.over
        if end_stream:
            self.over.add(stream)

    def reset_stream(self, stream: int, error_code: int) -> None:  # noqa: ARG002
        self.over.add(stream)

    def stop_stream(self, stream: int, error_code: int) -> None:
        pass

    def is_open(self, stream: int) -> bool:
        return stream not in self.over

    def close(self, error_code: int = 0, reason_phrase: str = "") -> None:  # noqa: ARG002
        self.closed = True


def datagrams(data: bytes) -> None:
    """A datagram is for somebody, or is answered with no more than it is, and nothing else comes of it."""
    with suppress(MalformedMessage):
        header = packets.header_untrusted(data)
        assert len(packets.version_negotiation(header, [1])) < packets.MIN_INITIAL
        reset = packets.stateless_reset(bytes(32), data)
        assert reset is None or len(reset) < len(data)
        token = packets.initial_token_untrusted(data.ljust(packets.MIN_INITIAL, b"\0"))
        if token is not None and header.version in (1, 0x6B3343CF):
            assert len(packets.refusal(header, 2)) < len(packets.retry(header, bytes(8), bytes(64))) + 64 < packets.MIN_INITIAL


def doq(data: bytes) -> None:
    """A stream has one message, or breaks the rules."""
    if not data:
        return
    incoming, step = Incoming(), 1 + (data[0] >> 1)
    octets = data[1:] if data[0] & 1 else len(data[1:]).to_bytes(2) + data[1:]
    with suppress(MalformedMessage):
        for at in range(0, len(octets), step):
            message = incoming.receive_untrusted(octets[at : at + step], at + step >= len(octets))
            assert message is None or (len(message) >= 12 and message[:2] == b"\0\0" and at + step >= len(octets))
            if message is not None:
                _has_keepalive_untrusted(message)


def http3(data: bytes) -> None:
    """Each request is handed out once at most, and what is kept is no more than what came."""
    quic = Quic()
    server = Http3Server(cast("ServerConnection", quic))
    came, at, begun = 0, 0, set[int]()
    asked: list[Request] = []
    ended = set[int]()
    while at + 2 <= len(data) and not quic.closed:
        stream, kind, size = STREAMS[data[at] % len(STREAMS)], data[at] >> 3, data[at + 1]
        octets, at = data[at + 2 : at + 2 + size], at + 2 + size
        if stream in ended:
            continue
        if stream not in begun and kind & 1:
            octets = (HEADERS if not stream & 2 else encode_uint_var(stream // 4)) + octets
        begun.add(stream)
        came += len(octets)
        event = StreamDataReceived(octets, end_stream=kind == 16, stream_id=stream)
        found = StreamReset(0, stream) if kind == 17 else StopSendingReceived(0, stream) if kind == 18 else event
        ended |= {stream} if kind in (16, 17) else set()
        asked += server.receive_untrusted(found)
        assert server.held <= came
        if kind in (17, 18) and not stream & 2:
            quic.reset_stream(stream, 0)
            server.finish(stream)
        for request in asked[-1:]:
            if quic.is_open(request.stream):
                _answer(server, quic, request)
    server.leave()


def _answer(server: Http3Server, quic: Quic, request: Request) -> None:
    query = SITE.query_untrusted(request.head, request.body)
    response = SITE.response(query, REPLY) if isinstance(query, Query) else query
    quic.send_stream_data(request.stream, server.respond(request.stream, response.fields, response.body), end_stream=True)


def run(data: bytes) -> None:
    """Whichever the first octet picks."""
    if data:
        (datagrams, doq, http3)[data[0] % 3](data[1:])
