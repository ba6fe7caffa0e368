from __future__ import annotations

import errno
import socket
import ssl
import struct
from collections.abc import Callable
from typing import Any

import pytest
import trio
from dns_peers import QUICK, Bench, Messages, Peer, answer_all, ask, framed, reply_to
from msgspec.structs import replace

from dohproxy.bell import Bell
from dohproxy.courses import Course
from dohproxy.errors import Disconnected, NoReachableUpstream, NotReady, Overloaded, ResolveError, UpstreamFailed
from dohproxy.identity.authorities import BadAuthorities
from dohproxy.model import Answer, Ede, Source, Transport
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.stream_connection import StreamConnection
from dohproxy.wire import names
from dohproxy.wire.message import parse_message_untrusted

LIMIT = 10.0
"""Seconds that no test of this file comes near, unless something hangs."""


def addresses(answer: Answer) -> tuple[bytes, ...]:
    return answer.answer[0].rdatas


async def failure(upstream: Dot, seconds: float = 5.0) -> ResolveError:
    with trio.fail_after(LIMIT), pytest.raises(ResolveError) as caught:
        await upstream.resolve(ask(seconds=seconds))
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    """Real sockets: what is waited for comes in its own time."""
    with trio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 - there is no event for what a peer sees
            await trio.sleep(0.002)


async def test_an_answer_tells_where_it_came_from(bench: Bench) -> None:
    dot = await bench.dot((await bench.serve()).port)
    before = trio.current_time()
    answer = await dot.resolve(ask("www.example."))
    assert (answer.rcode, addresses(answer), answer.source) == (0, (b"\1\2\3\4",), Source.UPSTREAM)
    assert (answer.upstream, answer.transport) == ("peer", Transport.DOT)
    assert before <= answer.born <= trio.current_time()


async def test_queries_are_padded_and_ask_for_everything(bench: Bench) -> None:
    peer = await bench.serve()
    await (await bench.dot(peer.port)).resolve(ask())
    (query,) = peer.queries
    assert len(query) % 128 == 0
    assert query[2:4] == b"\x01\x10"  # RD, CD
    edns = parse_message_untrusted(query).edns
    assert edns is not None and edns.do
    assert all(code != 8 for code, _ in edns.options)


async def test_questions_before_it_runs_are_refused(bench: Bench) -> None:
    dot = Dot(bench.settings(1), QUICK)
    with pytest.raises(NotReady):
        await dot.resolve(ask())


async def test_answers_out_of_order(bench: Bench) -> None:
    async def backwards(peer: Peer, stream: trio.abc.Stream) -> None:
        messages = Messages(stream)
        queries = [await messages.next() for _ in range(3)]
        for query in reversed(queries):
            await stream.send_all(framed(reply_to(query, address=bytes([query[13]] * 4))))
        await trio.sleep_forever()

    dot = await bench.dot((await bench.serve(backwards)).port)
    found: dict[str, bytes] = {}

    async def one(name: str) -> None:
        found[name] = addresses(await dot.resolve(ask(name)))[0]

    async with trio.open_nursery() as asking:
        for name in ("a.example.", "b.example.", "c.example."):
            asking.start_soon(one, name)
    assert found == {f"{letter}.example.": letter.encode() * 4 for letter in "abc"}


async def test_what_is_asked_in_a_turn_leaves_in_one_send_and_a_record_each(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[bytes] = []
    sends: list[int] = []

    async def note(_: Peer, stream: trio.abc.Stream) -> None:
        while True:
            records.append(await stream.receive_some(65536))  # which is of one record

    def send(sock: socket.socket, data: bytes) -> int:
        if sock is connection._socket:
            sends.append(len(data))
        return really(sock, data)

    dot = await bench.dot((await bench.serve(note)).port)
    dot.begin(ask("first.example."))
    await until(lambda: bool(records))
    [connection] = dot._connections
    assert isinstance(connection, StreamConnection)
    really = socket.socket.send
    monkeypatch.setattr(socket.socket, "send", send)
    for number in range(3):
        dot.begin(ask(f"n{number}.example."))
    await until(lambda: len(b"".join(records)) == 4 * len(records[0]))
    assert [len(record) for record in records] == [2 + int.from_bytes(records[0][:2])] * 4
    assert len(sends) == 1


def tasks_of(nursery: trio.Nursery) -> list[trio.lowlevel.Task]:
    children = list(nursery.child_tasks)
    return children + [task for child in children for inner in child.child_nurseries for task in tasks_of(inner)]


async def test_a_connection_has_two_tasks(bench: Bench) -> None:
    dot = await bench.dot((await bench.serve()).port)
    for number in range(100):
        dot.begin(ask(f"n{number}.example."))
    [connection] = dot._connections
    await until(lambda: repr(connection) == "open with 0 under way")
    found = [task.name.rpartition(".")[2] for task in tasks_of(bench.nursery) if task.name.startswith("dohproxy.upstream.")]
    assert sorted(found) == ["_attend", "_own", "run"]  # the last is the pool's


async def test_the_clock_goes_on_while_there_is_no_room_to_write(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    room = trio.Event()

    def send(sock: socket.socket, data: bytes) -> int:
        if sock is connection._socket and not room.is_set():
            raise BlockingIOError
        return really(sock, data)

    async def wait_writable(_: socket.socket) -> None:
        await room.wait()

    dot = await bench.dot((await bench.serve()).port)
    await dot.resolve(ask())
    connection: Any = dot._connections[0]
    really = socket.socket.send
    monkeypatch.setattr(socket.socket, "send", send)
    monkeypatch.setattr(trio.lowlevel, "wait_writable", wait_writable)
    exchange = dot.begin(ask())
    with trio.fail_after(LIMIT):
        for _ in range(3):
            assert await exchange.answer(trio.current_time() + 0.01) is None
        room.set()
        assert await exchange.answer(trio.current_time() + LIMIT) is not None


async def test_nothing_is_left_out_where_a_send_failed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ["part", "error"]

    def send(sock: socket.socket, data: bytes) -> int:
        step = steps.pop(0) if sock is connection._socket and steps else ""
        if step == "error":
            raise OSError(errno.ENOBUFS, "no room")
        return really(sock, data[:10] if step == "part" else data)

    dot = await bench.dot((await bench.serve()).port)
    await dot.resolve(ask())
    connection: Any = dot._connections[0]
    really = socket.socket.send
    monkeypatch.setattr(socket.socket, "send", send)
    first = dot.begin(ask("first.example."))
    await until(lambda: not steps)
    second = dot.begin(ask("second.example."))
    for exchange in (first, second):
        assert await exchange.answer(trio.current_time() + LIMIT) is not None


async def test_what_one_read_brings_is_settled_in_one_turn_and_acknowledged_at_once(bench: Bench) -> None:
    async def together(peer: Peer, stream: trio.abc.Stream) -> None:
        messages = Messages(stream)
        while True:
            queries = [await messages.next() for _ in range(3)]
            await stream.send_all(b"".join(framed(reply_to(query)) for query in queries))

    settled: list[Course] = []
    sent: list[int] = []

    def send() -> bool:
        sent.append(len(settled))
        return True

    class Ringing(Course):
        def step(self) -> None:
            settled.append(self)
            bell.ring()

    bell, dot = Bell(send), await bench.dot((await bench.serve(together)).port)
    for _ in range(3):
        for name in ("a.example.", "b.example.", "c.example."):
            dot.begin(ask(name)).leave_to(Ringing(), trio.current_time() + LIMIT)
        before = len(settled)
        await until(lambda: len(settled) == before + 3)  # noqa: B023
    assert sent == [3, 6, 9]
    [connection] = dot._connections
    assert isinstance(connection, StreamConnection)
    assert connection._socket is not None
    assert connection._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1


async def test_a_thousand_at_once(bench: Bench) -> None:
    peer = await bench.serve()
    dot = await bench.dot(peer.port)
    answers: list[Answer] = []

    async def one(number: int) -> None:
        answers.append(await dot.resolve(ask(f"n{number}.example.")))

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as asking:
            for number in range(1000):
                asking.start_soon(one, number)
    assert {answer.answer[0].owner for answer in answers} == {names.from_text(f"n{n}.example.") for n in range(1000)}
    assert peer.connections == 4
    assert repr(dot).count("open with 0 under way") == 4


async def test_one_connection_is_enough_while_it_has_room(bench: Bench) -> None:
    peer = await bench.serve()
    dot = await bench.dot(peer.port)
    async with trio.open_nursery() as asking:
        for number in range(256):
            asking.start_soon(dot.resolve, ask(f"n{number}.example."))
    assert peer.connections == 1
    assert repr(dot) == "<Dot peer: open with 0 under way>"


async def test_beyond_all_connections_and_their_queues_it_is_overloaded(bench: Bench) -> None:
    peer = await bench.serve()
    dot = await bench.dot(peer.port, replace(QUICK, connections=1, pipeline=2))
    for _ in range(2):
        dot.begin(ask())
    with pytest.raises(Overloaded):
        dot.begin(ask())


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda query: reply_to(query, id=bytes([query[0] ^ 1, query[1]])), "ID that was not asked"),
        (lambda query: reply_to(query).replace(b"\3www", b"\3wwv"), "another question"),
        (lambda query: reply_to(query).replace(b"\0\0\1\0\1", b"\0\0\x1c\0\1", 1), "another question"),
        (lambda query: reply_to(query, flags=b"\x01\x00"), "another question"),
        (lambda _: b"\0\0\0\0\0", "ID that was not asked"),
        (lambda _: b"", "no octets"),
    ],
    ids=["ID", "name", "type", "not a response", "too short", "empty"],
)
async def test_what_was_not_asked_ends_the_connection(bench: Bench, spoil: Callable[[bytes], bytes], reason: str) -> None:
    async def spoiling(peer: Peer, stream: trio.abc.Stream) -> None:
        query = await Messages(stream).next()
        await stream.send_all(framed(spoil(query)))
        await trio.sleep_forever()

    peer = await bench.serve(spoiling, answer_all)
    dot = await bench.dot(peer.port)
    error = await failure(dot)
    assert isinstance(error, UpstreamFailed) and not isinstance(error, Disconnected)
    assert reason in str(error)
    await dot.resolve(ask())
    assert peer.connections == 2


async def test_the_name_may_come_back_in_another_case(bench: Bench) -> None:
    async def shouting(peer: Peer, stream: trio.abc.Stream) -> None:
        query = await Messages(stream).next()
        await stream.send_all(framed(reply_to(query).replace(b"\3www", b"\3WwW")))
        await trio.sleep_forever()

    dot = await bench.dot((await bench.serve(shouting)).port)
    assert (await dot.resolve(ask())).answer[0].owner == names.from_text("www.example.")


async def test_a_truncated_or_unreadable_answer_is_a_failure_of_that_question_only(bench: Bench) -> None:
    async def odd(peer: Peer, stream: trio.abc.Stream) -> None:
        messages = Messages(stream)
        await stream.send_all(framed(reply_to(await messages.next(), flags=b"\x83\x80")))
        await stream.send_all(framed(reply_to(await messages.next())[:-3]))
        await stream.send_all(framed(reply_to(await messages.next())))
        await trio.sleep_forever()

    peer = await bench.serve(odd)
    dot = await bench.dot(peer.port)
    assert "truncated" in str(await failure(dot))
    assert "malformed" in str(await failure(dot))
    assert addresses(await dot.resolve(ask()))
    assert peer.connections == 1


async def test_extended_errors_are_told_and_the_additional_section_is_not(bench: Bench) -> None:
    async def explaining(peer: Peer, stream: trio.abc.Stream) -> None:
        query = await Messages(stream).next()
        options = b"\0\x0f\0\7\0\x16alone" + b"\0\x0f\0\1x"  # RFC 8914 2; the second is too short to be one
        opt = b"\0\0\x29\x04\xd0\0\0\0\0" + len(options).to_bytes(2) + options
        reply = reply_to(query, flags=b"\x81\x82")
        await stream.send_all(framed(reply[:6] + b"\0\0\0\0\0\2" + reply[12:] + opt))
        await trio.sleep_forever()

    answer = await (await bench.dot((await bench.serve(explaining)).port)).resolve(ask())
    assert (answer.rcode, answer.answer, answer.authority) == (2, (), ())
    assert answer.ede == (Ede(22, "alone"),)


async def close_before_answering(peer: Peer, stream: trio.abc.Stream) -> None:
    await Messages(stream).next()


async def close_in_mid_answer(peer: Peer, stream: trio.abc.Stream) -> None:
    await stream.send_all(framed(reply_to(await Messages(stream).next()))[:20])
    await stream.aclose()


async def reset(peer: Peer, stream: trio.abc.Stream) -> None:
    await Messages(stream).next()
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    tcp.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def break_the_cipher(peer: Peer, stream: trio.abc.Stream) -> None:
    await Messages(stream).next()
    assert isinstance(stream, trio.SSLStream)
    await stream.transport_stream.send_all(b"\x17\x03\x03\x00\x40" + bytes(64))
    await trio.sleep_forever()


@pytest.mark.parametrize("manner", [close_before_answering, close_in_mid_answer, reset, break_the_cipher])
async def test_a_connection_that_breaks_fails_what_is_under_way_and_is_replaced(bench: Bench, manner: object) -> None:
    peer = await bench.serve(manner, answer_all)  # type: ignore[arg-type]
    dot = await bench.dot(peer.port)
    assert isinstance(await failure(dot), Disconnected)
    assert addresses(await dot.resolve(ask()))
    assert peer.connections == 2


async def test_half_a_message_then_the_rest(bench: Bench) -> None:
    async def dripping(peer: Peer, stream: trio.abc.Stream) -> None:
        for octet in framed(reply_to(await Messages(stream).next())):
            await stream.send_all(bytes([octet]))
        await trio.sleep_forever()

    dot = await bench.dot((await bench.serve(dripping)).port)
    assert addresses(await dot.resolve(ask())) == (b"\1\2\3\4",)


async def stall(peer: Peer, stream: trio.abc.Stream) -> None:
    messages = Messages(stream)
    while True:
        await messages.next()


async def test_a_stalled_connection_is_replaced_and_then_dropped(bench: Bench) -> None:
    peer = await bench.serve(stall, answer_all)
    dot = await bench.dot(peer.port)
    exchange = dot.begin(ask())
    assert await exchange.answer(trio.current_time() + 0.05) is None
    assert repr(dot) == "<Dot peer: suspect with 1 under way>"
    await dot.resolve(ask())
    assert repr(dot) == "<Dot peer: suspect with 1 under way; open with 0 under way>"
    exchange.drop()
    await until(lambda: peer.open == 1)
    assert repr(dot) == "<Dot peer: open with 0 under way>"


async def test_where_no_other_connection_may_be_opened_a_stalled_one_gives_way(bench: Bench) -> None:
    peer = await bench.serve(stall, answer_all)
    dot = await bench.dot(peer.port, replace(QUICK, connections=1))
    exchange = dot.begin(ask())
    assert await exchange.answer(trio.current_time() + 0.05) is None
    await dot.resolve(ask())
    with pytest.raises(Disconnected, match="the connection stalled"):
        await exchange.answer(trio.current_time() + LIMIT)


async def test_a_late_answer_may_still_be_awaited_and_clears_the_suspicion(bench: Bench) -> None:
    go = trio.Event()

    async def slow(peer: Peer, stream: trio.abc.Stream) -> None:
        query = await Messages(stream).next()
        await go.wait()
        await stream.send_all(framed(reply_to(query)))
        await trio.sleep_forever()

    dot = await bench.dot((await bench.serve(slow)).port)
    exchange = dot.begin(ask())
    assert await exchange.answer(trio.current_time() + 0.05) is None
    go.set()
    answer = await exchange.answer(trio.current_time() + LIMIT)
    assert answer is not None and addresses(answer)
    assert repr(dot) == "<Dot peer: open with 0 under way>"


async def test_no_answer_in_time(bench: Bench) -> None:
    dot = await bench.dot((await bench.serve(stall)).port)
    error = await failure(dot, seconds=0.05)
    assert isinstance(error, NoReachableUpstream)
    assert str(error) == "peer: no answer in time"


async def test_a_cancelled_caller_leaves_and_its_late_answer_is_dropped(bench: Bench) -> None:
    async def second_first(peer: Peer, stream: trio.abc.Stream) -> None:
        messages = Messages(stream)
        first, second = await messages.next(), await messages.next()
        await stream.send_all(framed(reply_to(first, address=rb"\9" * 4)) + framed(reply_to(second)))
        await answer_all(peer, stream)

    peer = await bench.serve(second_first)
    dot = await bench.dot(peer.port)
    with trio.CancelScope() as leaving:
        async with trio.open_nursery() as asking:
            asking.start_soon(dot.resolve, ask())
            await until(lambda: "1 under way" in repr(dot))
            leaving.cancel()
    assert repr(dot) == "<Dot peer: open with 0 under way>"
    assert addresses(await dot.resolve(ask())) == (b"\1\2\3\4",)
    assert addresses(await dot.resolve(ask())) == (b"\1\2\3\4",)
    assert peer.connections == 1


async def test_idle_connections_close_and_reopen_with_resumption(bench: Bench) -> None:
    peer = await bench.serve()
    dot = await bench.dot(peer.port, replace(QUICK, idle_timeout=0.05))
    await dot.resolve(ask())
    await until(lambda: peer.open == 0)
    assert repr(dot) == "<Dot peer: no connection>"
    await dot.resolve(ask())
    assert peer.reused == [False, True]


async def test_a_connection_that_was_reset_can_be_resumed_all_the_same(bench: Bench) -> None:
    async def answer_one_then_reset(peer: Peer, stream: trio.abc.Stream) -> None:
        messages = Messages(stream)
        await stream.send_all(framed(reply_to(await messages.next())))
        await messages.next()
        await reset(peer, stream)

    peer = await bench.serve(answer_one_then_reset, answer_all)
    dot = await bench.dot(peer.port)
    await dot.resolve(ask())
    with trio.move_on_after(0.05):
        await dot.resolve(ask())
    del peer.manners[0]
    dot.begin(ask())
    await until(lambda: "no connection" in repr(dot) or peer.connections > 1)
    await dot.resolve(ask())
    assert peer.reused[-1]


async def test_stopping_answers_those_who_wait(bench: Bench) -> None:
    peer = await bench.serve(stall)
    dot = Dot(bench.settings(peer.port), QUICK)
    errors: list[ResolveError] = []

    async def one() -> None:
        errors.append(await failure(dot))

    async with trio.open_nursery() as asking, trio.open_nursery() as running:
        await running.start(dot.run)
        asking.start_soon(one)
        await until(lambda: "1 under way" in repr(dot))
        running.cancel_scope.cancel()
    assert [type(error) for error in errors] == [NotReady]


# Whom it talks to


async def refusal(bench: Bench, peer: Peer, **fields: object) -> str:
    error = await failure(await bench.dot(peer.port, **fields))
    assert isinstance(error, NoReachableUpstream)
    return str(error)


async def test_an_ip_address_can_be_the_name_in_the_certificate(bench: Bench) -> None:
    dot = await bench.dot((await bench.serve()).port, tls_name="127.0.0.1")
    assert addresses(await dot.resolve(ask()))


async def test_a_certificate_for_another_name(bench: Bench) -> None:
    peer = await bench.serve(context=bench.certificates.context(bench.certificates.stranger))
    assert "Hostname mismatch" in await refusal(bench, peer)
    assert "IP address mismatch" in await refusal(bench, peer, tls_name="127.0.0.1")
    assert peer.queries == []


async def test_a_certificate_of_another_authority(bench: Bench) -> None:
    assert "self-signed" in await refusal(bench, await bench.serve(), ca_file=bench.certificates.other_ca)


async def test_a_certificate_that_the_system_does_not_know(bench: Bench) -> None:
    assert "its certificate is refused" in await refusal(bench, await bench.serve(), ca_file=None)


async def test_a_file_without_certificates_is_told_at_once(bench: Bench) -> None:
    with pytest.raises(BadAuthorities, match=r"good\.key: no certificates to verify others with"):
        Dot(bench.settings(853, ca_file=bench.certificates.good[1]), QUICK)


async def test_an_expired_certificate(bench: Bench) -> None:
    peer = await bench.serve(context=bench.certificates.context(bench.certificates.expired))
    assert "expired" in await refusal(bench, peer)


async def test_tls_1_2_only_if_allowed(bench: Bench) -> None:
    context = bench.certificates.context(bench.certificates.good)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    peer = await bench.serve(context=context)
    assert await refusal(bench, peer) == "TLS: tlsv1 alert protocol version"
    dot = await bench.dot(peer.port, allow_tls12=True)
    assert addresses(await dot.resolve(ask()))


async def test_nobody_listens(bench: Bench, unused_port: int) -> None:
    assert str(await failure(await bench.dot(unused_port))) == "connection refused"


async def test_the_next_address_is_tried(bench: Bench) -> None:
    dot = await bench.dot((await bench.serve()).port, addresses=("127.0.0.2", "127.0.0.1"))
    assert addresses(await dot.resolve(ask()))


async def test_a_server_that_never_shakes_hands(bench: Bench) -> None:
    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    bench.nursery.start_soon(trio.serve_listeners, silent, [listener])
    dot = await bench.dot(listener.socket.getsockname()[1], replace(QUICK, connect_timeout=0.05))
    assert str(await failure(dot)) == "no connection in time"
