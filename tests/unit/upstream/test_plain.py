from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from dns_peers import QUICK, Bench, Peer, answer_all, ask, reply_to
from msgspec.structs import replace

from dohproxy.errors import NoReachableUpstream, NotReady, Overloaded
from dohproxy.model import Transport
from dohproxy.upstream.plain import Tcp, Udp
from dohproxy.wire.message import parse_message_untrusted


@asynccontextmanager
async def udp_server(answers: Callable[[bytes], list[bytes]], seen: list[tuple[int, bytes]]) -> AsyncIterator[int]:
    """Sends, for each query, the datagrams that `answers` makes of it."""
    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind(("127.0.0.1", 0))

        async def serve() -> None:
            while True:
                query, source = await sock.recvfrom(4096)
                seen.append((source[1], query))
                for datagram in answers(query):
                    await sock.sendto(datagram, source)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


async def test_udp_asks_each_question_from_a_port_of_its_own(bench: Bench) -> None:
    seen: list[tuple[int, bytes]] = []
    async with udp_server(lambda query: [reply_to(query)], seen) as port:
        udp = await bench.udp(port)
        found = [await udp.resolve(ask(f"n{number}.example.")) for number in range(8)]
    assert all(answer.transport is Transport.UDP and answer.answer for answer in found)
    assert len({source for source, _ in seen}) > 1
    assert len({query[:2] for _, query in seen}) > 1
    assert parse_message_untrusted(seen[0][1]).edns is not None
    assert repr(udp) == f"<Udp peer: room for {4 * 256}; <Tcp peer: no connection>>"


async def test_udp_passes_over_forgeries(bench: Bench) -> None:
    def forged(query: bytes) -> list[bytes]:
        other_id = bytes([query[0] ^ 255, query[1]])
        other_name = reply_to(query, address=b"\6\6\6\6").replace(b"\3www", b"\3wwv")
        return [reply_to(query, id=other_id, address=b"\6\6\6\6"), other_name, b"", b"x", reply_to(query)]

    async with udp_server(forged, []) as port:
        answer = await (await bench.udp(port)).resolve(ask())
    assert answer.answer[0].rdatas == (b"\1\2\3\4",)


async def test_udp_asks_again_over_tcp_when_truncated(bench: Bench) -> None:
    async with udp_server(lambda query: [reply_to(query, flags=b"\x83\x80")[:-16]], []) as port:
        peer = Peer(answer_all)
        peer.port = port
        await peer.start(bench.nursery, None)
        answer = await (await bench.udp(port)).resolve(ask())
    assert (answer.transport, answer.answer[0].rdatas) == (Transport.TCP, (b"\1\2\3\4",))


async def test_udp_without_an_answer(bench: Bench) -> None:
    async with udp_server(lambda _: [], []) as port:
        with pytest.raises(NoReachableUpstream, match="peer: no answer in time"):
            await (await bench.udp(port)).resolve(ask(seconds=0.05))


async def test_udp_where_nobody_listens(bench: Bench, unused_port: int) -> None:
    with pytest.raises(NoReachableUpstream, match="connection refused"):
        await (await bench.udp(unused_port)).resolve(ask())


async def test_udp_takes_the_next_address_after_a_failure(bench: Bench) -> None:
    async with udp_server(lambda query: [reply_to(query)], []) as port:
        udp = Udp(bench.settings(port, "udp", addresses=("127.0.0.2", "127.0.0.1")), QUICK)
        await bench.nursery.start(udp.run)
        with pytest.raises(NoReachableUpstream):
            await udp.resolve(ask())
        assert (await udp.resolve(ask())).answer


async def test_udp_has_only_so_many_sockets_and_gives_them_back(bench: Bench) -> None:
    async with udp_server(lambda _: [], []) as port:
        udp = await bench.udp(port, replace(QUICK, connections=1, pipeline=2))
        first, second = udp.begin(ask()), udp.begin(ask())
        with pytest.raises(Overloaded):
            udp.begin(ask())
        first.drop()
        second.drop()
        with trio.move_on_after(0.05):
            await udp.resolve(ask())
    assert repr(udp).startswith("<Udp peer: room for 2;")


async def test_udp_before_it_runs(bench: Bench) -> None:
    with pytest.raises(NotReady):
        await Udp(bench.settings(1, "udp"), QUICK).resolve(ask())


async def test_tcp_is_not_padded_and_answers(bench: Bench) -> None:
    peer = await Peer(answer_all).start(bench.nursery, None)
    answer = await (await bench.tcp(peer.port)).resolve(ask())
    assert answer.transport is Transport.TCP
    assert len(peer.queries[0]) < 128


@pytest.mark.parametrize("cd", [True, False])
async def test_a_client_s_cd_goes_along_where_it_is_not_set_for_all(bench: Bench, cd: bool) -> None:
    peer = await Peer(answer_all).start(bench.nursery, None)
    tcp = Tcp(bench.settings(peer.port, "tcp"), QUICK, checking_disabled=False)
    await bench.nursery.start(tcp.run)
    await tcp.resolve(replace(ask(), cd=cd))
    assert [query[3] >> 4 & 1 for query in peer.queries] == [cd]
