"""A defect that one connection meets ends that connection: the listener, and all others, go on."""

import pytest
import trio

from dohproxy.listen.stream import StreamConnection
from dohproxy.listen.tcp import ConnectionTable, TcpListener
from dohproxy.wire.framing import frame

QUERY = b"miss".ljust(12)


@pytest.fixture
async def open_connection(intake, listening, nursery):
    sock = listening("tcp")
    nursery.start_soon(TcpListener(sock, intake, ConnectionTable(intake.limits, intake.counters)).run)
    opened = []

    async def open_():
        opened.append(await trio.open_tcp_stream(*sock.getsockname()))
        return opened[-1]

    yield open_
    for stream in opened:
        stream.socket.close()


def fail(*_, **__):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (StreamConnection, "__init__"),
        (StreamConnection, "run"),
        (StreamConnection, "_take"),
        (StreamConnection, "_put"),
        (StreamConnection, "_next_batch"),
        (ConnectionTable, "admit"),
        (TcpListener, "_client"),
        (TcpListener, "_accept"),
    ],
)
async def test_a_defect_costs_one_connection(open_connection, intake, monkeypatch, caplog, owner, name):
    other = await open_connection()
    await other.send_all(frame(QUERY))
    assert await other.receive_some() == frame(QUERY.upper())
    with monkeypatch.context() as broken:
        broken.setattr(owner, name, fail)
        met = await open_connection()
        await met.send_all(frame(QUERY))
        with trio.fail_after(5):
            if name == "_accept":
                await until(lambda: caplog.records)
            else:
                assert not await end_of(met)
    for stream in (other, await open_connection()):
        await stream.send_all(frame(QUERY))
        with trio.fail_after(5):
            assert await stream.receive_some() == frame(QUERY.upper())
    assert {record.exc_info[0] for record in caplog.records} == {ZeroDivisionError}
    with trio.fail_after(5):
        await until(lambda: intake.counters.tcp_open <= 3)


async def end_of(stream):
    try:
        return await stream.receive_some()
    except trio.BrokenResourceError:
        return b""


async def until(condition):
    while not condition():  # noqa: ASYNC110 - there is no event for what a listener counts
        await trio.sleep(0.001)
