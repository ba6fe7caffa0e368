"""HTTP/2 as we speak it to clients: good ones, those of little means, and those up to something."""

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from http2_clients import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Client,
    block,
    frame,
    frames_in,
    get,
    goodbye_in,
    opening,
    post,
)

from dohproxy.errors import MalformedMessage
from dohproxy.protocol.doh_request import MOST_HEADERS, Response
from dohproxy.protocol.http2_server import MOST_TOIL, WINDOW, Http2Server

QUERY = bytes(40)
ASK = block(get(b"/dns-query?dns=AAAA"))


def asking(stream, headers=ASK, flags=END_HEADERS | END_STREAM):
    return frame(HEADERS, flags, stream, headers)


class Talk:
    """A good client and the server, whose requests wait until they are answered."""

    def __init__(self, streams=100, **settings):
        self.client, self.server = Client(**settings), Http2Server(streams)
        self.requests = []
        self.exchange()

    def exchange(self):
        while octets := self.client.sends():
            self.requests += self.server.receive_untrusted(octets)
            self.client.hears(self.server.take())
        self.client.hears(self.server.take())
        if octets := self.client.sends():
            self.requests += self.server.receive_untrusted(octets)
            self.exchange()

    def answer(self, request, body=b"answer", **more):
        self.server.respond(request.stream, Response(200, body, **more).fields, body)

    def answer_all(self):
        for request in self.requests:
            self.answer(request, request.body[::-1])
        self.requests.clear()
        self.exchange()


def test_many_requests():
    talk = Talk()
    for n in range(500):
        streams = [talk.client.ask(post(), b"%d" % (n + i)) for i in range(3)] + [talk.client.ask(get(b"/%d" % n))]
        talk.exchange()
        talk.answer_all()
        assert [talk.client.body[stream] for stream in streams] == [(b"%d" % (n + i))[::-1] for i in range(3)] + [b""]
    assert talk.server.open == 0 and not talk.client.resets and talk.client.goodbye is None


def test_what_is_asked():
    talk = Talk()
    talk.client.ask(post(b"/dns-query", (b"content-length", b"40")), QUERY)
    talk.client.ask(get(b"/dns-query?dns=AAAA", b"HEAD"))
    talk.exchange()
    posted, got = talk.requests
    assert posted.body == QUERY and posted.head.method == b"POST" and posted.head.media == b"application/dns-message"
    assert got.head.target == b"/dns-query?dns=AAAA" and got.head.method == b"HEAD" and got.body == b""


def test_headers_in_every_form():
    """With and without a table, in one piece and in many, padded, with priorities: hpack and hyperframe read them."""
    talk = Talk()
    encoder = Encoder()
    server = Http2Server(100)
    padded = b"\x05" + encoder.encode(post()) + bytes(5)
    weighted = b"\0\0\0\0\x10" + encoder.encode(post())
    pieces = encoder.encode(post())
    octets = opening(
        frame(HEADERS, END_HEADERS | 0x8, 1, padded),
        frame(DATA, END_STREAM | 0x8, 1, b"\x03one" + bytes(3)),
        frame(HEADERS, END_HEADERS | 0x20, 3, weighted),
        frame(DATA, 0, 3, b"t"),
        frame(DATA, 0, 3, b"wo"),
        frame(DATA, END_STREAM, 3),
        frame(HEADERS, 0, 5, pieces[:1]),
        frame(CONTINUATION, 0, 5, pieces[1:2]),
        frame(CONTINUATION, END_HEADERS, 5, pieces[2:]),
        frame(DATA, END_STREAM, 5, b"three"),
    )
    requests = [request for n in range(len(octets)) for request in server.receive_untrusted(octets[n : n + 1])]
    assert [(request.stream, request.body) for request in requests] == [(1, b"one"), (3, b"two"), (5, b"three")]
    assert len({request.head for request in requests}) == 1
    assert talk.server.open == 0


def test_equal_blocks_may_mean_something_else_later():
    """What an index means changes with the table."""
    server, encoder = Http2Server(100), Encoder()
    first = encoder.encode(get(b"/one"))
    again = encoder.encode(get(b"/one"))
    other = encoder.encode([*get(b"/one"), (b"x-more", b"1")])
    shifted = encoder.encode(get(b"/one"))
    assert again != shifted
    blocks = [first, again, again, other, shifted, shifted]
    requests = server.receive_untrusted(opening(*[asking(2 * n + 1, each) for n, each in enumerate(blocks)]))
    assert [request.head.target for request in requests] == [b"/one"] * 6
    changed = encoder.encode(get(b"/two"))
    [two, one] = server.receive_untrusted(asking(101, changed) + asking(103, encoder.encode(get(b"/one"))))
    assert (two.head.target, one.head.target) == (b"/two", b"/one")


def test_what_an_old_block_meant_is_forgotten_with_the_table():
    server = Http2Server(100)
    one = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/one")]
    encoder = Encoder()
    first, index = encoder.encode(one), encoder.encode(one)
    requests = server.receive_untrusted(opening(asking(1, first), asking(3, index)))
    assert {request.head.target for request in requests} == {b"/one"}
    smaller = b"\x20" + index
    with pytest.raises(MalformedMessage):
        server.receive_untrusted(asking(5, smaller))
    assert goodbye_in(server.take()) == ErrorCodes.COMPRESSION_ERROR


def test_answers_in_any_order():
    talk = Talk()
    one, two = talk.client.ask(get(b"/1")), talk.client.ask(get(b"/2"))
    talk.exchange()
    talk.answer(talk.requests[1], b"second")
    talk.exchange()
    assert talk.client.ended == [two]
    talk.answer(talk.requests[0], b"first")
    talk.exchange()
    assert talk.client.ended == [two, one] and talk.client.body[one] == b"first"


def test_fields_without_a_body():
    talk = Talk()
    stream = talk.client.ask(get(b"/", b"HEAD"))
    talk.exchange()
    talk.server.respond(stream, Response(200, b"x" * 100, max_age=7).fields, b"")
    talk.exchange()
    assert talk.client.fields[stream][b"content-length"] == b"100" and talk.client.ended == [stream]
    assert talk.client.fields[stream][b"cache-control"] == b"max-age=7"


@pytest.mark.parametrize("table", [0, 10, 4096])
def test_clients_with_any_table(table):
    talk = Talk(header_table_size=table)
    for _ in range(3):
        talk.client.ask(get(b"/"))
        talk.exchange()
        talk.answer_all()
    assert len(talk.client.ended) == 3


def test_a_large_answer_waits_for_the_clients_windows():
    talk = Talk(initial_window_size=1000)
    stream = talk.client.ask(get(b"/"))
    talk.exchange()
    talk.client.acknowledges = False
    body = bytes(range(256)) * 255
    talk.answer(talk.requests[0], body)
    talk.client.hears(talk.server.take())
    assert len(talk.client.body[stream]) == 1000 and talk.server.open == 1
    talk.client.h2.increment_flow_control_window(70_000, stream)
    talk.exchange()
    assert talk.client.body[stream] == body[:65535] and talk.client.ended == [stream]


def test_the_window_of_all_streams_counts_too():
    talk = Talk(initial_window_size=1 << 20)
    streams = [talk.client.ask(get(b"/%d" % n)) for n in range(4)]
    talk.exchange()
    talk.client.acknowledges = False
    for request in talk.requests:
        talk.answer(request, bytes(30_000))
    talk.client.hears(talk.server.take())
    assert sum(map(len, talk.client.body.values())) == 65535
    talk.client.h2.increment_flow_control_window(60_000)
    talk.exchange()
    assert sorted(talk.client.ended) == streams


def test_windows_that_settings_change():
    talk = Talk(initial_window_size=0)
    stream = talk.client.ask(get(b"/"))
    talk.exchange()
    talk.answer_all()
    stream = talk.client.ask(get(b"/"))
    talk.exchange()
    talk.answer(talk.requests[0], b"body")
    talk.exchange()
    assert stream not in talk.client.ended
    talk.client.h2.update_settings({4: 100})
    talk.exchange()
    assert talk.client.body[stream] == b"body"


def test_bodies_are_given_back_to_the_window():
    talk = Talk()
    for _ in range(20):
        talk.client.ask(post(), bytes(16_000))
        talk.exchange()
        talk.answer(talk.requests.pop(), b"x")
        talk.exchange()
    assert len(talk.client.ended) == 20


def test_octets_of_bodies_that_never_end_are_bounded():
    server = Http2Server(100)
    server.receive_untrusted(opening(*[asking(n, block(post()), END_HEADERS) for n in (1, 3, 5, 7, 9)]))
    for n in (1, 3, 5, 7):
        server.receive_untrusted(frame(DATA, 0, n, bytes(16_000)))
    with pytest.raises(MalformedMessage):
        server.receive_untrusted(frame(DATA, 0, 9, bytes(WINDOW - 64_000 + 1)))
    assert goodbye_in(server.take()) == ErrorCodes.FLOW_CONTROL_ERROR


def test_a_request_that_says_that_it_is_too_large_is_not_waited_for():
    talk = Talk()
    stream = talk.client.ask(post(b"/dns-query", (b"content-length", b"70000")), bytes(100), end=False)
    talk.exchange()
    assert talk.requests[0].head.length == 70_000
    talk.server.respond(stream, Response(413, b"").fields, b"")
    talk.exchange()
    assert talk.client.status[stream] == 413 and talk.server.open == 0
    for _ in range(5):
        talk.client.h2.send_data(stream, bytes(13_000))
        talk.exchange()
    assert not talk.client.resets and talk.client.goodbye is None


def test_requests_that_are_withdrawn():
    talk = Talk()
    kept, gone = talk.client.ask(get(b"/1")), talk.client.ask(get(b"/2"))
    talk.exchange()
    talk.client.h2.reset_stream(gone, ErrorCodes.CANCEL)
    talk.exchange()
    assert talk.server.withdrawn == [gone]
    talk.answer_all()
    assert talk.client.ended == [kept]


def test_a_request_that_is_withdrawn_at_once_is_none():
    server = Http2Server(100)
    reset = frame(RST_STREAM, 0, 1, bytes(4))
    assert server.receive_untrusted(opening(asking(1), reset)) == [] and server.withdrawn == [1]


def test_streams_beyond_the_limit_are_refused_and_the_others_live():
    server = Http2Server(2)
    requests = server.receive_untrusted(opening(asking(1), asking(3), asking(5)))
    assert [request.stream for request in requests] == [1, 3]
    resets = [(stream, payload) for kind, _, stream, payload in frames_in(server.take()) if kind == RST_STREAM]
    assert resets == [(5, int(ErrorCodes.REFUSED_STREAM).to_bytes(4))]


def test_leaving():
    server = Http2Server(100)
    [request] = server.receive_untrusted(opening(asking(1)))
    server.leave()
    assert server.closing and goodbye_in(server.take()) == ErrorCodes.NO_ERROR
    assert server.receive_untrusted(asking(3)) == []
    server.respond(request.stream, Response(200, b"answer").fields, b"answer")
    told = frames_in(server.take())
    assert (RST_STREAM, 0, 3, int(ErrorCodes.REFUSED_STREAM).to_bytes(4)) in told
    assert (DATA, END_STREAM, 1, b"answer") in told


@pytest.mark.parametrize(
    "headers",
    [
        get(b"/")[1:],
        [*get(b"/"), (b":path", b"/other")],
        [*get(b"/"), (b"Upper", b"case")],
        [*get(b"/"), (b"connection", b"keep-alive")],
        [*get(b"/"), (b"transfer-encoding", b"chunked")],
        [(b"x", b"y"), *get(b"/")],
        [*get(b"/"), (b":status", b"200")],
        [*get(b"/"), (b"content-length", b"5")],
        [*get(b"/"), (b"content-length", b"0"), (b"content-length", b"0")],
        [*get(b"/"), (b"a", b"b\r\nc: d")],
    ],
)
def test_a_request_that_is_none_costs_its_stream_and_no_other(headers):
    server = Http2Server(100)
    requests = server.receive_untrusted(opening(asking(1, block(headers)), asking(3)))
    assert [request.stream for request in requests] == [3]
    assert (RST_STREAM, 0, 1, int(ErrorCodes.PROTOCOL_ERROR).to_bytes(4)) in frames_in(server.take())


def test_trailers_end_a_request():
    server = Http2Server(100)
    [request] = server.receive_untrusted(
        opening(
            asking(1, block(post()), END_HEADERS),
            frame(DATA, 0, 1, QUERY),
            asking(1, block([(b"x-checksum", b"1")])),
        )
    )
    assert request.body == QUERY


@pytest.mark.parametrize(
    ("code", "octets"),
    [
        ("PROTOCOL_ERROR", b"GET / HTTP/1.1\r\n\r\n"),
        ("PROTOCOL_ERROR", PREFACE + frame(PING, payload=bytes(8))),
        ("PROTOCOL_ERROR", PREFACE + frame(SETTINGS, 1)),
        ("PROTOCOL_ERROR", opening(asking(2))),
        ("PROTOCOL_ERROR", opening(asking(0))),
        ("PROTOCOL_ERROR", opening(frame(DATA, 0, 1, b"x"))),
        ("PROTOCOL_ERROR", opening(frame(DATA, 0, 0, b"x"))),
        ("PROTOCOL_ERROR", opening(frame(CONTINUATION, END_HEADERS, 1, ASK))),
        ("PROTOCOL_ERROR", opening(asking(1, ASK, END_STREAM), frame(PING, payload=bytes(8)))),
        ("PROTOCOL_ERROR", opening(asking(1, ASK, END_STREAM), frame(CONTINUATION, END_HEADERS, 3, b""))),
        ("PROTOCOL_ERROR", opening(frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + ASK))),
        ("PROTOCOL_ERROR", opening(frame(WINDOW_UPDATE, 0, 0, bytes(4)))),
        ("PROTOCOL_ERROR", opening(frame(WINDOW_UPDATE, 0, 7, b"\0\0\0\1"))),
        ("PROTOCOL_ERROR", opening(frame(RST_STREAM, 0, 7, bytes(4)))),
        ("PROTOCOL_ERROR", opening(frame(HEADERS, END_HEADERS | 0x8, 1, b"\xff" + ASK))),
        ("PROTOCOL_ERROR", opening(frame(SETTINGS, payload=b"\0\2\0\0\0\2"))),
        ("PROTOCOL_ERROR", opening(frame(SETTINGS, payload=b"\0\5\0\0\0\1"))),
        ("FLOW_CONTROL_ERROR", opening(frame(SETTINGS, payload=b"\0\4\x80\0\0\0"))),
        ("FLOW_CONTROL_ERROR", opening(frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"))),
        ("FRAME_SIZE_ERROR", opening(b"\0\x40\x01" + bytes(6))),
        ("FRAME_SIZE_ERROR", opening(frame(PING, payload=bytes(7)))),
        ("FRAME_SIZE_ERROR", opening(frame(RST_STREAM, 0, 1, bytes(3)))),
        ("FRAME_SIZE_ERROR", opening(frame(SETTINGS, payload=bytes(5)))),
        ("COMPRESSION_ERROR", opening(asking(1, b"\xff\xff\xff\xff\xff\xff\xff\xff"))),
        ("COMPRESSION_ERROR", opening(asking(1, b"\xc5"))),
    ],
)
def test_what_ends_a_connection(code, octets):
    server = Http2Server(100)
    server.take()
    with pytest.raises(MalformedMessage):
        server.receive_untrusted(octets)
    assert goodbye_in(server.take()) == ErrorCodes[code]


def test_frames_that_are_unheard_of_are_passed_over():
    server = Http2Server(100)
    octets = opening(frame(0x42, 0xFF, 7, b"?"), frame(PRIORITY, 0, 9, b"\0\0\0\0\1"), asking(1))
    assert len(server.receive_untrusted(octets)) == 1


def test_pings_and_settings_are_acknowledged():
    server = Http2Server(100)
    server.receive_untrusted(opening(frame(PING, payload=b"12345678"), frame(PING, 1, payload=bytes(8))))
    told = frames_in(server.take())
    assert [(kind, flags) for kind, flags, _, _ in told] == [(SETTINGS, 0), (SETTINGS, 1), (PING, 1)]
    assert told[-1][3] == b"12345678"


# Those up to something: counted is what they may have us do, and what we keep of them


def flood(server, octets, most):
    """How many of these it takes until the connection ends."""
    server.receive_untrusted(opening())
    for count in range(most):
        try:
            server.receive_untrusted(octets(count))
        except MalformedMessage:
            assert goodbye_in(server.take()) == ErrorCodes.ENHANCE_YOUR_CALM
            return count
    raise AssertionError("it never ended")


@pytest.mark.parametrize(
    "octets",
    [
        frame(PING, payload=bytes(8)),
        frame(SETTINGS),
        frame(SETTINGS, payload=b"\0\4\0\0\0\1" * 100),
        frame(PRIORITY, 0, 1, b"\0\0\0\0\1"),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        frame(0x42, 0, 0, b"?"),
        frame(GOAWAY, 0, 0, bytes(8)),
    ],
)
def test_frames_about_nothing(octets):
    assert flood(Http2Server(100), lambda _: octets, 2 * MOST_TOIL) <= MOST_TOIL


def test_rapid_resets():
    server = Http2Server(100)

    def reset(count):
        stream = 2 * count + 1
        return asking(stream) + frame(RST_STREAM, 0, stream, bytes(4))

    assert flood(server, reset, 1000) <= MOST_TOIL // 10
    assert server.open == 0


def test_resets_after_answers_are_not_rapid():
    talk = Talk()
    for n in range(1000):
        kept, gone = talk.client.ask(get(b"/")), talk.client.ask(get(b"/%d" % n))
        talk.exchange()
        talk.client.h2.reset_stream(gone, ErrorCodes.CANCEL)
        talk.exchange()
        talk.answer_all()
        assert kept in talk.client.ended
    assert talk.client.goodbye is None


def test_resets_that_we_are_made_to_send():
    """Requests that are none, streams beyond the limit (CVE-2025-8671)."""
    bad = block([*get(b"/"), (b"connection", b"close")])
    assert flood(Http2Server(100), lambda count: asking(2 * count + 1, bad), 1000) <= MOST_TOIL // 5
    server = Http2Server(1)
    assert flood(server, lambda count: asking(2 * count + 1), 1000) <= MOST_TOIL // 5 + 1
    assert server.open == 1


def test_bodies_in_crumbs():
    server = Http2Server(100)
    server.receive_untrusted(opening(asking(1, block(post()), END_HEADERS)))
    with pytest.raises(MalformedMessage):
        for _ in range(2 * MOST_TOIL):
            server.receive_untrusted(frame(DATA, 0, 1, b"x"))
    assert goodbye_in(server.take()) == ErrorCodes.ENHANCE_YOUR_CALM


def test_bodies_of_closed_streams():
    server = Http2Server(100)
    server.receive_untrusted(opening(asking(1), frame(RST_STREAM, 0, 1, bytes(4))))
    with pytest.raises(MalformedMessage):
        for _ in range(2 * MOST_TOIL):
            server.receive_untrusted(frame(DATA, 0, 1, b"x"))
    assert goodbye_in(server.take()) == ErrorCodes.ENHANCE_YOUR_CALM


def test_headers_without_end():
    """CVE-2024-27316 and its like: pieces are few, and small in all."""
    server = Http2Server(100)
    server.receive_untrusted(opening(frame(HEADERS, 0, 1, b"")))
    with pytest.raises(MalformedMessage):
        for _ in range(100):
            server.receive_untrusted(frame(CONTINUATION, 0, 1, b""))
    assert goodbye_in(server.take()) == ErrorCodes.ENHANCE_YOUR_CALM
    server = Http2Server(100)
    with pytest.raises(MalformedMessage):
        server.receive_untrusted(opening(frame(HEADERS, 0, 1, bytes(16384)), frame(CONTINUATION, 0, 1, b"x")))
    assert goodbye_in(server.take()) == ErrorCodes.ENHANCE_YOUR_CALM


def test_headers_that_unfold_to_more_than_we_take():
    """A block of few octets that stands for many (RFC 7541 7.3)."""
    encoder = Encoder()
    bomb = encoder.encode([*get(b"/"), (b"x-bomb", b"x" * 3000)])
    again = encoder.encode([*get(b"/"), *[(b"x-bomb", b"x" * 3000)] * 6])
    assert len(again) < 100
    server = Http2Server(100)
    assert len(server.receive_untrusted(opening(asking(1, bomb)))) == 1
    with pytest.raises(MalformedMessage):
        server.receive_untrusted(asking(3, again))
    assert goodbye_in(server.take()) == ErrorCodes.ENHANCE_YOUR_CALM
    assert MOST_HEADERS < 18_000


def test_what_is_remembered_of_headers_is_bounded():
    server = Http2Server(10_000)
    server.receive_untrusted(opening())
    for n in range(3000):
        for request in server.receive_untrusted(asking(2 * n + 1, block(get(b"/%d" % n)))):
            server.respond(request.stream, Response(200, b"").fields, b"")
        assert len(server._decoder._known) <= 256


def test_answers_that_are_not_taken_are_as_many_as_streams():
    server = Http2Server(10)
    server.receive_untrusted(PREFACE + frame(SETTINGS, payload=b"\0\4\0\0\0\0"))
    asked = 0
    for n in range(60):
        for request in server.receive_untrusted(asking(2 * n + 1)):
            asked += 1
            server.respond(request.stream, Response(200, bytes(60_000)).fields, bytes(60_000))
    assert asked == server.open == 10
    assert len(server.take()) < 60 * 100
