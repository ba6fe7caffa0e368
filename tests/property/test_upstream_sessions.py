"""Whatever a server sends, a session answers what was asked or raises MalformedMessage; nothing else comes out."""

from __future__ import annotations

from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import StreamEnded
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.errors import MalformedMessage, UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.dns_stream import DnsStream
from dohproxy.protocol.doh import DohSession
from dohproxy.protocol.doh_exchange import Requests
from dohproxy.protocol.session import Received, Session, answers, question_octets
from dohproxy.wire import names
from dohproxy.wire.framing import frame

QUESTIONS = tuple(Question(names.from_text(f"{label}.example."), 1) for label in ("a", "b", "c"))
CUTS = st.lists(st.integers(1, 400), max_size=8)
SPOILS = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=4)


def spoiled(octets: bytes, spoils: list[tuple[int, int]]) -> bytes:
    changed = bytearray(octets)
    for at, octet in spoils:
        changed[at % len(changed)] = octet
    return bytes(changed)


def received(session: Session, octets: bytes, cuts: list[int]) -> list[Received]:
    """In pieces, until it is over."""
    found = []
    with suppress(MalformedMessage):
        for size in [*cuts, len(octets)]:
            found += session.receive_untrusted(octets[:size])
            octets = octets[size:]
            session.take()
    return found


def check(found: list[Received], asked: dict[int, Question]) -> None:
    assert len({one.key for one in found}) == len(found)
    for one in found:
        key, reply = one.key, one.reply
        assert isinstance(reply, UpstreamFailed) or answers(reply, question_octets(asked[key]))


def reply(query: bytes) -> bytes:
    return query[:2] + b"\x81\x80" + query[4:6] + bytes(6) + query[12 : query.index(b"\0", 12) + 5]


@given(CUTS, SPOILS)
def test_dns_over_a_stream(cuts: list[int], spoils: list[tuple[int, int]]) -> None:
    ids = iter(range(100, 200))
    session = DnsStream(lambda: next(ids), pipeline=10)
    asked = {session.begin(question): question for question in QUESTIONS}
    octets = b"".join(frame(reply(piece[2:])) for piece in reversed(session.take()))
    found = received(session, spoiled(octets, spoils), cuts)
    check(found, asked)
    assert spoils or len(found) == len(QUESTIONS)


def settled(method: str) -> tuple[DohSession, H2Connection]:
    """A session that has its peer's SETTINGS, and the peer."""
    session = DohSession(Requests("dns.test", "/dns-query", method), pipeline=10)
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    server.initiate_connection()
    session.receive_untrusted(server.data_to_send())
    return session, server


def responses(server: H2Connection, octets: bytes) -> bytes:
    for event in server.receive_data(octets):
        if isinstance(event, StreamEnded):
            body = reply(b"\0\0\1\0\0\1" + bytes(6) + question_octets(QUESTIONS[event.stream_id // 2]))
            headers = [(b":status", b"200"), (b"content-type", b"application/dns-message"), (b"age", b"7")]
            server.send_headers(event.stream_id, headers)
            server.send_data(event.stream_id, body, end_stream=True)
    return server.data_to_send()


@given(st.sampled_from(["GET", "POST"]), CUTS, SPOILS, st.booleans())
def test_dns_over_http(method: str, cuts: list[int], spoils: list[tuple[int, int]], forgets: bool) -> None:
    session, server = settled(method)
    asked = {session.begin(question): question for question in QUESTIONS}
    octets = responses(server, b"".join(session.take()))
    if forgets:
        session.forget(3)
    found = received(session, spoiled(octets, spoils), cuts)
    check(found, asked)
    assert spoils or len(found) == len(QUESTIONS) - forgets


@given(st.binary(max_size=300), CUTS)
def test_any_octets_at_all(octets: bytes, cuts: list[int]) -> None:
    session, _ = settled("POST")
    session.begin(QUESTIONS[0])
    check(received(session, octets, cuts), {1: QUESTIONS[0]})
    check(received(DohSession(Requests("dns.test", "/"), pipeline=10), octets, cuts), {})
