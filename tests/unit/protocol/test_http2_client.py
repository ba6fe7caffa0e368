"""HTTP/2 as we speak it to servers: good ones, on h2, and those up to something."""

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, RequestReceived
from h2.settings import SettingCodes
from hpack import Decoder
from http2_clients import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    block,
    frame,
    frames_in,
    post,
)

from dohproxy.errors import MalformedMessage, UpstreamFailed
from dohproxy.model import Question
from dohproxy.protocol.doh import DohSession
from dohproxy.protocol.doh_exchange import Requests
from dohproxy.protocol.http2_client import WINDOW, Http2Client
from dohproxy.protocol.session import question_octets
from dohproxy.wire import names

GOOD = block([(b":status", b"200"), (b"content-type", b"application/dns-message")])
QUESTION = Question(names.from_text("a.example."), 1)
SETTLED = frame(SETTINGS)
ANSWER = b"\0\0\x81\x80\0\1" + bytes(6) + question_octets(QUESTION)


def setting(code, value):
    return frame(SETTINGS, 0, 0, code.to_bytes(2) + value.to_bytes(4))


def settled(octets=SETTLED):
    client = Http2Client(100)
    assert not list(client.receive_untrusted(octets))
    return client


def asked(octets=SETTLED):
    """A session that waits for an answer on stream 1."""
    session = DohSession(Requests("dns.test", "/dns-query"), pipeline=10)
    session.receive_untrusted(octets)
    assert session.begin(QUESTION) == 1
    return session


def answered(session, *frames):
    [received] = session.receive_untrusted(b"".join(frames))
    return received.reply


def test_the_first_settings_refuse_pushes_and_limit_streams():
    server = H2Connection(H2Configuration(client_side=False))
    events = server.receive_data(Http2Client(200).take())
    told = next(event for event in events if isinstance(event, RemoteSettingsChanged)).changed_settings
    assert (told[SettingCodes.ENABLE_PUSH].new_value, told[SettingCodes.MAX_CONCURRENT_STREAMS].new_value) == (0, 200)
    assert server.outbound_flow_control_window == WINDOW


@pytest.mark.parametrize("table", [None, 0, 100, 4096, 65536])
def test_requests_are_what_was_asked_however_often(table):
    server = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    client = settled(frame(SETTINGS) if table is None else setting(SettingCodes.HEADER_TABLE_SIZE, table))
    if table is not None:
        server.local_settings[SettingCodes.HEADER_TABLE_SIZE] = table
        server.local_settings.acknowledge()
        server.decoder.max_allowed_table_size = table
    requests = [(post(), b"one"), (post(), b"two"), (post(b"/other"), b"three"), (post(), b"four"), (post(b"/last"), b"")] * 3
    for headers, body in requests:
        client.ask(headers, body)
    events = server.receive_data(client.take())
    assert [list(event.headers) for event in events if isinstance(event, RequestReceived)] == [one[0] for one in requests]
    assert [event.data for event in events if isinstance(event, DataReceived)] == [one[1] for one in requests if one[1]]


def tables(*sizes):
    return b"".join(setting(SettingCodes.HEADER_TABLE_SIZE, size) for size in sizes)


@pytest.mark.parametrize(
    "sizes",
    [(0,), (0, 0), (100, 100), (4096,), (0, 4096), (4096, 0), (100, 4096, 4096), (65536, 100, 65536), (4096, 0, 0, 4096)],
)
def test_the_server_changes_its_table_amid_requests(sizes):
    client, decoder = settled(), Decoder()

    def asked_for(*paths):
        for path in paths:
            client.ask(post(path), b"")
        blocks = [payload for kind, _, _, payload in frames_in(client.take().removeprefix(PREFACE)) if kind == HEADERS]
        return [dict(decoder.decode(block, raw=True))[b":path"] for block in blocks]

    assert asked_for(b"/dns-query", b"/b") == [b"/dns-query", b"/b"]
    [*_] = client.receive_untrusted(tables(*sizes))
    decoder.max_allowed_table_size = sizes[-1]  # it now insists on an update (RFC 7541 4.2)
    assert asked_for(b"/a", b"/a", b"/b", b"/dns-query", b"/b") == [b"/a", b"/a", b"/b", b"/dns-query", b"/b"]


def test_a_table_that_changes_without_end_is_told_of_twice():
    client = settled()
    for _ in range(100):
        [*_] = client.receive_untrusted(tables(4000, 4001) * 50)
    client.take()
    client.ask(post(), b"")
    assert int.from_bytes(client.take()[:3]) < 200
    [*_] = client.receive_untrusted(tables(10, 20, 2000, 1000))
    client.take()
    client.ask(post(), b"")
    assert client.take()[9:].startswith(b"\x2a\x3f\xc9\x07")  # 10, 1000


def test_the_servers_limits():
    client = Http2Client(100)
    assert not client.ready and not client.streams
    [*_] = client.receive_untrusted(
        setting(SettingCodes.MAX_CONCURRENT_STREAMS, 7) + setting(SettingCodes.INITIAL_WINDOW_SIZE, 9)
    )
    assert (client.ready, client.streams, client.room_of_stream, client.room) == (True, 7, 9, 65535)
    client.ask(post(), bytes(1000))
    assert client.room == 64535
    [*_] = client.receive_untrusted(frame(WINDOW_UPDATE, 0, 0, (465).to_bytes(4)))
    assert client.room == 65000


def test_a_session_asks_nothing_that_does_not_fit_into_the_windows():
    session = DohSession(Requests("dns.test", "/"), pipeline=1000)
    session.receive_untrusted(frame(SETTINGS))
    for asked_before in range((65535 - 512) // 128 + 1):
        assert session.capacity == 1000 - asked_before
        session.begin(QUESTION)
    assert session.capacity == 0
    session.receive_untrusted(setting(SettingCodes.INITIAL_WINDOW_SIZE, 511) + frame(WINDOW_UPDATE, 0, 0, (60000).to_bytes(4)))
    assert session.capacity == 0
    session.receive_untrusted(setting(SettingCodes.INITIAL_WINDOW_SIZE, 512))
    assert session.capacity > 0


def test_what_has_to_be_answered():
    client = settled()
    client.take()
    [*_] = client.receive_untrusted(
        frame(SETTINGS) + frame(PING, 0, 0, b"pingpong") + frame(PING, 1, 0, b"pingpong") + frame(SETTINGS, 1)
    )
    assert client.take() == frame(SETTINGS, 1) + frame(PING, 1, 0, b"pingpong")


def test_the_window_is_given_back_whoever_waits():
    session = asked()
    session.take()
    session.forget(1)
    session.take()
    piece = frame(DATA, 0, 1, bytes(16384))
    for _ in range(200):
        session.receive_untrusted(piece * 16)
        assert session.take() == [frame(WINDOW_UPDATE, 0, 0, (1 << 18).to_bytes(4))]


def test_a_later_goaway_may_only_lower_the_last_stream():
    client = settled()
    for last in (9, 3, 7):
        [*_] = client.receive_untrusted(frame(GOAWAY, 0, 0, last.to_bytes(4) + bytes(4) + b"bye"))
    assert client.last_stream == 3


def test_interim_responses_and_trailers_say_nothing():
    interim, trailers = block([(b":status", b"103")]), block([(b"grpc-status", b"0")])
    frames = [frame(HEADERS, END_HEADERS, 1, interim), frame(HEADERS, END_HEADERS, 1, GOOD)]
    frames += [frame(DATA, 0, 1, ANSWER[:7]), frame(DATA, 0, 1, ANSWER[7:])]
    assert answered(asked(), *frames, frame(HEADERS, END_HEADERS | END_STREAM, 1, trailers)) == ANSWER


def test_empty_pieces_are_not_kept():
    session = asked()
    session.receive_untrusted(frame(HEADERS, END_HEADERS, 1, GOOD) + frame(DATA, 0, 1, b"") * 1000)
    assert not session._streams[1]._body
    assert answered(session, frame(DATA, END_STREAM, 1, ANSWER)) == ANSWER


@pytest.mark.parametrize(
    "last",
    [
        frame(HEADERS, END_HEADERS | END_STREAM, 1, block([(b":status", b"503")])),
        frame(DATA, END_STREAM, 1, b"ahead of headers"),
        frame(HEADERS, END_HEADERS, 1, GOOD) + frame(DATA, 0, 1, bytes(16384)) * 3 + frame(DATA, END_STREAM, 1, bytes(16384)),
    ],
)
def test_what_the_server_has_ended_is_not_reset(last):
    session = asked()
    session.take()
    assert isinstance(answered(session, last), UpstreamFailed)
    assert not [kind for kind, *_ in frames_in(b"".join(session.take())) if kind == RST_STREAM]
    assert not session._streams


def test_what_is_refused_before_its_end_is_reset():
    session = asked()
    session.take()
    assert isinstance(answered(session, frame(HEADERS, END_HEADERS, 1, block([(b":status", b"503")]))), UpstreamFailed)
    assert [kind for kind, *_ in frames_in(b"".join(session.take()))] == [RST_STREAM]


def test_headers_in_pieces_and_bodies_with_padding():
    frames = [frame(HEADERS, 0, 1, GOOD[:3]), frame(CONTINUATION, END_HEADERS, 1, GOOD[3:])]
    assert answered(asked(), *frames, frame(DATA, END_STREAM | 8, 1, b"\5" + ANSWER + bytes(5))) == ANSWER


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([frame(DATA, END_STREAM, 1, ANSWER)], "ahead of its headers"),
        ([frame(HEADERS, END_HEADERS | END_STREAM, 1, block([(b":status", b"100")]))], "not as long"),
        ([frame(HEADERS, END_HEADERS | END_STREAM, 1, GOOD)], "another question"),
        ([frame(RST_STREAM, 0, 1, (2).to_bytes(4))], "reset"),
        ([frame(HEADERS, END_HEADERS, 1, GOOD), *([frame(DATA, 0, 1, bytes(16384))] * 4)], "over 65535"),
    ],
)
def test_a_response_that_is_none_is_of_one_stream_only(frames, reason):
    session = asked()
    reply = answered(session, *frames)
    assert type(reply) is UpstreamFailed and reason in str(reply)
    assert session.begin(QUESTION) == 3 and session.capacity == 9


@pytest.mark.parametrize("size", [len(ANSWER) - 1, len(ANSWER) + 1])
def test_a_body_of_another_length_than_it_should_have(size):
    headers = block([(b":status", b"200"), (b"content-type", b"application/dns-message"), (b"content-length", b"%d" % size)])
    reply = answered(asked(), frame(HEADERS, END_HEADERS, 1, headers), frame(DATA, END_STREAM, 1, ANSWER))
    assert isinstance(reply, UpstreamFailed) and "not as long" in str(reply)


def test_blocks_mean_what_the_table_has_at_the_time():
    first = b"\x88\x40\x03age\x012"  # literals that enter the table, at 62
    second = b"\x40\x03age\x013"
    client = settled()
    streams = [client.ask(post(), b"") for _ in range(5)]
    blocks = [first, b"\x88\xbe", second, b"\x88\xbe", b"\x88\xbf"]
    parts = client.receive_untrusted(b"".join(frame(HEADERS, END_HEADERS, s, b) for s, b in zip(streams, blocks, strict=True)))
    assert [part.head.age for part in parts] == [2, 2, 3, 3, 2]


@pytest.mark.parametrize(
    "octets",
    [
        frame(DATA, 0, 3, b"x"),
        frame(HEADERS, END_HEADERS, 3, GOOD),
        frame(HEADERS, END_HEADERS, 2, GOOD),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff"),
        frame(RST_STREAM, 0, 5, bytes(4)),
        frame(WINDOW_UPDATE, 0, 3, (1).to_bytes(4)),
        frame(WINDOW_UPDATE, 0, 0, ((1 << 31) - 1).to_bytes(4)),
        frame(PUSH_PROMISE, END_HEADERS, 1, (2).to_bytes(4) + GOOD),
        frame(CONTINUATION, END_HEADERS, 1, GOOD),
        frame(GOAWAY, 0, 0, bytes(4)),
        setting(SettingCodes.MAX_FRAME_SIZE, 100),
        setting(SettingCodes.INITIAL_WINDOW_SIZE, 1 << 31),
        b"\0\x40\1\0\0\0\0\0\1",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frame(HEADERS, 0, 1, GOOD) + frame(PING, 0, 0, bytes(8)),
    ],
)
def test_what_ends_the_connection(octets):
    with pytest.raises(MalformedMessage):
        asked().receive_untrusted(octets)


def test_something_ahead_of_settings():
    with pytest.raises(MalformedMessage):
        list(Http2Client(10).receive_untrusted(frame(PING, 0, 0, bytes(8))))


def test_more_than_there_is_room_for():
    """It is given back once it is taken, so this takes octets that are of no use, in one go."""
    client = settled()
    client.ask(post(), b"")
    with pytest.raises(MalformedMessage, match="room"):
        list(client.receive_untrusted(frame(DATA, 0, 1, bytes(16384)) * 65))
