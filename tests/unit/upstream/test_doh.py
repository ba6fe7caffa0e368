from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
from dns_peers import QUICK, Bench, Manner, Peer, ask, reply_to
from h2.errors import ErrorCodes
from http2_peers import Http2, Request, answer
from hyperframe.frame import GoAwayFrame
from msgspec.structs import replace

from dohproxy.errors import Disconnected, NoReachableUpstream, ResolveError, UpstreamFailed
from dohproxy.model import Transport
from dohproxy.upstream import stream_connection
from dohproxy.upstream.doh import Doh

LIMIT = 10.0
"""Seconds that no test of this file comes near, unless something hangs."""


async def serve(bench: Bench, *manners: Manner) -> Peer:
    return await bench.serve(*manners, context=bench.certificates.context(bench.certificates.good, alpn="h2"))


async def failure(upstream: Doh, seconds: float = 5.0) -> ResolveError:
    with trio.fail_after(LIMIT), pytest.raises(ResolveError) as caught:
        await upstream.resolve(ask(seconds=seconds))
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 - there is no event for what a peer sees
            await trio.sleep(0.002)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_over_http(bench: Bench, method: str) -> None:
    seen: list[Request] = []

    async def remember(http: Http2, stream_id: int, request: Request) -> None:
        seen.append(request)
        await answer(http, stream_id, request)

    peer = await serve(bench, Http2(remember))
    doh = await bench.doh(peer.port, method=method, path="/resolve")
    found = await doh.resolve(ask())
    assert (found.answer[0].rdatas, found.transport) == ((b"\1\2\3\4",), Transport.DOH)
    (request,) = seen
    assert request.query[:4] == b"\0\0\x01\x10"  # ID 0 (RFC 8484 4.1), RD, CD
    assert len(request.query) == 128
    assert request.headers[b":authority"] == b"dns.test:%d" % peer.port
    assert request.headers[b"accept"] == b"application/dns-message"
    assert request.headers[b":path"].partition(b"?")[0] == b"/resolve"
    if method == "POST":
        assert request.headers[b"content-type"] == b"application/dns-message"
        assert request.headers[b"content-length"] == b"128"
    else:
        assert b"=" not in request.headers[b":path"].removeprefix(b"/resolve?dns=")


async def test_a_thousand_at_once_within_the_peers_limit_of_streams(bench: Bench) -> None:
    manner = Http2(streams=100)
    peer = await serve(bench, manner)
    doh = await bench.doh(peer.port, replace(QUICK, connections=1, pipeline=1000))
    names: set[bytes] = set()

    async def one(number: int) -> None:
        names.add((await doh.resolve(ask(f"n{number}.example."))).answer[0].owner)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as asking:
            for number in range(1000):
                asking.start_soon(one, number)
    assert len(names) == 1000
    assert peer.connections == 1
    assert max(manner.open) <= 100


async def test_the_age_of_an_answer_counts(bench: Bench) -> None:
    async def old(http: Http2, stream_id: int, request: Request) -> None:
        await http.respond(stream_id, reply_to(request.query), age=b"250")

    found = await (await bench.doh((await serve(bench, Http2(old))).port)).resolve(ask())
    assert trio.current_time() - found.born == pytest.approx(250, abs=5)


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ({"status": b"503"}, "HTTP status 503"),
        ({"status": b"301"}, "HTTP status 301"),
        ({"media": b"text/html"}, "no application/dns-message"),
        ({"body": bytes(65536)}, "over 65535 octets"),
        ({"body": b""}, "another question"),
    ],
)
async def test_a_response_that_is_no_answer_fails_that_question_only(
    bench: Bench, response: dict[str, bytes], reason: str
) -> None:
    async def badly(http: Http2, stream_id: int, request: Request) -> None:
        given = {"body": reply_to(request.query)} | response
        http.answering = answer
        await http.respond(stream_id, **given)

    peer = await serve(bench, Http2(badly))
    doh = await bench.doh(peer.port)
    error = await failure(doh)
    assert isinstance(error, UpstreamFailed)
    assert reason in str(error)
    assert (await doh.resolve(ask())).answer
    assert peer.connections == 1


async def test_a_media_type_may_have_parameters(bench: Bench) -> None:
    async def wordy(http: Http2, stream_id: int, request: Request) -> None:
        await http.respond(stream_id, reply_to(request.query), media=b"Application/DNS-Message; x=y")

    assert (await (await bench.doh((await serve(bench, Http2(wordy))).port)).resolve(ask())).answer


async def test_goaway_lets_earlier_streams_end_and_fails_later_ones_for_a_retry(bench: Bench) -> None:
    async def go_away_after_two(http: Http2, stream_id: int, request: Request) -> None:
        if stream_id == 5:
            await http.stream.send_all(GoAwayFrame(0, last_stream_id=3).serialize())
            for kept in (1, 3):
                await http.respond(kept, reply_to(http.requests[kept].query))

    peer = await serve(bench, Http2(go_away_after_two), Http2())
    doh = await bench.doh(peer.port)
    exchanges = [doh.begin(ask(f"n{number}.example.")) for number in range(3)]
    kept = [await exchange.answer(trio.current_time() + LIMIT) for exchange in exchanges[:2]]
    assert all(kept)
    with pytest.raises(Disconnected, match="went away"):
        await exchanges[2].answer(trio.current_time() + LIMIT)
    assert (await doh.resolve(ask())).answer
    assert peer.connections == 2


async def test_goaway_fails_at_once_what_has_not_begun(bench: Bench) -> None:
    async def go_away(http: Http2, stream_id: int, request: Request) -> None:
        await http.stream.send_all(GoAwayFrame(0, last_stream_id=1).serialize())

    peer = await serve(bench, Http2(go_away, streams=1))
    doh = await bench.doh(peer.port, replace(QUICK, connections=1))
    doh.begin(ask())
    waiting = doh.begin(ask())
    with pytest.raises(Disconnected, match="takes no more questions"):
        await waiting.answer(trio.current_time() + LIMIT)
    assert "1 under way" in repr(doh)
    assert await doh.begin(ask()).answer(trio.current_time()) is None
    assert peer.connections == 1
    assert repr(doh) == "<Doh peer: open with 1 under way; connecting with 0 under way, 1 waiting>"


async def test_a_cancelled_request_is_reset(bench: Bench) -> None:
    async def never(http: Http2, stream_id: int, request: Request) -> None:
        http.answering = answer

    manner = Http2(never)
    peer = await serve(bench, manner)
    doh = await bench.doh(peer.port)
    with trio.CancelScope() as leaving:
        async with trio.open_nursery() as asking:
            asking.start_soon(doh.resolve, ask())
            await until(lambda: bool(peer.queries))
            leaving.cancel()
    assert (await doh.resolve(ask())).answer
    assert manner.resets == [(1, ErrorCodes.CANCEL)]
    assert peer.connections == 1


@pytest.mark.parametrize(
    ("code", "kind"), [(ErrorCodes.REFUSED_STREAM, Disconnected), (ErrorCodes.INTERNAL_ERROR, UpstreamFailed)]
)
async def test_a_stream_that_the_server_resets(bench: Bench, code: ErrorCodes, kind: type[ResolveError]) -> None:
    async def reset(http: Http2, stream_id: int, request: Request) -> None:
        http.h2.reset_stream(stream_id, code)

    assert type(await failure(await bench.doh((await serve(bench, Http2(reset))).port))) is kind


async def test_a_server_that_closes_in_mid_answer(bench: Bench) -> None:
    async def cut(http: Http2, stream_id: int, request: Request) -> None:
        http.h2.send_headers(stream_id, [(b":status", b"200"), (b"content-type", b"application/dns-message")])
        http.h2.send_data(stream_id, reply_to(request.query)[:10])
        await http.flush()
        await http.stream.aclose()

    peer = await serve(bench, Http2(cut), Http2())
    doh = await bench.doh(peer.port)
    assert isinstance(await failure(doh), Disconnected)
    assert (await doh.resolve(ask())).answer


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0\0\4\7\0\0\0\0\0\0\0\0\0", bytes(9)])
async def test_what_is_no_http2_ends_the_connection(bench: Bench, garbage: bytes) -> None:
    async def babble(http: Http2, stream_id: int, request: Request) -> None:
        await http.stream.send_all(garbage)

    error = await failure(await bench.doh((await serve(bench, Http2(babble))).port))
    assert type(error) is UpstreamFailed
    assert "HTTP/2" in str(error)


async def test_large_answers_do_not_use_up_the_window(bench: Bench) -> None:
    async def large(http: Http2, stream_id: int, request: Request) -> None:
        await http.respond(stream_id, reply_to(request.query) + bytes(60000), status=b"200")

    doh = await bench.doh((await serve(bench, Http2(large))).port)
    with trio.fail_after(LIMIT):
        for _ in range(40):
            error = await failure(doh)
            assert "malformed" in str(error)


async def test_a_server_without_http2_is_refused(bench: Bench) -> None:
    peer = await bench.serve(context=bench.certificates.context(bench.certificates.good, alpn="http/1.1"))
    error = await failure(await bench.doh(peer.port))
    assert isinstance(error, NoReachableUpstream)
    assert "does not speak h2" in str(error)


async def test_a_server_that_never_sends_its_settings(bench: Bench) -> None:
    async def mute(peer: Peer, stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass

    doh = await bench.doh((await serve(bench, mute)).port, replace(QUICK, connect_timeout=0.05))
    assert str(await failure(doh)) == "no connection in time"


@pytest.mark.parametrize("flood", [b"\0\0\x08\x06\0\0\0\0\0pingpong", b"\0\0\0\x04\0\0\0\0\0"], ids=["PING", "SETTINGS"])
async def test_a_server_that_wants_answers_and_reads_none_is_left(
    bench: Bench, flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def talkative(_: Peer, stream: Any) -> None:
        stream.transport_stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await stream.send_all(b"\0\0\0\x04\0\0\0\0\0")
        await bound.wait()
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(flood * 500)

    bound = trio.Event()
    monkeypatch.setattr(stream_connection, "_MOST_UNSENT", 1 << 16)
    upstream = await bench.doh((await serve(bench, talkative)).port)
    exchange = upstream.begin(ask())
    connection: Any = upstream._connections[0]
    await until(lambda: upstream.is_open)
    connection._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    bound.set()
    with trio.fail_after(LIMIT), pytest.raises(UpstreamFailed, match="does not read"):
        await exchange.answer(trio.current_time() + LIMIT)
    assert len(connection._unsent) < 1 << 18
