from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dohproxy.listen.tcp import ConnectionTable, TcpListener


def framed(text):
    return (12).to_bytes(2) + text.ljust(12)


@pytest.fixture
def serve(listening, make_intake, nursery):
    """Start a listener with these limits; gives it, its intake and a way to connect."""

    def start(address="127.0.0.1", **limits):
        sock = listening("tcp", address)
        intake = make_intake(**limits)
        listener = TcpListener(sock, intake, ConnectionTable(intake.limits, intake.counters))
        nursery.start_soon(listener.run)
        return listener, intake, partial(trio.open_tcp_stream, *sock.getsockname()[:2])

    return start


async def ask(stream, text):
    await stream.send_all(framed(text))
    reply = b""
    while len(reply) < 14:
        chunk = await stream.receive_some(14 - len(reply))
        if not chunk:
            return None
        reply += chunk
    return reply[2:].rstrip()


async def is_closed(stream):
    try:
        return await stream.receive_some(1) == b""
    except trio.BrokenResourceError:
        return True


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_serves_connections(serve, front, address):
    _, intake, connect = serve(address)
    async with await connect() as one, await connect() as other:
        assert await ask(one, b"one") == b"ONE"
        assert await ask(other, b"two") == b"TWO"
        assert front.asked[0][1] == address
        assert intake.counters.tcp_open == 2
    while intake.counters.tcp_open:
        await trio.lowlevel.checkpoint()
    assert intake.counters.tcp_accepted == 2


async def test_the_connection_idle_longest_makes_room(serve):
    _, intake, connect = serve(tcp_connections=2)
    async with await connect() as first, await connect() as second:
        await ask(first, b"one")
        await ask(second, b"one")
        await ask(first, b"two")
        async with await connect() as third:
            assert await ask(third, b"three") == b"THREE"
            assert await is_closed(second)
            assert await ask(first, b"three") == b"THREE"
    assert (intake.counters.tcp_displaced, intake.counters.tcp_refused) == (1, 0)


async def test_queries_under_way_are_not_cut_off_for_a_newcomer(serve, front):
    gate = front.gates[b"slow"] = trio.Event()
    _, intake, connect = serve(tcp_connections=1)
    async with await connect() as first:
        await first.send_all(framed(b"slow"))
        while not front.asked:
            await trio.lowlevel.checkpoint()
        async with await connect() as second:
            assert await is_closed(second)
        gate.set()
        assert (await first.receive_some())[2:].rstrip() == b"SLOW"
    assert intake.counters.tcp_refused == 1


async def test_a_client_over_its_limit_pays_itself(serve):
    _, intake, connect = serve(tcp_connections=100, tcp_connections_per_client=1)
    async with await connect() as first:
        await ask(first, b"one")
        async with await connect() as second:
            assert await ask(second, b"two") == b"TWO"
            assert await is_closed(first)
    assert intake.counters.tcp_displaced == 1


async def test_a_stopped_listener_lets_answers_out_and_ends(listening, make_intake, front):
    gate = front.gates[b"slow"] = trio.Event()
    sock = listening("tcp")
    intake = make_intake()
    listener = TcpListener(sock, intake, ConnectionTable(intake.limits, intake.counters))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run)
        busy = await trio.open_tcp_stream(*sock.getsockname())
        idle = await trio.open_tcp_stream(*sock.getsockname())
        await ask(idle, b"one")
        await busy.send_all(framed(b"slow"))
        while len(front.asked) < 2:
            await trio.lowlevel.checkpoint()
        listener.stop()
        assert await is_closed(idle)
        await wait_all_tasks_blocked()
        gate.set()
        assert (await busy.receive_some())[2:].rstrip() == b"SLOW"
        assert await is_closed(busy)
    for stream in (busy, idle):
        await stream.aclose()
    assert intake.counters.tcp_open == 0


async def test_running_out_of_descriptors_is_a_pause_and_not_the_end(serve, monkeypatch, autojump_clock):
    accept, failed = trio.SocketListener.accept, []

    async def failing(self):
        if not failed:
            failed.append(1)
            raise OSError(24, "Too many open files")
        return await accept(self)

    monkeypatch.setattr(trio.SocketListener, "accept", failing)
    _, _, connect = serve()
    async with await connect() as stream:
        assert await ask(stream, b"one") == b"ONE"
