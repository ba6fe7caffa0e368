"""DNS over HTTP/3: what a client gets, and what one can make us hold."""

from base64 import urlsafe_b64encode

import pytest
import trio
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode, FrameType, H3Connection, encode_frame
from aioquic.h3.events import DataReceived, HeadersReceived
from quic_callers import settled

from dohproxy.listen.doh3 import speak_doh3
from dohproxy.model import Question, Transport
from dohproxy.protocol.doh_request import MOST_HEADERS, Site
from dohproxy.protocol.http3_server import ALPN
from dohproxy.wire.query import build_query
from dohproxy.wire.reply import error_reply_for
from dohproxy.wire.request import parse_request_untrusted

QUERY = build_query(Question(b"\3www\7example\0", 1), 0, cd=False, pad_to=0)
TYPE = (b"content-type", b"application/dns-message")
CLOSED_BY_US = (ErrorCode.H3_NO_ERROR, None)


def head(method=b"POST", path=b"/dns-query", *more):
    return [(b":method", method), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", path), *more]


def get(message=QUERY):
    return head(b"GET", b"/dns-query?dns=" + urlsafe_b64encode(message).rstrip(b"="))


class Http:
    """A client's side of HTTP/3 on a caller."""

    def __init__(self, caller):
        self.caller = caller
        self.h3 = H3Connection(caller.quic)
        self.status, self.headers, self.body, self.done = {}, {}, {}, set()
        self._heeded = 0

    def heed(self):
        for event in self.caller.seen[self._heeded :]:
            self._heeded += 1
            for found in self.h3.handle_event(event):
                stream = found.stream_id
                if isinstance(found, HeadersReceived):
                    self.headers[stream] = dict(found.headers)
                    self.status[stream] = int(self.headers[stream][b":status"])
                elif isinstance(found, DataReceived):
                    self.body[stream] = self.body.get(stream, b"") + found.data
                if found.stream_ended:
                    self.done.add(stream)

    def send(self, headers, body=b"", end=True):
        stream = self.caller.quic.get_next_available_stream_id()
        self.h3.send_headers(stream, headers, end_stream=end and not body)
        if body:
            self.h3.send_data(stream, body, end_stream=end)
        return stream

    async def until(self, condition):
        def holds():
            self.heed()
            return condition()

        return await self.caller.until(holds)

    async def ask(self, headers, body=b"", end=True):
        """The status and the body of the response."""
        stream = self.send(headers, body, end)
        await self.until(lambda: stream in self.done or stream in self.caller.resets)
        return self.status.get(stream), self.body.get(stream, b"")


@pytest.fixture
def serve_h3(serve):
    def start(json=False, **limits):
        speak = speak_doh3(Site("/dns-query", json=json))
        return serve(speak=speak, transport=Transport.DOH3, alpn=ALPN, **limits)

    return start


@pytest.fixture
def http(call):
    async def connect(listener, **fields):
        return Http(await call(listener, ALPN, **fields))

    return connect


@pytest.fixture
def answering(front):
    async def answer(wire, peer, transport):
        front.asked.append((wire, peer, transport))
        return error_reply_for(parse_request_untrusted(wire), 3)

    front.answer = answer
    return front


REPLY = error_reply_for(parse_request_untrusted(QUERY), 3)


@pytest.mark.parametrize(("headers", "body"), [(get(), b""), (head(b"POST", b"/dns-query", TYPE), QUERY)])
async def test_answers_by_get_and_post(serve_h3, http, answering, headers, body):
    listener = serve_h3()
    one = await http(listener)
    assert await one.ask(headers, body) == (200, REPLY)
    assert answering.asked == [(QUERY, "127.0.0.1", Transport.DOH3)]
    assert one.headers[0] == {
        b":status": b"200",
        b"content-type": b"application/dns-message",
        b"content-length": b"%d" % len(REPLY),
        b"cache-control": b"no-store",  # a denial without an SOA record
    }
    assert listener.counters.doh3_queries == 1


async def test_head_is_get_without_the_body(serve_h3, http, answering):
    one = await http(serve_h3())
    stream = one.send(head(b"HEAD", get()[3][1]))
    octets = await one.caller.over(stream)  # aioquic's client would miss the body
    assert octets == encode_frame(FrameType.HEADERS, octets[2:])
    assert len(answering.asked) == 1


async def test_json_where_it_is_wanted(serve_h3, http, answering):
    one = await http(serve_h3(json=True))
    status, body = await one.ask(head(b"GET", b"/dns-query?name=www.example&type=A"))
    assert (status, b'"Status"' in body) == (200, True)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (head(b"GET", b"/"), b"", 404),
        (head(b"GET", b"/dns-query"), b"", 400),
        (head(b"GET", b"/dns-query?dns=!!!!"), b"", 400),
        (head(b"PUT", b"/dns-query", TYPE), QUERY, 405),
        (head(b"POST", b"/dns-query"), QUERY, 415),
        (head(b"POST", b"/dns-query", TYPE), b"short", 400),
        (head(b"POST", b"/dns-query", TYPE, (b"content-length", b"99999")), b"", 413),
        (head(b"POST", b"/dns-query", TYPE), bytes(65536), 413),
        (head(b"POST", b"/dns-query", TYPE, TYPE), QUERY, 400),
        (head(b"GET", b"/dns-query?dns=" + b"A" * 9000), b"", 414),
        (head(b"GET", b"/dns-query", (b"x", b"y" * (MOST_HEADERS - 100))), b"", 431),
        (head(b"GET", b"/dns-query", (b"x", b"\xff" * 2 * MOST_HEADERS)), b"", 431),
        (head(b"GET", b"/dns-query", *[(b"x%d" % n, b"") for n in range(600)]), b"", 431),
    ],
)
async def test_errors_have_their_status(serve_h3, http, answering, headers, body, status):
    one = await http(serve_h3())
    assert (await one.ask(headers, body, end=(b"content-length", b"99999") not in headers))[0] == status
    assert answering.asked == []
    assert await one.ask(get()) == (200, REPLY)  # and the connection goes on


async def test_what_silence_would_answer_has_a_status(serve_h3, http, front):
    async def silent(*_):
        return b""

    front.answer = silent
    assert (await (await http(serve_h3())).ask(get()))[0] == 403


async def test_many_at_once(serve_h3, http, answering):
    one = await http(listener := serve_h3())
    streams = [one.send(get()) for _ in range(300)]
    await one.until(lambda: one.done.issuperset(streams))
    assert {one.status[stream] for stream in streams} == {200}
    [connection] = listener._open.values()
    assert len(connection._session._http._stream) < 10
    assert connection._session._http._coming == {}


async def test_who_withdraws_frees_the_work(serve_h3, http, front):
    front.gates[b"\0\0\1\0"] = trio.Event()
    one = await http(listener := serve_h3())
    stopped = one.send(get())
    reset = one.send(head(b"POST", b"/dns-query", TYPE), QUERY[:5], end=False)
    both = one.send(head(b"POST", b"/dns-query", TYPE), QUERY[:5], end=False)
    await one.caller.pause()
    assert len(front.asked) == 1
    one.caller.quic.stop_stream(stopped, ErrorCode.H3_REQUEST_CANCELLED)
    one.caller.quic.reset_stream(reset, ErrorCode.H3_REQUEST_CANCELLED)
    one.caller.quic.stop_stream(both, ErrorCode.H3_REQUEST_CANCELLED)
    one.caller.quic.reset_stream(both, ErrorCode.H3_REQUEST_CANCELLED)
    await one.until(lambda: {stopped, reset, both} <= set(one.caller.resets))
    await settled(lambda: front.cancelled == 1)
    [connection] = listener._open.values()
    assert connection._session._http._coming == {}
    assert not {stopped, reset, both} & set(connection._session._http._stream)
    assert listener.intake.under_way.count == 0


async def test_rapid_resets_end_the_connection(serve_h3, http, front):
    front.gates[b"\0\0\1\0"] = trio.Event()
    one = await http(serve_h3())
    while one.caller.closed is None:
        for stream in [one.send(get()) for _ in range(10)]:
            one.caller.quic.stop_stream(stream, ErrorCode.H3_REQUEST_CANCELLED)
        await one.caller.pause(0.01)
    assert one.caller.closed.error_code == ErrorCode.H3_EXCESSIVE_LOAD


async def test_a_stop_says_goaway_and_lets_answers_out(serve_h3, http, front):
    front.gates[b"\0\0\1\0"] = trio.Event()
    listener = serve_h3()
    one, idle = await http(listener), await http(listener)
    asked = one.send(get())
    await one.caller.pause()
    listener.stop()
    await idle.until(lambda: False)
    assert (idle.caller.closed.error_code, idle.caller.closed.frame_type) == CLOSED_BY_US
    late = one.send(get())
    await one.until(lambda: late in one.caller.resets)
    assert one.caller.resets[late] == ErrorCode.H3_REQUEST_REJECTED
    assert encode_frame(FrameType.GOAWAY, encode_uint_var(asked + 4)) in one.caller.data[3]
    front.gates[b"\0\0\1\0"].set()
    await one.until(lambda: False)
    one.heed()
    assert one.status[asked] == 200
    assert (one.caller.closed.error_code, one.caller.closed.frame_type) == CLOSED_BY_US
    await settled(lambda: not len(listener))


@pytest.mark.parametrize("kind", [FrameType.SETTINGS, FrameType.HEADERS])
async def test_frames_that_do_not_end_are_bounded(serve_h3, http, kind):
    listener = serve_h3()
    one = await http(listener)
    quic = one.caller.quic
    begin = encode_uint_var(kind) + encode_uint_var(1 << 30)
    for _ in range(1 if kind is FrameType.SETTINGS else 50):
        if kind is FrameType.SETTINGS:
            stream = quic.get_next_available_stream_id(is_unidirectional=True)
            quic.send_stream_data(stream, b"\0" + begin + bytes(1 << 20))
        else:
            quic.send_stream_data(quic.get_next_available_stream_id(), begin + bytes(60000))
    for _ in range(10):
        await one.caller.pause(0.02)
        assert all(connection.quic._kept() <= 1 << 17 for connection in listener._open.values())


async def test_blocks_of_headers_stand_for_no_more_than_their_size(serve_h3, http):
    one = await http(serve_h3())
    await one.until(lambda: one.h3.received_settings is not None)
    assert one.h3.received_settings[1] == 0  # QPACK_MAX_TABLE_CAPACITY
    assert one.h3.received_settings[6] == MOST_HEADERS
    one.h3._encoder.apply_settings(4096, 16)
    for _ in range(3):
        one.send(get())
    await one.until(lambda: False)
    assert one.caller.closed.error_code in (ErrorCode.QPACK_ENCODER_STREAM_ERROR, ErrorCode.QPACK_DECOMPRESSION_FAILED)


async def test_what_is_no_http_ends_the_connection(serve_h3, http):
    one = await http(listener := serve_h3())
    one.caller.quic.send_stream_data(0, encode_frame(FrameType.DATA, b"no headers"), True)
    await one.until(lambda: False)
    assert one.caller.closed.error_code == ErrorCode.H3_FRAME_UNEXPECTED
    await settled(lambda: listener.counters.quic_open == 0)
