import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from dohproxy.core.mmsg import BATCH
from dohproxy.listen.udp import STARTS, UdpListener
from dohproxy.model import Transport

ADDRESSES = ["127.0.0.1", "::1", "0.0.0.0", "::"]


def message(text):
    """Bytes as long as a header, the least that a message has."""
    return text.ljust(12)


async def receive(sock, size=65535):
    return await trio.to_thread.run_sync(sock.recvfrom, size)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("question", [b"hit a message", b"miss a message"])
async def test_answers_leave_from_the_address_that_was_asked(address, question, intake, nursery, listening):
    asked = {"0.0.0.0": "127.0.0.53", "::": "::1"}.get(address, address)
    sock = listening("udp", address)
    nursery.start_soon(UdpListener(sock, intake).run)
    with socket.socket(sock.family, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.sendto(question, (asked, sock.getsockname()[1]))
        reply, source = await receive(client)
    assert reply == question.upper()
    assert source[:2] == (asked, sock.getsockname()[1])
    nursery.cancel_scope.cancel()


async def test_hits_and_misses_are_counted_and_told_apart(intake, front, client, nursery, listening):
    sock = listening("udp")
    nursery.start_soon(UdpListener(sock, intake).run)
    for question in (b"hit 1", b"miss", b"drop"):
        client.sendto(message(question), sock.getsockname())
    got = {(await receive(client))[0] for _ in range(2)}
    await wait_all_tasks_blocked()
    assert got == {message(b"HIT 1"), message(b"MISS")}
    assert sorted(front.asked, reverse=True) == [(message(q), "127.0.0.1", Transport.UDP) for q in (b"miss", b"drop")]
    counters = intake.counters
    assert (counters.udp_queries, counters.hits, counters.misses, counters.shed) == (3, 1, 2, 0)
    assert sum(counters.rcodes) == 2
    nursery.cancel_scope.cancel()


async def test_a_hit_overtakes_a_miss_under_way(intake, front, client, nursery, listening):
    front.gates[b"slow"] = trio.Event()
    sock = listening("udp")
    nursery.start_soon(UdpListener(sock, intake).run)
    client.sendto(message(b"slow"), sock.getsockname())
    client.sendto(message(b"hit"), sock.getsockname())
    assert (await receive(client))[0] == message(b"HIT")
    front.gates[b"slow"].set()
    assert (await receive(client))[0] == message(b"SLOW")
    nursery.cancel_scope.cancel()


async def test_the_newest_beyond_the_limit_are_shed(make_intake, front, client, nursery, listening):
    intake = make_intake(in_flight=2)
    gate = front.gates[b"slow"] = trio.Event()
    sock = listening("udp")
    nursery.start_soon(UdpListener(sock, intake).run)
    for i in range(5):
        client.sendto(message(b"slow %d" % i), sock.getsockname())
    client.sendto(message(b"hit"), sock.getsockname())
    assert (await receive(client))[0] == message(b"HIT")
    assert (intake.counters.shed, intake.under_way.count) == (3, 2)
    gate.set()
    assert {(await receive(client))[0] for _ in range(2)} == {message(b"SLOW 0"), message(b"SLOW 1")}
    client.sendto(message(b"slow 9"), sock.getsockname())
    assert (await receive(client))[0] == message(b"SLOW 9")
    nursery.cancel_scope.cancel()


async def test_other_tasks_have_their_turn_between_batches(intake, front, client, nursery, listening):
    sock = listening("udp")
    sent = 3 * BATCH + 6
    for i in range(sent):
        client.sendto(message(b"hit %d" % i), sock.getsockname())
    seen = []

    async def watch():
        while not seen or seen[-1] < sent:
            seen.append(intake.counters.hits)
            await trio.lowlevel.checkpoint()

    nursery.start_soon(UdpListener(sock, intake).run)
    await watch()
    assert {BATCH, 2 * BATCH, 3 * BATCH} & set(seen)
    nursery.cancel_scope.cancel()


async def test_hits_do_not_wait_for_the_misses_before_them(intake, front, client, nursery, listening):
    sock = listening("udp")
    for i in range(6 * STARTS):
        client.sendto(message(b"miss %d" % i), sock.getsockname())
    client.sendto(message(b"hit"), sock.getsockname())
    begun = []

    async def watch():
        while not intake.counters.hits:
            await trio.lowlevel.checkpoint()
        begun.append(intake.counters.misses)

    nursery.start_soon(watch)
    nursery.start_soon(UdpListener(sock, intake).run)
    got = {(await receive(client))[0] for _ in range(6 * STARTS + 1)}
    assert len(got) == 6 * STARTS + 1
    assert begun[0] <= 3 * STARTS
    assert intake.under_way.count == 0
    nursery.cancel_scope.cancel()


async def test_a_turn_takes_256_datagrams_at_most(intake, listening):
    listener = UdpListener(listening("udp"), intake)

    class Endless:
        def take(self):
            intake.counters.udp_queries += BATCH
            return [(message(b"miss"), "127.0.0.1", b"")] * BATCH

    listener._datagrams = Endless()
    listener._take()
    assert intake.counters.udp_queries == 256


async def test_an_answer_that_cannot_be_sent_ends_nothing(intake, front, client, nursery, listening):
    front.size = 70000  # over what a datagram holds: EMSGSIZE
    sock = listening("udp")
    nursery.start_soon(UdpListener(sock, intake).run)
    client.sendto(message(b"miss"), sock.getsockname())
    client.sendto(message(b"hit"), sock.getsockname())
    assert (await receive(client))[0] == message(b"HIT")
    await wait_all_tasks_blocked()
    assert intake.counters.send_errors == 1
    nursery.cancel_scope.cancel()


async def test_a_stopped_listener_lets_answers_out_and_ends(intake, front, client, listening):
    gate = front.gates[b"slow"] = trio.Event()
    sock = listening("udp")
    listener = UdpListener(sock, intake)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run)
        client.sendto(message(b"slow"), sock.getsockname())
        await until(lambda: front.asked)
        listener.stop()
        await wait_all_tasks_blocked()
        client.sendto(message(b"late"), sock.getsockname())
        gate.set()
    assert (await receive(client))[0] == message(b"SLOW")
    assert [wire for wire, _, _ in front.asked] == [message(b"slow")]


@pytest.mark.parametrize("where", ["front", "room", "sending"])
async def test_a_defect_costs_what_met_it_and_the_listener_serves_on(intake, front, client, listening, where, caplog):
    sock = listening("udp")
    listener = UdpListener(sock, intake)
    owner, name = {"front": (front, "answer"), "room": (intake, "room"), "sending": (listener, "_send")}[where]
    whole = getattr(owner, name)
    client.setblocking(False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run)
        setattr(owner, name, None)
        client.sendto(message(b"miss"), sock.getsockname())
        await until(lambda: caplog.records)
        setattr(owner, name, whole)
        client.sendto(message(b"other"), sock.getsockname())
        with trio.fail_after(5):
            while True:
                await trio.lowlevel.wait_readable(client)
                if client.recv(512) == message(b"other").upper():
                    break
        nursery.cancel_scope.cancel()
    assert {record.exc_info[0] for record in caplog.records} == {TypeError}


async def until(condition):
    while not condition():
        await trio.lowlevel.checkpoint()
