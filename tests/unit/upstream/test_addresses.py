"""Where an upstream is, and who tells."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import trio
from dns_peers import QUICK, Bench, Messages, Peer, ask, framed
from msgspec.structs import replace

from dohproxy.config.settings import Upstream
from dohproxy.errors import NoReachableUpstream, UpstreamFailed
from dohproxy.upstream.addresses import LONGEST, PATIENCE, PAUSE, Addresses, Found, Unfound
from dohproxy.upstream.bootstrap import ask_system, ask_upstream, locator
from dohproxy.upstream.dot import Dot
from dohproxy.wire.names import from_text

HOST = from_text("dns.test")


class Finder:
    """Finds what it is told to, and counts how often it is asked."""

    def __init__(self, *outcomes: Found | Exception, seconds: float = 0.0) -> None:
        self.outcomes, self.seconds = list(outcomes), seconds
        self.asked = 0

    async def __call__(self) -> Found:
        self.asked += 1
        outcome = self.outcomes[min(self.asked, len(self.outcomes)) - 1]
        await trio.sleep(self.seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def found_by(find: Finder, *configured: str) -> Addresses:
    addresses = Addresses(configured)
    addresses.found_by(find)
    return addresses


async def test_what_is_configured_needs_nobody() -> None:
    assert await Addresses(("192.0.2.1",)).known() == ("192.0.2.1",)


async def test_they_are_asked_for_when_needed_and_once_their_time_is_over(autojump_clock: trio.testing.MockClock) -> None:
    find = Finder(Found(("192.0.2.1",), 60), Found(("192.0.2.2",), 1), Found(("192.0.2.3",), 10**9))
    addresses = found_by(find)
    assert find.asked == 0
    for seconds, expected in ((0, "192.0.2.1"), (59, "192.0.2.1"), (1.1, "192.0.2.2"), (29, "192.0.2.2"), (1.1, "192.0.2.3")):
        await trio.sleep(seconds)
        assert await addresses.known() == (expected,)
    await trio.sleep(LONGEST - 1)
    assert (await addresses.known(), find.asked) == (("192.0.2.3",), 3)
    await trio.sleep(2)
    await addresses.known()
    assert find.asked == 4


async def test_many_wait_for_one_question(autojump_clock: trio.testing.MockClock) -> None:
    find = Finder(Found(("192.0.2.1",), 60), seconds=1)
    addresses, told = found_by(find), []

    async def one() -> None:
        told.append(await addresses.known())

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert told == [("192.0.2.1",)] * 5
    assert find.asked == 1


async def test_who_gives_up_leaves_the_question_to_the_next(autojump_clock: trio.testing.MockClock) -> None:
    find = Finder(Found(("192.0.2.1",), 60), seconds=1)
    addresses = found_by(find)
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(addresses.known)
            await addresses.known()
    assert await addresses.known() == ("192.0.2.1",)


@pytest.mark.parametrize("outcome", [UpstreamFailed("SERVFAIL"), OSError("no route"), Found((), 0)])
async def test_nobody_tells(outcome: Exception | Found) -> None:
    with pytest.raises(Unfound, match=r"SERVFAIL|no route|there are none"):
        await found_by(Finder(outcome)).known()


async def test_they_stay_while_nobody_tells_others(autojump_clock: trio.testing.MockClock) -> None:
    find = Finder(Found(("192.0.2.1",), 60), UpstreamFailed("SERVFAIL"), Found((), 0), Found(("192.0.2.2",), 60))
    addresses = found_by(find)
    await addresses.known()
    await trio.sleep(61)
    assert (await addresses.known(), await addresses.known(), find.asked) == (("192.0.2.1",), ("192.0.2.1",), 2)
    await trio.sleep(PAUSE)
    assert (await addresses.known(), find.asked) == (("192.0.2.1",), 3)
    await trio.sleep(PAUSE)
    assert await addresses.known() == ("192.0.2.2",)


async def test_who_does_not_answer_holds_up_known_ones_for_a_moment_only(autojump_clock: trio.testing.MockClock) -> None:
    find = Finder(Found(("192.0.2.1",), 60))
    addresses = found_by(find)
    await addresses.known()
    find.seconds = 1000
    await trio.sleep(61)
    began = trio.current_time()
    assert await addresses.known() == ("192.0.2.1",)
    assert trio.current_time() - began == pytest.approx(PATIENCE)


# Another upstream


def reply(query: bytes, records: list[tuple[int, int, bytes]], rcode: int = 0) -> bytes:
    """These records (type, TTL, RDATA) of the question's name."""
    end = query.index(b"\0", 12) + 5
    header = query[:2] + bytes((0x81, 0x80 | rcode)) + b"\0\1" + len(records).to_bytes(2) + bytes(4)
    tail = b"".join(b"\xc0\x0c" + t.to_bytes(2) + b"\0\1" + ttl.to_bytes(4) + len(d).to_bytes(2) + d for t, ttl, d in records)
    return header + query[12:end] + tail


def qtype(query: bytes) -> int:
    end = query.index(b"\0", 12) + 1
    return int.from_bytes(query[end : end + 2])


Records = dict[int, tuple[list[tuple[int, int, bytes]], int]]


def telling(records: Records) -> Callable[[Peer, trio.abc.Stream], object]:
    async def answer(peer: Peer, stream: trio.abc.Stream) -> None:
        messages = Messages(stream)
        while True:
            query = await messages.next()
            peer.queries.append(query)
            await stream.send_all(framed(reply(query, *records.get(qtype(query), ([], 0)))))

    return answer


LOOPBACK: Records = {1: ([(1, 300, b"\x7f\0\0\1"), (1, 300, b"\x7f\0\0\2")], 0), 28: ([(28, 200, bytes(15) + b"\1")], 0)}


async def test_both_kinds_of_addresses_are_asked_for(bench: Bench) -> None:
    dot = await bench.dot((await bench.serve(telling(LOOPBACK))).port)
    found = await ask_upstream(dot, HOST, trio.current_time() + 5)
    assert found == Found(("::1", "127.0.0.1", "127.0.0.2"), 200)


@pytest.mark.parametrize("rcode", [2, 5])
async def test_one_kind_is_enough(bench: Bench, rcode: int) -> None:
    dot = await bench.dot((await bench.serve(telling({1: LOOPBACK[1], 28: ([], rcode)}))).port)
    assert (await ask_upstream(dot, HOST, trio.current_time() + 5)).addresses == ("127.0.0.1", "127.0.0.2")


async def test_none_is_an_error_or_nothing(bench: Bench) -> None:
    dot = await bench.dot((await bench.serve(telling({1: ([], 2), 28: ([], 5)}))).port)
    with pytest.raises(UpstreamFailed, match="REFUSED from peer"):
        await ask_upstream(dot, HOST, trio.current_time() + 5)
    dot = await bench.dot((await bench.serve(telling({1: ([], 3), 28: ([], 3)}))).port)
    assert (await ask_upstream(dot, HOST, trio.current_time() + 5)).addresses == ()


async def test_an_upstream_is_found_by_another(bench: Bench) -> None:
    guide = await bench.serve(telling({1: ([(1, 300, b"\x7f\0\0\1")], 0)}))
    peer = await bench.serve()
    asked = await bench.dot(guide.port)
    dot = Dot(replace(bench.settings(peer.port), addresses=(), bootstrap="guide"), QUICK)
    dot.located(locator({"guide": asked}.__getitem__, 2.0))
    await bench.nursery.start(dot.run)
    assert (await dot.resolve(ask())).answer
    assert (await dot.resolve(ask())).answer
    assert len(guide.queries) == 2
    assert all(b"\x03dns\x04test\0" in query for query in guide.queries)


async def test_who_is_to_be_asked_may_come_later(bench: Bench) -> None:
    guide, peer = await bench.serve(telling({1: ([(1, 300, b"\x7f\0\0\1")], 0)})), await bench.serve()
    asked = Dot(bench.settings(guide.port), QUICK)
    dot = Dot(replace(bench.settings(peer.port), addresses=(), bootstrap="guide"), QUICK)
    dot.located(locator({"guide": asked}.__getitem__, 2.0))
    await bench.nursery.start(dot.run)
    waiting = dot.begin(ask())
    await trio.testing.wait_all_tasks_blocked()
    await bench.nursery.start(asked.run)
    assert await waiting.answer(trio.current_time() + 5)


async def test_questions_fail_with_the_reason_where_nobody_tells(bench: Bench) -> None:
    asked = await bench.dot((await bench.serve(telling({1: ([], 5), 28: ([], 5)}))).port)
    dot = Dot(replace(bench.settings(1), addresses=(), bootstrap="guide"), QUICK)
    dot.located(locator({"guide": asked}.__getitem__, 2.0))
    await bench.nursery.start(dot.run)
    with pytest.raises(NoReachableUpstream, match="not to be found: refused from peer"):
        await dot.resolve(ask())


# The system


async def test_the_system_is_asked_for_this_name_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def told(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [
            (2, 1, 6, "", ("192.0.2.1", port)),
            (10, 1, 6, "", ("2001:db8::1", port, 0, 0)),
            (2, 1, 6, "", ("192.0.2.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", told)
    upstream = Upstream("x", "tls", "dns.example", 853, bootstrap="system")
    found = await locator({}.__getitem__, 1.0)(upstream)()
    assert (found.addresses, asked) == (("192.0.2.1", "2001:db8::1"), ["dns.example"])


async def test_the_system_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(OSError, match="system's resolver: Name or service not known"):
        await ask_system("dns.example", 853)
