"""Sessions that are resumed, questions that leave before the handshake is done, and paths that break."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicFrameType
from dns_peers import QUICK, Certificates, ask
from msgspec.structs import replace
from quic_peers import Asked, QuicBench, QuicPeer, answer, silence

from dohproxy.errors import Disconnected, NoReachableUpstream, ResolveError
from dohproxy.identity.own import FileCertificate
from dohproxy.lab.certificates import Authority
from dohproxy.upstream.doh3 import Doh3
from dohproxy.upstream.doq import Doq

LIMIT = 10.0
"""Seconds that no test of this file comes near, unless something hangs."""
BRIEF = replace(QUICK, idle_timeout=0.05)
"""Connections end as soon as they have nothing to do."""


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> QuicBench:
    return QuicBench(nursery, certificates)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 - there is no event for what a peer sees
            await trio.sleep(0.002)


async def ask_and_end(upstream: Doq | Doh3, name: str = "www.example.") -> None:
    """One question, and the end of the connection that it was asked on."""
    with trio.fail_after(LIMIT):
        assert (await upstream.resolve(ask(name))).rcode == 0
        await until(lambda: "no connection" in repr(upstream))


async def open_upstream(bench: QuicBench, peer: QuicPeer, **fields: object) -> Doq | Doh3:
    forwarding = fields.pop("forwarding", BRIEF)
    return await (bench.doh3 if peer.http else bench.doq)(peer.port, forwarding, **fields)  # type: ignore[operator,no-any-return]


@pytest.mark.parametrize("http", [False, True])
async def test_a_session_is_resumed(bench: QuicBench, http: bool) -> None:
    peer = await bench.quic(http=http)
    upstream = await open_upstream(bench, peer)
    for _ in range(3):
        await ask_and_end(upstream)
    assert [one.session_resumed for one in peer.handshakes] == [False, True, True]
    assert [one.early_data_accepted for one in peer.handshakes] == [False] * 3
    assert (upstream.resumed, upstream.early) == (2, 0)


@pytest.mark.parametrize("http", [False, True])
async def test_questions_in_the_first_flight(bench: QuicBench, http: bool) -> None:
    peer = await bench.quic(http=http)
    upstream = await open_upstream(bench, peer, zero_rtt=True)
    await ask_and_end(upstream)
    peer.handshakes.clear()
    at_question: list[int] = []
    peer.answering = lambda asked: (at_question.append(len(peer.handshakes)), answer(asked))  # type: ignore[assignment,func-returns-value]
    await ask_and_end(upstream, "early.example.")
    assert peer.handshakes[0].early_data_accepted
    assert at_question == [0]  # it was there before the handshake was done
    assert upstream.early == 1


@pytest.mark.parametrize("http", [False, True])
async def test_what_is_not_taken_early_is_sent_again(bench: QuicBench, http: bool) -> None:
    peer = await bench.quic(http=http)
    upstream = await open_upstream(bench, peer, zero_rtt=True)
    await ask_and_end(upstream)
    peer.early = False
    began = trio.current_time()
    await ask_and_end(upstream, "late.example.")
    assert not peer.handshakes[-1].early_data_accepted
    assert len(peer.queries) == 2
    assert trio.current_time() - began < 0.6


@pytest.mark.parametrize("http", [False, True])
async def test_early_questions_and_a_retry(bench: QuicBench, http: bool) -> None:
    peer = await bench.quic(http=http)
    upstream = await open_upstream(bench, peer, zero_rtt=True)
    await ask_and_end(upstream)
    peer.retry = True
    await ask_and_end(upstream, "again.example.")
    assert len(peer.queries) == 2


async def test_a_server_that_has_lost_its_tickets_is_verified_again(bench: QuicBench) -> None:
    peer = await bench.quic()
    upstream = await open_upstream(bench, peer, zero_rtt=True)
    await ask_and_end(upstream)
    peer.forget_tickets()
    await ask_and_end(upstream, "again.example.")
    assert [one.session_resumed for one in peer.handshakes] == [False, False]


async def test_a_ticket_counts_under_the_authorities_of_its_day_only(bench: QuicBench, tmp_path: Path) -> None:
    peer = await bench.quic()
    ca = tmp_path / "ca.pem"
    ca.write_bytes(bench.certificates.ca.read_bytes())
    upstream = await open_upstream(bench, peer, ca_file=ca, zero_rtt=True)
    await ask_and_end(upstream)
    ca.write_bytes(bench.certificates.other_ca.read_bytes())
    with pytest.raises(NoReachableUpstream, match="refused"):
        await upstream.resolve(ask())
    assert len(peer.queries) == 1


async def test_a_ticket_counts_for_one_of_our_certificates_only(bench: QuicBench, tmp_path: Path) -> None:
    authority = Authority()
    paths = authority.client("one", "one.test").write(tmp_path, "own")
    peer = await bench.quic()
    upstream = await bench.doq(peer.port, BRIEF, FileCertificate(paths[0], str(paths[1])), zero_rtt=True)
    await ask_and_end(upstream)
    authority.client("two", "two.test").write(tmp_path, "own")
    await ask_and_end(upstream)
    assert [one.session_resumed for one in peer.handshakes] == [False, False]


async def test_a_first_flight_that_meets_silence(bench: QuicBench) -> None:
    peer = await bench.quic()
    upstream = await open_upstream(bench, peer, zero_rtt=True)
    await ask_and_end(upstream)
    peer.deaf = True
    with trio.fail_after(2), pytest.raises(NoReachableUpstream):
        await upstream.resolve(ask())
    peer.deaf = False
    await ask_and_end(upstream)


# Paths that break


async def test_a_server_that_falls_silent_is_left_within_a_second(bench: QuicBench) -> None:
    peer = await bench.quic()
    doq = await bench.doq(peer.port)
    await doq.resolve(ask())
    peer.deaf = True
    await trio.sleep(0.01)  # what was on its way has come
    began = trio.current_time()
    exchange = doq.begin(ask())
    await until(lambda: not doq.is_open)
    assert 0.5 < trio.current_time() - began < 1.2
    assert exchange.silent
    peer.forget_all()
    peer.deaf = False
    assert (await doq.resolve(ask())).rcode == 0  # over another connection
    assert len(peer.handshakes) == 2


async def test_a_server_that_speaks_again_is_asked_again(bench: QuicBench) -> None:
    peer = await bench.quic()
    doq = await bench.doq(peer.port)
    await doq.resolve(ask())
    peer.deaf = True
    exchange = doq.begin(ask())
    await until(lambda: not doq.is_open)
    peer.deaf = False
    with trio.fail_after(LIMIT):
        assert await exchange.answer(trio.current_time() + 5) is not None
    assert (await doq.resolve(ask())).rcode == 0
    assert len(peer.handshakes) == 1


async def test_a_server_that_is_slow_but_there_is_not_left(bench: QuicBench) -> None:
    peer = await bench.quic(silence)
    doq = await bench.doq(peer.port)
    exchange = doq.begin(ask())
    assert await exchange.answer(trio.current_time() + 1.2) is None
    assert len(peer.clients) == 1


async def test_a_server_that_was_started_anew(bench: QuicBench) -> None:
    peer = await bench.quic()
    doq = await bench.doq(peer.port)
    await doq.resolve(ask())
    token = doq._connections[0]._path.quic._peer_cid.stateless_reset_token  # type: ignore[attr-defined]
    peer.forget_all()
    peer.reset_with = b"\x40" + bytes(30) + token
    began = trio.current_time()
    with suppress(Disconnected):  # unless an acknowledgement was told before
        await doq.resolve(ask())
    assert (await doq.resolve(ask())).rcode == 0
    assert trio.current_time() - began < 0.3
    assert len(peer.handshakes) == 2


async def test_a_new_network_is_followed(bench: QuicBench) -> None:
    peer = await bench.quic()
    doq = await bench.doq(peer.port)
    await doq.resolve(ask())
    await until(lambda: doq._connections[0]._path.quic.may_migrate)  # type: ignore[attr-defined]
    doq.renew()
    assert (await doq.resolve(ask())).rcode == 0
    assert (len(peer.peers), len(peer.handshakes)) == (2, 1)


async def test_a_path_that_breaks_is_changed(bench: QuicBench) -> None:
    """Nothing comes back to the old port any more, as with a NAT that has forgotten it."""
    peer = await bench.quic()
    doq = await bench.doq(peer.port)
    await doq.resolve(ask())
    await until(lambda: doq._connections[0]._path.quic.may_migrate)  # type: ignore[attr-defined]
    peer.blocked = set(peer.peers)
    with trio.fail_after(1.5):
        assert (await doq.resolve(ask())).rcode == 0
    assert (len(peer.peers), len(peer.handshakes)) == (2, 1)


async def test_nobody_there(bench: QuicBench, unused_port: int) -> None:
    doq = await bench.doq(unused_port)
    began = trio.current_time()
    with pytest.raises(NoReachableUpstream, match="refused"):
        await doq.resolve(ask())
    assert trio.current_time() - began < 0.5


async def test_the_next_address_is_tried(bench: QuicBench) -> None:
    peer = await bench.quic()
    doq = await bench.doq(peer.port, addresses=("127.0.0.9", "127.0.0.1"))
    assert (await doq.resolve(ask())).rcode == 0
    deaf = await bench.quic()
    deaf.deaf = True
    second = QuicPeer()
    second.port = deaf.port
    await second.start(bench.nursery, bench.certificates.good, "127.0.0.2")
    doq = await bench.doq(deaf.port, addresses=("127.0.0.1", "127.0.0.2"))
    began = trio.current_time()
    assert (await doq.resolve(ask())).rcode == 0
    assert 0.2 < trio.current_time() - began < 0.6


async def test_ipv6(bench: QuicBench) -> None:
    peer = await QuicPeer().start(bench.nursery, bench.certificates.good, "::1")
    assert (await (await bench.doq(peer.port, addresses=("::1",))).resolve(ask())).rcode == 0


async def test_an_idle_connection_ends_and_nothing_is_left(bench: QuicBench) -> None:
    peer = await bench.quic()
    doq = await bench.doq(peer.port, BRIEF)
    await ask_and_end(doq)
    await until(lambda: peer.clients[0].quic._close_event is not None)
    assert peer.clients[0].quic._close_event.error_code == 0  # type: ignore[union-attr]


async def test_the_secrets_are_written_when_asked_for(bench: QuicBench, tmp_path: Path) -> None:
    peer = await bench.quic()
    log = tmp_path / "keys"
    await (await bench.doq(peer.port, replace(QUICK, key_log=log))).resolve(ask())
    labels = {line.split()[0] for line in log.read_text().splitlines()}
    assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= {label.removeprefix("QUIC_") for label in labels}
    assert log.stat().st_mode & 0o077 == 0


async def test_a_stopping_upstream_fails_its_questions(bench: QuicBench) -> None:
    peer = await bench.quic(silence)
    doq = Doq(bench.settings(peer.port, "quic"), QUICK)
    async with trio.open_nursery() as nursery:
        await nursery.start(doq.run)
        exchange = doq.begin(ask())
        await until(lambda: len(peer.queries) == 1)
        nursery.cancel_scope.cancel()
    with pytest.raises(ResolveError):
        await exchange.answer(trio.current_time() + 1)


@pytest.mark.parametrize("http", [False, True])
async def test_an_answer_in_too_many_pieces_ends_the_connection(bench: QuicBench, http: bool) -> None:
    def scattered(asked: Asked) -> None:
        if len(peer.handshakes) > 1:
            answer(asked)
            return
        quic, head = asked.client.quic, encode_uint_var(asked.stream)

        def written(builder: Any, *_: object, **__: object) -> None:
            for number in range(170):
                octets = head + encode_uint_var(2 * number + 1) + b"\x01x"
                builder.start_frame(QuicFrameType.STREAM_BASE | 6, capacity=len(octets) + 1).push_bytes(octets)

        quic._write_ping_frame = written  # type: ignore[method-assign]
        quic.send_ping(0)

    peer = await bench.quic(scattered, http=http)
    upstream = await open_upstream(bench, peer, forwarding=QUICK)
    with trio.fail_after(LIMIT):
        with pytest.raises(Disconnected, match="pieces"):
            await upstream.resolve(ask())
        assert (await upstream.resolve(ask())).rcode == 0


@pytest.mark.parametrize("unidirectional", [False, True])
async def test_what_comes_after_a_gap_takes_bounded_room(bench: QuicBench, unidirectional: bool) -> None:
    def with_gap(asked: Asked) -> None:
        quic = asked.client.quic
        stream = quic.get_next_available_stream_id(is_unidirectional=True) if unidirectional else asked.stream
        quic.send_stream_data(stream, bytes(1 << 23))
        quic._streams[stream].sender._pending.subtract(0, 1)

    upstream = await open_upstream(bench, await bench.quic(with_gap), forwarding=QUICK)
    exchange = upstream.begin(ask())
    connection: Any = upstream._connections[0]
    await until(lambda: connection._path is not None and connection._path.quic._kept() > 1 << 16)
    for _ in range(20):
        assert await exchange.answer(trio.current_time() + 0.01) is None
        assert connection._path.quic._kept() <= 1 << 20
        assert connection._path.quic._local_max_data.value <= 1 << 20
    exchange.drop()
