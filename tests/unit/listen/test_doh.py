"""DNS over HTTPS as it is served: what leaves when, and what a client may make us keep."""

from base64 import urlsafe_b64encode

import pytest
import trio
from h2.errors import ErrorCodes
from http2_clients import (
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    RST_STREAM,
    Client,
    block,
    frame,
    get,
    goodbye_in,
    opening,
    post,
)
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from dohproxy.listen.doh import HttpConnection
from dohproxy.model import Attested, Transport
from dohproxy.protocol.doh_request import MEDIA_TYPE, Site
from dohproxy.protocol.http1_server import Http1Server
from dohproxy.protocol.http2_server import Http2Server

SITE = Site("/dns-query")
PEER = Attested("192.0.2.1", "spiffe://prod.example/pay")


def message(text):
    """What FakeFront takes for a query, and Site for a message."""
    return text.ljust(12, b" ")


def answer(text):
    """What FakeFront makes of it."""
    return message(text).upper()


@pytest.fixture(autouse=True)
def opaque(monkeypatch):
    """Replies of FakeFront are text: nobody looks into them here."""
    monkeypatch.setattr("dohproxy.protocol.doh_request.freshness", lambda _: None)


class Talk:
    """A connection by HTTP/2 that is being served, and its client."""

    def __init__(self, intake, nursery, http=None, **settings):
        self.stream, ours = memory_stream_pair()
        self.client = Client(**settings)
        self.http = http or Http2Server(intake.limits.tcp_pipeline)
        self.connection = HttpConnection(ours, self.http, SITE, PEER, intake)
        self.counters = intake.counters
        self.ended = trio.Event()
        nursery.start_soon(self._run)

    async def _run(self):
        await self.connection.run()
        self.ended.set()

    async def ask(self, *texts):
        streams = [self.client.ask(post(), message(text)) for text in texts]
        await self.stream.send_all(self.client.sends())
        return streams

    async def hear(self, *streams):
        """The answers on these streams."""
        while not set(streams) <= set(self.client.ended):
            await self.hear_some()
        return [self.client.body[stream].rstrip() for stream in streams]

    async def hear_some(self):
        octets = await self.stream.receive_some()
        assert octets, "the connection ended"
        self.client.hears(octets)
        if said := self.client.sends():
            await self.stream.send_all(said)

    async def rest(self):
        """All that comes until the connection ends."""
        octets = b""
        while more := await self.stream.receive_some():
            octets += more
        await self.ended.wait()
        return octets


@pytest.fixture
def talk(nursery, make_intake):
    return lambda http=None, **limits: Talk(make_intake(**limits), nursery, http)


async def test_many_queries_on_one_connection(talk, front):
    talk = talk()
    assert await talk.hear(*await talk.ask(b"one", b"hit", b"two")) == [b"ONE", b"HIT", b"TWO"]
    assert await talk.hear(*await talk.ask(b"three")) == [b"THREE"]
    assert (message(b"one"), PEER, Transport.DOH) in front.asked
    counters = talk.counters
    assert (counters.doh_queries, counters.hits, counters.misses, counters.tcp_queries) == (4, 1, 3, 0)


async def test_answers_at_hand_leave_together(talk, monkeypatch):
    """In one piece, which is one TLS record and one call of the system."""
    talk, sent = talk(), []
    await wait_all_tasks_blocked()
    send_all = talk.connection._stream.send_all

    async def counted(octets):
        sent.append(octets)
        await send_all(octets)

    monkeypatch.setattr(talk.connection._stream, "send_all", counted)
    await talk.hear(*await talk.ask(*[b"hit %d" % n for n in range(50)]))
    assert len(sent) == 1


async def test_answers_leave_as_they_are_ready(talk, front):
    front.gates[b"slow"] = trio.Event()
    talk = talk()
    slow, fast = await talk.ask(b"slow", b"fast")
    assert await talk.hear(fast) == [b"FAST"]
    front.gates[b"slow"].set()
    assert await talk.hear(slow) == [b"SLOW"]


async def test_errors_and_silence_have_a_status(talk):
    talk = talk()
    [silent] = await talk.ask(b"drop")
    other = talk.client.ask(get(b"/"))
    await talk.stream.send_all(talk.client.sends())
    await talk.hear(silent, other)
    assert (talk.client.status[silent], talk.client.status[other]) == (403, 404)


async def test_a_head(talk):
    talk = talk()
    stream = talk.client.ask(get(b"/dns-query?dns=" + urlsafe_b64encode(message(b"hit")), b"HEAD"))
    await talk.stream.send_all(talk.client.sends())
    assert await talk.hear(stream) == [b""]
    assert talk.client.fields[stream][b"content-length"] == b"12"
    assert talk.client.fields[stream][b"content-type"] == MEDIA_TYPE


async def test_a_withdrawn_request_gives_its_room_back(talk, front):
    front.gates[b"slow"] = trio.Event()
    talk = talk(in_flight=1)
    slow, waiting, other = await talk.ask(b"slow", b"slower", b"other")
    await wait_all_tasks_blocked()
    assert talk.connection._intake.under_way.count == 1 and len(front.asked) == 1
    talk.client.h2.reset_stream(waiting, ErrorCodes.CANCEL)
    talk.client.h2.reset_stream(slow, ErrorCodes.CANCEL)
    await talk.stream.send_all(talk.client.sends())
    assert await talk.hear(other) == [b"OTHER"]
    await wait_all_tasks_blocked()
    assert front.cancelled == 1 and talk.connection._intake.under_way.count == 0 and talk.connection.idle


async def test_an_idle_connection_is_closed_with_a_goodbye(talk, autojump_clock):
    talk = talk()
    await trio.sleep(9)
    await talk.hear(*await talk.ask(b"one"))
    before = trio.current_time()
    assert goodbye_in(await talk.rest()) == ErrorCodes.NO_ERROR
    assert trio.current_time() - before == pytest.approx(10) and talk.counters.tcp_broken == 0


async def test_a_connection_with_a_query_under_way_is_not_idle(talk, front, autojump_clock):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk()
    streams = await talk.ask(b"slow")
    await trio.sleep(60)
    gate.set()
    assert await talk.hear(*streams) == [b"SLOW"]


async def test_whoever_only_pings_is_idle(talk, autojump_clock):
    talk = talk()
    await talk.stream.send_all(opening())
    before = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        while True:
            await talk.stream.send_all(frame(PING, payload=bytes(8)))
            await trio.sleep(1)
    assert trio.current_time() - before <= 12


async def test_half_a_request_is_not_waited_for_long(talk, autojump_clock):
    talk = talk()
    octets = opening(frame(HEADERS, END_HEADERS, 1, block(post())))
    before = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        for octet in octets:
            await talk.stream.send_all(bytes([octet]))
            await trio.sleep(1)
    assert trio.current_time() - before <= 12


async def test_whoever_takes_no_answers_is_given_up(make_intake, nursery, front, autojump_clock):
    """With its window shut, it keeps what its streams may have and no more."""
    front.size = 60_000
    talk = Talk(make_intake(tcp_pipeline=5), nursery, initial_window_size=0)
    await talk.ask(*[b"%d" % n for n in range(5)])
    before = trio.current_time()
    octets = await talk.rest()
    assert trio.current_time() - before == pytest.approx(10)
    assert len(octets) < 2000 and len(front.asked) == 5


class Deaf(trio.abc.Stream):
    """A client that asks without end, and takes nothing."""

    def __init__(self):
        self.asked = 0

    async def receive_some(self, max_bytes=None):  # noqa: ARG002
        await trio.lowlevel.checkpoint()
        self.asked += 1
        streams = [200 * self.asked + 2 * n + 1 for n in range(100)]
        ask = b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream, block(get(b"/"))) for stream in streams)
        return ask if self.asked > 1 else opening(ask)

    async def send_all(self, data):  # noqa: ARG002
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self):
        await trio.sleep_forever()

    async def aclose(self):
        await trio.lowlevel.checkpoint()


async def test_whoever_does_not_read_is_not_read_and_given_up(intake, autojump_clock):
    deaf = Deaf()
    connection = HttpConnection(deaf, Http2Server(100), SITE, PEER, intake)
    before = trio.current_time()
    await connection.run()
    assert trio.current_time() - before <= 20 and intake.counters.tcp_broken == 1
    assert deaf.asked <= 1


async def test_rapid_resets_end_the_connection(talk, front):
    front.gates[b"slow"] = trio.Event()
    talk = talk()
    ask = block(get(b"/dns-query?dns=c2xvdyAgICAgICAg"))
    octets = [frame(HEADERS, END_HEADERS | END_STREAM, n, ask) + frame(RST_STREAM, 0, n, bytes(4)) for n in range(1, 2001, 2)]
    await talk.stream.send_all(opening(*octets))
    assert goodbye_in(await talk.rest()) == ErrorCodes.ENHANCE_YOUR_CALM
    assert not front.asked and talk.connection._intake.under_way.count == 0


async def test_rapid_resets_one_by_one_end_the_connection(talk, front):
    front.gates[b"slow"] = trio.Event()
    talk = talk()
    ask = block(get(b"/dns-query?dns=c2xvdyAgICAgICAg"))
    await talk.stream.send_all(opening())
    for n in range(1, 401, 2):
        try:
            await talk.stream.send_all(frame(HEADERS, END_HEADERS | END_STREAM, n, ask))
            await wait_all_tasks_blocked()
            await talk.stream.send_all(frame(RST_STREAM, 0, n, bytes(4)))
            await wait_all_tasks_blocked()
        except trio.BrokenResourceError:
            break
    assert goodbye_in(await talk.rest()) == ErrorCodes.ENHANCE_YOUR_CALM
    assert front.cancelled == len(front.asked) <= 101 and talk.connection._intake.under_way.count == 0


async def test_stopping_lets_answers_out(talk, front):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk()
    streams = await talk.ask(b"slow")
    await wait_all_tasks_blocked()
    talk.connection.stop()
    await wait_all_tasks_blocked()
    assert not talk.ended.is_set()
    gate.set()
    octets = await talk.rest()
    assert goodbye_in(octets) == ErrorCodes.NO_ERROR and answer(b"slow") in octets
    assert streams == [1]


async def test_closing_ends_queries(talk, front):
    front.gates[b"slow"] = trio.Event()
    talk = talk()
    await talk.ask(b"slow")
    await wait_all_tasks_blocked()
    assert not talk.connection.idle
    talk.connection.close()
    await talk.ended.wait()
    assert front.cancelled == 1 and talk.connection._intake.under_way.count == 0


async def test_a_client_that_is_done_gets_its_answers(talk, front):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk()
    await talk.ask(b"slow")
    await talk.stream.send_stream.aclose()
    await wait_all_tasks_blocked()
    gate.set()
    assert answer(b"slow") in await talk.rest()


# HTTP/1.1


def posted(text, *more):
    body = message(text)
    head = [b"POST /dns-query HTTP/1.1", b"Host: x", b"Content-Type: application/dns-message", *more]
    return b"\r\n".join([*head, b"Content-Length: %d" % len(body), b"", body])


async def test_http_1_requests_in_a_row(talk, front):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk(Http1Server())
    await talk.stream.send_all(posted(b"hit 1") + posted(b"slow") + posted(b"hit 2") + posted(b"one"))
    await wait_all_tasks_blocked()
    assert talk.counters.doh_queries == 2
    gate.set()
    octets = b""
    while answer(b"one") not in octets:
        octets += await talk.stream.receive_some()
    places = [octets.index(answer(text)) for text in (b"hit 1", b"slow", b"hit 2", b"one")]
    assert places == sorted(places) and octets.count(b"HTTP/1.1 200") == 4


async def test_http_1_clients_that_ask_once(talk, autojump_clock):
    talk = talk(Http1Server())
    before = trio.current_time()
    await talk.stream.send_all(posted(b"one", b"Connection: close"))
    octets = await talk.rest()
    assert trio.current_time() == before
    assert octets.endswith(answer(b"one")) and b"connection: close" in octets.lower()


async def test_http_1_that_is_none_is_told_so(talk):
    talk = talk(Http1Server())
    await talk.stream.send_all(posted(b"one", b"Transfer-Encoding: chunked"))
    assert (await talk.rest()).startswith(b"HTTP/1.1 400")
    assert talk.counters.tcp_broken == 1


async def test_http_1_stops_when_told_to(talk, front):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk(Http1Server())
    await talk.stream.send_all(posted(b"slow") + posted(b"never"))
    await wait_all_tasks_blocked()
    talk.connection.stop()
    gate.set()
    octets = await talk.rest()
    assert octets.endswith(answer(b"slow")) and len(front.asked) == 1


async def test_http_1_half_a_request_is_not_waited_for_long(talk, autojump_clock):
    talk = talk(Http1Server())
    before = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        for octet in posted(b"one"):
            await talk.stream.send_all(bytes([octet]))
            await trio.sleep(1)
    assert trio.current_time() - before <= 12
