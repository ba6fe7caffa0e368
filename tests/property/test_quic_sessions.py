"""Whatever a server sends over QUIC, a session answers what was asked or raises MalformedMessage; nothing else comes out."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

from aioquic.h3.connection import H3Connection
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived, StreamReset
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.errors import MalformedMessage, UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.doh3_client import Doh3Session
from dohproxy.protocol.doq_client import DoqSession
from dohproxy.protocol.quic_client import QuicSession
from dohproxy.protocol.session import Received, answers, question_octets
from dohproxy.wire import names
from dohproxy.wire.framing import frame

QUESTIONS = tuple(Question(names.from_text(f"{label}.example."), 1) for label in ("a", "b", "c"))
PIECES = st.lists(st.tuples(st.integers(0, 15), st.integers(1, 60)), max_size=40)
SPOILS = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4)


class Quic:
    """As much of a connection as sessions look at: streams that remember what was sent."""

    streams_left = 100
    streams_spent = False
    _remote_max_datagram_frame_size = None
    _quic_logger = None

    def __init__(self, *, is_client: bool) -> None:
        self.configuration = QuicConfiguration(is_client=is_client)
        self.sent: dict[int, bytes] = {}
        self.closed = False
        self._next = {False: 0 if is_client else 1, True: 2 if is_client else 3}

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        return self._next[is_unidirectional]

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:  # noqa: ARG002
        unidirectional = bool(stream_id & 2)
        self._next[unidirectional] = max(self._next[unidirectional], stream_id + 4)
        self.sent[stream_id] = self.sent.get(stream_id, b"") + data

    def ask(self, data: bytes) -> int:
        stream = self._next[False]
        self.send_stream_data(stream, data, end_stream=True)
        return stream

    def give_up(self, stream: int, _: int) -> None:
        self.sent.pop(stream)

    def close(self, **_: object) -> None:
        self.closed = True

    def reset_stream(self, *_: object) -> None: ...


def spoiled(octets: bytes, spoils: list[tuple[int, int]]) -> bytes:
    changed = bytearray(octets)
    for at, octet in spoils:
        changed[at % len(changed)] = octet
    return bytes(changed)


def reply(query: bytes) -> bytes:
    return query[:2] + b"\x81\x80" + query[4:6] + bytes(6) + query[12 : query.index(b"\0", 12) + 5]


def received(session: QuicSession, streams: dict[int, bytes], pieces: list[tuple[int, int]]) -> list[Received]:
    """The octets of all streams, in pieces of a strange order, until it is over."""
    found, rest = [], dict(streams)
    with suppress(MalformedMessage):
        for which, size in [*pieces, *((0, 1 << 20) for _ in streams)]:
            if not rest:
                break
            stream = sorted(rest)[which % len(rest)]
            data, rest[stream] = rest[stream][:size], rest[stream][size:]
            last = not rest[stream] and not stream & 2
            found += session.handle_untrusted(StreamDataReceived(data=data, end_stream=last, stream_id=stream))
            if not rest[stream]:
                del rest[stream]
    return found


def check(found: list[Received], asked: dict[int, Question]) -> None:
    assert len({one.key for one in found}) == len(found)
    for one in found:
        assert isinstance(one.reply, UpstreamFailed) or answers(one.reply, question_octets(asked[one.key]))


@given(PIECES, SPOILS)
def test_doq(pieces: list[tuple[int, int]], spoils: list[tuple[int, int]]) -> None:
    quic, session = Quic(is_client=True), DoqSession(pipeline=10)
    session.attach(quic)  # type: ignore[arg-type]
    asked = {session.begin(question): question for question in QUESTIONS}
    streams = {stream: frame(reply(query[2:])) for stream, query in quic.sent.items()}
    streams[0] = spoiled(streams[0], spoils)
    found = received(session, streams, pieces)
    check(found, asked)
    if not spoils:
        assert len(found) == len(asked)


@given(PIECES, SPOILS, st.integers(0, 12))
def test_doh3(pieces: list[tuple[int, int]], spoils: list[tuple[int, int]], spoiled_stream: int) -> None:
    quic, session = Quic(is_client=True), Doh3Session("dns.test", "/dns-query", pipeline=10)
    session.attach(quic)  # type: ignore[arg-type]
    asked = {session.begin(question): question for question in QUESTIONS}
    theirs = Quic(is_client=False)
    server = H3Connection(theirs)  # type: ignore[arg-type]
    for stream in asked:
        query = quic.sent[stream][-128:]
        server.send_headers(stream, [(b":status", b"200"), (b"content-type", b"application/dns-message")])
        server.send_data(stream, reply(query), end_stream=True)
    streams = dict(theirs.sent)
    at = sorted(streams)[spoiled_stream % len(streams)]
    streams[at] = spoiled(streams[at], spoils) if streams[at] else b""
    streams = {stream: octets for stream, octets in streams.items() if octets}
    found = received(session, streams, pieces)
    check(found, asked)
    if not spoils:
        assert len(found) == len(asked)


def test_a_reset_of_what_nobody_asked_says_nothing() -> None:
    session = DoqSession(pipeline=10)
    session.attach(SimpleNamespace())  # type: ignore[arg-type]
    assert session.handle_untrusted(StreamReset(error_code=0, stream_id=40)) == []
