"""Connections that fall silent or do not open, and a network that becomes another one."""

from __future__ import annotations

import pytest
import trio
from dns_peers import QUICK, Bench, Messages, Peer, answer_all, ask, framed, reply_to

from dohproxy.errors import Disconnected
from dohproxy.upstream.dot import Dot


async def swallow(peer: Peer, stream: trio.abc.Stream) -> None:
    messages = Messages(stream)
    while True:
        peer.queries.append(await messages.next())


async def one_then_swallow(peer: Peer, stream: trio.abc.Stream) -> None:
    query = await Messages(stream).next()
    await stream.send_all(framed(reply_to(query)))
    await swallow(peer, stream)


async def slow(peer: Peer, stream: trio.abc.Stream) -> None:
    messages = Messages(stream)
    while True:
        query = await messages.next()
        peer.queries.append(query)
        await trio.sleep(0.3)
        await stream.send_all(framed(reply_to(query)))


async def opened(dot: Dot) -> None:
    await dot.resolve(ask())


async def test_a_silent_connection_says_so_and_the_next_question_takes_another(bench: Bench) -> None:
    peer = await bench.serve(one_then_swallow, answer_all)
    dot = await bench.dot(peer.port, QUICK)
    await opened(dot)
    exchange = dot.begin(ask())
    assert await exchange.answer(trio.current_time() + 0.05) is None
    assert exchange.silent
    await opened(dot)
    assert peer.connections == 2


async def test_connections_of_one_upstream_share_their_fate(bench: Bench) -> None:
    """Those that were open when one fell silent, and have not been heard of since, are not used either."""
    peer = await bench.serve(one_then_swallow, one_then_swallow, answer_all)
    dot = await bench.dot(peer.port, QUICK)
    await opened(dot)
    silent = dot.begin(ask())
    await silent.answer(trio.current_time() + 0.05)
    await opened(dot)  # by the second
    silent.drop()
    first, second = dot.begin(ask()), dot.begin(ask())
    await first.answer(trio.current_time() + 0.05)
    await opened(dot)
    assert first.silent and second.silent
    assert peer.connections == 3


async def test_what_is_asked_on_a_retiring_connection_is_answered(bench: Bench) -> None:
    peer = await bench.serve(slow, answer_all)
    dot = await bench.dot(peer.port, QUICK)
    await opened(dot)
    exchange = dot.begin(ask())
    await trio.sleep(0.02)
    dot.renew()
    await opened(dot)
    assert peer.connections == 2
    assert await exchange.answer(trio.current_time() + 2) is not None
    await trio.sleep(0.05)
    assert peer.open == 1


async def test_idle_connections_end_with_the_network(bench: Bench) -> None:
    peer = await bench.serve()
    dot = await bench.dot(peer.port, QUICK)
    await opened(dot)
    dot.renew()
    await trio.sleep(0.05)
    assert peer.open == 0
    await opened(dot)
    assert peer.connections == 2


async def test_what_waits_for_a_connection_is_to_be_asked_anew(bench: Bench) -> None:
    dot = await bench.dot((await bench.serve()).port, QUICK, addresses=("192.0.2.77",))
    exchange = dot.begin(ask())
    dot.renew()
    with pytest.raises(Disconnected):
        await exchange.answer(trio.current_time() + 1)


async def test_who_opens_first_takes_what_waits_for_the_others(bench: Bench) -> None:
    peer, ignored = await bench.serve(), [True]

    async def ignore_the_first(tcp: trio.SocketStream) -> None:
        if ignored:
            ignored.clear()
            await trio.sleep_forever()
        await peer._serve(tcp)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    bench.nursery.start_soon(trio.serve_listeners, ignore_the_first, listeners)
    dot = await bench.dot(listeners[0].socket.getsockname()[1], QUICK)
    exchange = dot.begin(ask())
    assert await exchange.answer(trio.current_time() + 0.41) is None
    await opened(dot)
    assert await exchange.answer(trio.current_time() + 0.2) is not None
    assert peer.connections == 1
