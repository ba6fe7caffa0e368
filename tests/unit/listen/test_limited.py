"""Clients' limits at the sockets: who asks too often by UDP, and who has too much under way."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dohproxy.config.settings import ClientLimits, Listen
from dohproxy.listen.intake import Intake
from dohproxy.listen.udp import UdpListener
from dohproxy.model import Question
from dohproxy.telemetry.counters import Counters
from dohproxy.wire.names import from_text
from dohproxy.wire.query import build_query

QUERY = build_query(Question(from_text("www.example."), 1), 7, cd=False)


def limited(front, **limits):
    return Intake(front, Listen(), Counters(), ClientLimits(**limits))


def replies(limit, wire, count):
    """What each of so many queries is replied to by a limit; None if it may be answered."""
    charges = map(limit.payer("192.0.2.1"), [10**9] * count)
    return [limit.refusal(wire, charge) if charge else None for charge in charges]


def test_off_costs_nothing(front):
    intake = limited(front)
    assert intake.limited is None
    assert intake.room("192.0.2.1") is intake.room("192.0.2.2") is intake.under_way


async def test_over_the_rate_every_second_query_is_answered_truncated(front):
    intake = limited(front, queries_per_second=1.0, burst=1, slip=2)
    [passed, silent, slipped] = replies(intake.limited, QUERY, 3)
    assert passed is None and silent == b""
    assert slipped[:2] == QUERY[:2] and slipped[2] & 0x82 == 0x82 and slipped[3] & 15 == 0
    assert slipped[12:29] == QUERY[12:29] and len(slipped) < len(QUERY)
    assert (intake.counters.limited, intake.counters.slipped) == (2, 1)


@pytest.mark.parametrize("wire", [b"", bytes(12), b"\0\7\x81" + QUERY[3:], QUERY[:-1]])
async def test_what_is_no_query_slips_into_nothing(front, wire):
    intake = limited(front, queries_per_second=1.0, slip=1)
    assert replies(intake.limited, wire, 2) == [None, b""]
    assert (intake.counters.limited, intake.counters.slipped) == (1, 0)


async def test_datagrams_over_the_rate_are_neither_answered_nor_begun(front, client, nursery, listening):
    sock = listening("udp")
    intake = limited(front, queries_per_second=0.001, burst=2, slip=3)
    for number in range(8):
        client.sendto(number.to_bytes(2) + QUERY[2:], sock.getsockname())
    nursery.start_soon(UdpListener(sock, intake).run)
    got = [await trio.to_thread.run_sync(client.recv, 4096) for _ in range(4)]
    await wait_all_tasks_blocked()
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(4096)
    assert sorted((wire[1], bool(wire[2] & 2)) for wire in got) == [(0, False), (1, False), (4, True), (7, True)]
    assert len(front.asked) == 2
    assert (intake.counters.limited, intake.counters.slipped, intake.counters.hits) == (6, 2, 2)
    nursery.cancel_scope.cancel()


async def test_limits_may_change_under_way(front, client, nursery, listening):
    sock = listening("udp")
    intake = limited(front)
    listener = UdpListener(sock, intake)
    nursery.start_soon(listener.run)
    intake.limit(ClientLimits(queries_per_second=0.001, slip=1))
    listener.renew()
    for _ in range(2):
        client.sendto(QUERY, sock.getsockname())
    got = [await trio.to_thread.run_sync(client.recv, 4096) for _ in range(2)]
    assert sorted(wire[2] & 2 for wire in got) == [0, 2]
    nursery.cancel_scope.cancel()


async def test_one_client_cannot_take_all_the_room(front):
    intake = limited(front, in_flight=2, ipv4_prefix=24)
    rooms = [intake.room("192.0.2.1"), intake.room("192.0.2.9")]
    assert rooms[0].enter() and rooms[1].enter()
    assert not intake.room("192.0.2.77").enter()
    assert intake.room("198.51.100.1").enter()
    assert intake.under_way.count == 3
    rooms[0].leave()
    assert intake.room("192.0.2.77").enter()


async def test_the_room_of_all_counts_for_each(front):
    intake = Intake(front, Listen(in_flight=1), Counters(), ClientLimits(in_flight=5))
    assert intake.room("192.0.2.1").enter()
    other = intake.room("192.0.2.2")
    assert not other.enter()
    with trio.move_on_after(0):
        await other.wait()
    intake.room("192.0.2.1").leave()
    assert intake.under_way.count == 0
    assert not intake._rooms, "nobody is in them"


def taken(front):
    """An intake, and a client's only room, which is taken."""
    intake = limited(front, in_flight=1)
    room = intake.room("192.0.2.1")
    assert room.enter()
    return intake, room


async def test_a_stream_waits_for_its_clients_room(front, autojump_clock):
    intake, room = taken(front)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(intake.room("192.0.2.1").wait)
        await wait_all_tasks_blocked()
        assert intake.under_way.count == 1
        room.leave()
    assert intake.under_way.count == 1


async def test_who_is_let_in_counts_in_the_room_that_newcomers_find(front):
    intake, room = taken(front)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.wait)
        await wait_all_tasks_blocked()
        room.leave()  # nobody is in it until the one who waits has its turn
        assert intake.room("192.0.2.1") is room
    assert not intake.room("192.0.2.1").enter()
    room.leave()
    assert not intake._rooms


async def test_a_room_goes_with_the_last_who_waited_for_it(front):
    intake, room = taken(front)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(room.wait)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        room.leave()
        assert intake._rooms
    assert not intake._rooms
    assert intake.under_way.count == 0
