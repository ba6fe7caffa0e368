from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import ErrorCode
from dns_peers import QUICK, Certificates, ask, reply_to
from msgspec.structs import replace
from quic_peers import Asked, QuicBench, answer, silence

from dohproxy.errors import Disconnected, ResolveError, UpstreamFailed
from dohproxy.model import Transport
from dohproxy.upstream.doh3 import Doh3

LIMIT = 10.0
"""Seconds that no test of this file comes near, unless something hangs."""
_GOAWAY = 7


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> QuicBench:
    return QuicBench(nursery, certificates)


async def failure(upstream: Doh3, seconds: float = 5.0) -> ResolveError:
    with trio.fail_after(LIMIT), pytest.raises(ResolveError) as caught:
        await upstream.resolve(ask(seconds=seconds))
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 - there is no event for what a peer sees
            await trio.sleep(0.002)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_answer_over_http3(bench: QuicBench, method: str) -> None:
    peer = await bench.quic(http=True)
    doh3 = await bench.doh3(peer.port, method=method, path="/resolve")
    for _ in range(3):
        found = await doh3.resolve(ask())
    assert (found.answer[0].rdatas, found.transport) == ((b"\1\2\3\4",), Transport.DOH3)
    headers = peer.requests[-1]
    assert peer.queries[-1][:4] == b"\0\0\x01\x10"  # ID 0 (RFC 8484 4.1), RD, CD
    assert len(peer.queries[-1]) == 128
    assert headers[b":authority"] == b"dns.test:%d" % peer.port
    assert headers[b"accept"] == b"application/dns-message"
    assert headers[b":path"].partition(b"?")[0] == b"/resolve"
    if method == "POST":
        assert headers[b"content-type"] == b"application/dns-message"
        assert headers[b"content-length"] == b"128"
    else:
        assert b"=" not in headers[b":path"].removeprefix(b"/resolve?dns=")


async def test_two_thousand_at_once_over_a_limit_of_a_hundred(bench: QuicBench) -> None:
    peer = await bench.quic(http=True, streams=100)
    doh3 = await bench.doh3(peer.port, replace(QUICK, connections=1, pipeline=2000, connect_timeout=9.0))
    names: set[bytes] = set()

    async def one(number: int) -> None:
        names.add((await doh3.resolve(ask(f"n{number}.example.", 9.0))).answer[0].owner)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as asking:
            for number in range(2000):
                asking.start_soon(one, number)
    assert len(names) == 2000
    assert len(peer.clients) == 1


async def test_the_age_of_an_answer_counts(bench: QuicBench) -> None:
    peer = await bench.quic(lambda asked: asked.reply(reply_to(asked.query), age=b"100"), http=True)
    doh3 = await bench.doh3(peer.port)
    found = await doh3.resolve(ask())
    assert 99.0 < trio.current_time() - found.born < 101.0


@pytest.mark.parametrize(
    ("manner", "kind", "words"),
    [
        (lambda asked: asked.reply(reply_to(asked.query), b"503"), UpstreamFailed, "HTTP status 503"),
        (lambda asked: asked.reply(reply_to(asked.query), media=b"text/html"), UpstreamFailed, "no application/dns-message"),
        (lambda asked: asked.reply(reply_to(asked.query.replace(b"www", b"ftp"))), UpstreamFailed, "another question"),
        (lambda asked: asked.reply(reply_to(asked.query, id=b"\0\1")), UpstreamFailed, "another question"),
        (lambda asked: asked.reply(bytes(70000)), UpstreamFailed, "over 65535 octets"),
        (lambda asked: asked.reply(b""), UpstreamFailed, "another question"),
        (
            lambda asked: asked.client.quic.reset_stream(asked.stream, ErrorCode.H3_REQUEST_REJECTED),
            Disconnected,
            "refused the request",
        ),
        (
            lambda asked: asked.client.quic.reset_stream(asked.stream, ErrorCode.H3_INTERNAL_ERROR),
            UpstreamFailed,
            "reset the stream",
        ),
        (lambda asked: asked.client.quic.close(ErrorCode.H3_NO_ERROR), Disconnected, "0x100"),
        (lambda asked: asked.send(b"\0\5hello"), UpstreamFailed, "does not keep to the protocol"),
    ],
)
async def test_what_is_no_answer(
    bench: QuicBench, manner: Callable[[Asked], None], kind: type[ResolveError], words: str
) -> None:
    peer = await bench.quic(manner, http=True)
    doh3 = await bench.doh3(peer.port)
    error = await failure(doh3)
    assert (type(error), words in str(error)) == (kind, True), error
    peer.answering = answer
    assert (await doh3.resolve(ask())).rcode == 0


async def test_a_server_that_goes_away(bench: QuicBench) -> None:
    peer = await bench.quic(silence, http=True)
    doh3 = await bench.doh3(peer.port)
    first = doh3.begin(ask("a.example."))
    await until(lambda: len(peer.queries) == 1)
    second = doh3.begin(ask("b.example."))
    await until(lambda: len(peer.queries) == 2)
    h3 = peer.clients[0].h3
    assert h3 is not None
    last = encode_uint_var(4)  # the stream of the second question is not looked at
    unknown = encode_uint_var(0x21) + encode_uint_var(100) + bytes(100)
    peer.clients[0].quic.send_stream_data(
        h3._local_control_stream_id, unknown + encode_uint_var(_GOAWAY) + encode_uint_var(len(last)) + last
    )
    peer.flush()
    with trio.fail_after(LIMIT), pytest.raises(Disconnected, match="went away"):
        await second.answer(trio.current_time() + 5)
    peer.answering = answer
    assert (await doh3.resolve(ask())).rcode == 0  # over another connection
    assert len(peer.handshakes) == 2
    h3.send_headers(0, [(b":status", b"200"), (b"content-type", b"application/dns-message")])
    h3.send_data(0, reply_to(peer.queries[0]), end_stream=True)
    peer.flush()
    with trio.fail_after(LIMIT):
        found = await first.answer(trio.current_time() + 5)
    assert found is not None
    await until(lambda: repr(doh3).count("open") == 1)


async def test_a_cancelled_question_is_taken_back(bench: QuicBench) -> None:
    peer = await bench.quic(silence, http=True)
    doh3 = await bench.doh3(peer.port)
    exchange = doh3.begin(ask())
    await until(lambda: len(peer.queries) == 1)
    exchange.drop()
    await until(lambda: bool(peer.cancelled))
    assert peer.cancelled[0] == (0, ErrorCode.H3_REQUEST_CANCELLED)
    peer.answering = answer
    assert (await doh3.resolve(ask())).rcode == 0


async def test_an_interim_response_says_nothing(bench: QuicBench) -> None:
    def hint(asked: Asked) -> None:
        assert asked.client.h3 is not None
        asked.client.h3.send_headers(asked.stream, [(b":status", b"103")])
        answer(asked)

    peer = await bench.quic(hint, http=True)
    assert (await (await bench.doh3(peer.port)).resolve(ask())).rcode == 0
