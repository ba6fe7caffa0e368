"""A resolver that takes its time for some names, on connections that carry nothing else: it is not taken for dead."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
import trio
from dns_peers import Bench, Manner, Messages, Peer, answer_all, ask, framed, reply_to

from dohproxy.config.settings import Forwarding
from dohproxy.resolve.selected import Group

_SLOW = 0.8


async def slow_beside_others(peer: Peer, stream: trio.abc.Stream) -> None:
    """Answers what begins with `slow` when it is ready, and all else at once."""
    messages = Messages(stream)

    async def later(query: bytes) -> None:
        await trio.sleep(_SLOW)
        await stream.send_all(framed(reply_to(query)))

    async with trio.open_nursery() as nursery:
        with suppress(trio.EndOfChannel):
            while True:
                query = await messages.next()
                peer.queries.append(query)
                if b"\x04slow" in query:
                    nursery.start_soon(later, query)
                else:
                    await stream.send_all(framed(reply_to(query)))
        nursery.cancel_scope.cancel()


async def slow_one_by_one(peer: Peer, stream: trio.abc.Stream) -> None:
    """Answers in the order of the questions, as some servers do."""
    messages = Messages(stream)
    while True:
        query = await messages.next()
        peer.queries.append(query)
        if b"\x04slow" in query:
            await trio.sleep(_SLOW)
        await stream.send_all(framed(reply_to(query)))


@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("manner", [slow_beside_others, slow_one_by_one])
async def test_a_slow_name_is_asked_of_one_upstream_only(
    bench: Bench, manner: Manner, connections: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dohproxy")
    first, second = await bench.serve(manner), await bench.serve(answer_all)
    forwarding = Forwarding(connections=connections)
    group = Group((await bench.dot(first.port, forwarding), await bench.dot(second.port, forwarding)), forwarding)
    await bench.nursery.start(group.run)
    await group.resolve(ask())
    await trio.sleep(0.1)  # until all is quiet
    began = trio.current_time()
    assert (await group.resolve(ask("slow.example."))).rcode == 0
    assert trio.current_time() - began < 1.5 + (manner is slow_one_by_one) * 0.5
    assert not second.queries
    assert repr(group) == "<Group: peer up, peer up>"
    assert not caplog.records
    assert sum(b"\x04slow" in query for query in first.queries) == 2
