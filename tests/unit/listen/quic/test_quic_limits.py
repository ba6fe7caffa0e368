"""What strangers and clients can make a QUIC listener hold, send and do: all of it is bounded."""

import os
import socket

import pytest
import trio
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import Epoch
from quic_callers import QuicCaller, own, quic_configuration, settled

from dohproxy.courses import parked, stepped
from dohproxy.listen import quic as listener_module
from dohproxy.listen.credentials import Credentials
from dohproxy.listen.quic_connection import HANDSHAKE, MAX_OWED, MAX_WITHDRAWN, PATIENCE
from dohproxy.listen.quic_table import HANDSHAKES, HANDSHAKES_PER_CLIENT, RETRY_FROM
from dohproxy.protocol.doq import DoqError
from dohproxy.protocol.quic_packets import MAX_RESET, MIN_RESET, reset_token
from dohproxy.protocol.quic_pieces import MAX_PIECES
from dohproxy.protocol.quic_server import MAX_CRYPTO, WINDOW

QUERY = (b"\0\0\1\0miss").ljust(16, b".")
FRAMED = len(QUERY).to_bytes(2) + QUERY


@pytest.fixture
def plain():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(5)
        yield sock


def first_flight(authority, **fields):
    """The datagrams that a client begins with, and the client."""
    one = QuicCaller(("127.0.0.1", 1), quic_configuration(authority.pem, "doq", **fields))
    one.close()
    one.quic.connect(one.address, trio.current_time())
    return [datagram for datagram, _ in one.quic.datagrams_to_send(trio.current_time())], one


def received(sock):
    sock.setblocking(False)
    found = []
    while True:
        try:
            found.append(sock.recv(65535))
        except BlockingIOError:
            return found


async def turn():
    await trio.testing.wait_all_tasks_blocked(0.005)


# Connections


async def test_the_connection_idle_longest_makes_room(serve, call):
    listener = serve(quic_connections=2)
    first, second = await call(listener), await call(listener)
    await second.ask(QUERY)
    await first.ask(QUERY)
    third = await call(listener)
    assert await third.ask(QUERY)
    await second.until(lambda: False)
    assert second.closed.error_code == DoqError.NO_ERROR
    assert await first.ask(QUERY)
    assert (listener.counters.quic_displaced, listener.counters.quic_open) == (1, 2)


@pytest.mark.parametrize("limit", ["quic_connections", "quic_connections_per_client"])
async def test_where_none_is_idle_newcomers_are_refused(serve, call, caller, front, limit):
    front.gates[QUERY[:4]] = trio.Event()
    listener = serve(**{limit: 1})
    busy = await call(listener)
    busy.send(FRAMED)
    await busy.pause()
    late = caller(listener)
    assert not await late.connect()
    assert late.closed.error_code == QuicErrorCode.CONNECTION_REFUSED
    assert (listener.counters.quic_refused, listener.counters.quic_open) == (1, 1)


async def test_one_client_does_not_take_the_room_of_others(serve, call):
    listener = serve(quic_connections_per_client=2)
    other = await call(listener, bind="127.0.0.2")
    for _ in range(5):
        await call(listener)
    assert listener.counters.quic_open == 3
    assert await other.ask(QUERY)


async def test_idle_connections_end_by_themselves(serve, call, autojump_clock):
    listener = serve(quic_idle_timeout=30.0)
    for _ in range(3):
        await call(listener)
    await trio.sleep(31)
    assert (len(listener), listener._connections, listener.counters.quic_open, listener.table._open) == (0, {}, 0, {})
    await trio.sleep(31)
    assert not listener._alarms


async def test_alarms_stay_few(serve, call, autojump_clock):
    listener = serve()
    one = await call(listener)
    for _ in range(200):
        await one.ask(QUERY)
        await one.pause(0.1)
    assert len(listener._alarms) < 10


# Handshakes


async def test_a_flood_of_handshakes_is_met_with_retry(serve, call, plain, authority):
    listener = serve(quic_connections=10000, quic_connections_per_client=10000)
    for _ in range(HANDSHAKES + 50):
        for datagram in first_flight(authority)[0]:
            plain.sendto(datagram, listener.address)
        await turn()
    assert len(listener) == listener.table.handshakes == RETRY_FROM
    assert listener.counters.quic_retried == HANDSHAKES + 50 - RETRY_FROM
    honest = await call(listener)  # whose address is its own, comes in all the same
    assert await honest.ask(QUERY)
    assert honest.quic._retry_count == 1


async def test_validated_addresses_begin_no_more_handshakes_than_are_allowed(serve, caller, monkeypatch):
    monkeypatch.setattr("dohproxy.listen.quic_table.RETRY_FROM", 0)
    monkeypatch.setattr("dohproxy.listen.quic_table.HANDSHAKES", 1)
    listener = serve()
    half = caller(listener)
    half.quic.connect(half.address, trio.current_time())
    await half.until(lambda: half.received)  # the Retry
    half.flush()
    await settled(lambda: listener.table.handshakes == 1)
    late = caller(listener)
    assert not await late.connect()
    assert late.closed.error_code == QuicErrorCode.CONNECTION_REFUSED


async def test_one_client_does_not_take_all_handshakes(serve, caller, call, monkeypatch):
    monkeypatch.setattr("dohproxy.listen.quic_table.RETRY_FROM", 0)
    listener = serve()
    for _ in range(HANDSHAKES_PER_CLIENT + 4):
        half = caller(listener)
        half.quic.connect(half.address, trio.current_time())
        half.flush()
        await trio.lowlevel.wait_readable(half.sock)
        half.take()  # the Retry
        half.flush()
        await turn()
    assert listener.table.handshakes == HANDSHAKES_PER_CLIENT
    assert listener.counters.quic_refused == 4
    assert await (await call(listener, bind="127.0.0.2")).ask(QUERY)


async def test_handshakes_have_their_time(serve, plain, authority, autojump_clock):
    listener = serve()
    plain.sendto(first_flight(authority)[0][0], listener.address)
    await settled(lambda: len(listener) == 1)
    await trio.sleep(HANDSHAKE + 1)
    assert listener.table.handshakes == listener.counters.quic_open == 0
    await trio.sleep(10)
    assert (len(listener), listener._connections) == (0, {})


async def test_what_cannot_be_read_begins_nothing(serve, plain, authority):
    listener = serve()
    [datagram] = first_flight(authority)[0][:1]
    for _ in range(100):
        forged = bytearray(datagram)
        forged[6:14] = os.urandom(8)  # keys come from this: nothing can be read any more
        plain.sendto(forged, listener.address)
    await turn()
    await turn()
    assert (len(listener), listener._connections, listener.table.handshakes) == (0, {}, 0)
    assert listener.counters.quic_strays == 100
    assert received(plain) == []


async def test_nothing_is_amplified_before_the_address_is_known(serve, plain, authority, autojump_clock):
    names = [f"name-{number}.with.a.long.domain.example" for number in range(200)]
    listener = serve(credentials=Credentials((own(authority.server("localhost", *names)),)))
    sent = first_flight(authority)[0]
    for datagram in sent:
        plain.sendto(datagram, listener.address)
    octets = 0
    for _ in range(60):
        await trio.sleep(0.1)
        octets += sum(map(len, received(plain)))
    assert len(own(authority.server("localhost", *names)).value.chain) > 7000
    assert 2400 < octets <= 3 * sum(map(len, sent))


async def test_handshakes_with_gaps_take_no_room(serve, caller):
    """What lies beyond a gap would be kept, up to half a megabyte for each packet of a stranger."""
    listener = serve()
    one = caller(listener)
    one.quic.connect(one.address, trio.current_time())
    sender = one.quic._crypto_streams[Epoch.INITIAL].sender
    sender.write(bytes(MAX_CRYPTO))
    sender._pending.subtract(0, MAX_CRYPTO)
    await one.until(lambda: False)
    assert one.closed.error_code == QuicErrorCode.CRYPTO_BUFFER_EXCEEDED
    assert listener.counters.quic_open == 0


# Retry


@pytest.fixture
def wary(serve, monkeypatch):
    monkeypatch.setattr("dohproxy.listen.quic_table.RETRY_FROM", 0)
    return serve()


async def test_a_retry_leaves_no_state_and_its_token_lets_in(wary, call):
    one = await call(wary)
    assert await one.ask(QUERY)
    assert wary.counters.quic_retried == wary.counters.quic_accepted == 1


@pytest.mark.parametrize("how", ["elsewhere", "later", "forged"])
async def test_tokens_count_for_their_address_and_a_short_time(wary, caller, how, autojump_clock):
    one = caller(wary)
    one.quic.connect(one.address, trio.current_time())
    one.flush()
    await trio.lowlevel.wait_readable(one.sock)
    one.take()
    assert (one.quic._retry_count, len(wary)) == (1, 0)
    if how == "elsewhere":
        one.move()
    elif how == "later":
        await trio.sleep(31)
    else:
        one.quic._peer_token = bytes(len(one.quic._peer_token))
    await one.until(lambda: False)
    assert one.closed.error_code == QuicErrorCode.INVALID_TOKEN
    assert not len(wary)


# Strangers


async def test_unknown_versions_are_told_ours(serve, plain):
    listener = serve()
    ids = bytes([8]) + b"destinat" + bytes([5]) + b"sourc"
    plain.sendto((b"\xc0" + b"\x1a\x2a\x3a\x4a" + ids).ljust(1200, b"\0"), listener.address)
    await turn()
    [answer] = received(plain)
    assert answer[0] & 0x80
    assert answer[1:5] == bytes(4)
    assert answer[5:20] == bytes([5]) + b"sourc" + bytes([8]) + b"destinat"
    assert len(answer) < 100
    for unanswered in (b"\xc0\x1a\x2a\x3a\x4a" + ids, (b"\xc0" + bytes(4) + ids).ljust(1200, b"\0")):
        plain.sendto(unanswered, listener.address)
    await turn()
    assert received(plain) == []


async def test_packets_of_connections_long_gone_are_answered_with_a_reset(serve, plain):
    listener = serve()
    for size in (15, MIN_RESET, MIN_RESET + 1, 60, 1200):
        plain.sendto(b"\x40" + b"whoisit?" + bytes(size - 9), listener.address)
        await turn()
        answers = received(plain)
        if size <= MIN_RESET:
            assert answers == []
        else:
            [answer] = answers
            assert MIN_RESET <= len(answer) <= min(size - 1, MAX_RESET)
            assert answer[-16:] == reset_token(listener.reception.reset_key(), b"whoisit?")
            assert answer[0] & 0xC0 == 0x40


async def test_resets_are_few(serve, plain):
    listener = serve()
    for _ in range(5):
        for _ in range(60):
            plain.sendto(b"\x40" + os.urandom(60), listener.address)
        await turn()
    assert len(received(plain)) <= 2 * listener_module.STRAYS
    assert listener.counters.quic_strays == 300


async def test_a_client_learns_by_a_reset_that_we_have_forgotten_it(serve, call):
    listener = serve()
    one = await call(listener)
    await one.ask(QUERY)
    [connection] = listener._open.values()
    connection._forget()
    tokens = {cid.stateless_reset_token for cid in [one.quic._peer_cid, *one.quic._peer_cid_available]}
    seen = []
    one.quic.receive_datagram = lambda datagram, *_: seen.append(datagram)
    one.send(FRAMED)
    await one.pause()
    assert any(datagram[-16:] in tokens for datagram in seen)


async def test_garbage_is_passed_over(serve, call, plain):
    listener = serve()
    one = await call(listener)
    [connection] = listener._open.values()
    known = [*connection.ids]
    for size in range(60):
        for first in (0x00, 0x40, 0x80, 0xC0, 0xFF):
            plain.sendto(bytes([first]) + os.urandom(size), listener.address)
            plain.sendto(bytes([first]) + known[0] + os.urandom(size), listener.address)
            plain.sendto(bytes([first]) + b"\0\0\0\1\x08" + known[0] + os.urandom(size), listener.address)
        await turn()
    assert await one.ask(QUERY)
    assert len(listener) == 1


async def test_a_defect_costs_one_connection(serve, call, front, caplog):
    listener = serve()
    one, other = await call(listener), await call(listener)
    front.recall = None
    one.send(FRAMED)
    await one.pause()
    del front.recall
    front.recall = lambda *_: None
    assert "defect" in caplog.text
    assert await other.ask(QUERY)
    assert len(listener) == 1


async def test_a_defect_at_the_beginning_of_a_query_that_waited_ends_its_connection(serve, call, front, caplog):
    def fail(*_):
        raise ZeroDivisionError

    listener = serve(in_flight=1)
    one, other = await call(listener), await call(listener)
    gate = front.gates[QUERY[:4]] = trio.Event()
    other.send(FRAMED)
    await other.pause()
    for _ in range(2):
        one.send(FRAMED)
    await one.pause()
    front.begin = fail
    gate.set()
    await turn()
    assert {record.exc_info[0] for record in caplog.records} == {ZeroDivisionError}
    assert (len(listener), listener.intake.under_way.count) == (1, 0)


@pytest.mark.parametrize("turns", range(8))
async def test_a_query_that_is_to_be_a_task_while_the_listener_ends_hurts_nobody(serve, call, front, turns):
    held = []

    async def parking(*_):
        held.append(stepped())
        await parked()
        return b""

    front.answer = parking
    listener = serve()
    one = await call(listener)
    one.send(FRAMED)
    await one.pause()
    listener._running.cancel()
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    held[0].go_on()  # as a connection to an upstream does, whenever that is late
    await turn()
    assert listener.intake.under_way.count == 0


# Clients


async def test_more_streams_than_allowed_end_the_connection(serve, call, front):
    front.gates[QUERY[:4]] = trio.Event()
    one = await call(serve(tcp_pipeline=5))
    for _ in range(5):
        one.send(FRAMED)
    await one.pause()
    assert len(front.asked) == 5
    one.quic._remote_max_streams_bidi = 100
    one.send(FRAMED)
    await one.until(lambda: False)
    assert one.closed.error_code == QuicErrorCode.STREAM_LIMIT_ERROR
    await settled(lambda: front.cancelled == 5)


@pytest.mark.parametrize("gap", [True, False])
async def test_unfinished_requests_take_bounded_room(serve, call, gap):
    listener = serve()
    one = await call(listener)
    for _ in range(50):
        stream = one.send(b"\xff\xff" + bytes(60000), end=False)
        if gap:  # the first octet does not come: nothing that follows can be used
            one.quic._streams[stream].sender._pending.subtract(0, 1)
    await one.pause(0.3)
    [connection] = listener._open.values()
    assert WINDOW / 2 < connection.quic._kept() <= WINDOW
    assert connection.quic._local_max_data.value <= WINDOW
    one.quic._remote_max_data = 1 << 40  # as if it had never heard of it
    for stream in one.quic._streams.values():
        stream.max_stream_data_remote = 1 << 40
    await one.until(lambda: False)
    assert one.closed.error_code == QuicErrorCode.FLOW_CONTROL_ERROR


async def test_one_stream_takes_no_more_than_a_message(serve, call):
    listener = serve()
    one = await call(listener)
    stream = one.send(b"\xff\xff" + bytes(200000), end=False)
    one.quic._streams[stream].sender._pending.subtract(0, 1)
    await one.pause(0.2)
    [connection] = listener._open.values()
    assert connection.quic._kept() <= 98304


async def test_requests_that_end_make_room_for_others(serve, call):
    one = await call(serve())
    large = b"\0\0\1\0" + bytes(20000)
    for _ in range(40):  # many times the window
        assert len(await one.ask(large)) == len(large)


async def test_rapid_withdrawal_ends_the_connection(serve, call, front):
    front.gates[QUERY[:4]] = trio.Event()
    listener = serve()
    one = await call(listener)
    while one.closed is None:
        for stream in [one.send(FRAMED) for _ in range(10)]:
            one.quic.stop_stream(stream, 3)
        await one.pause(0.01)
    assert one.closed.error_code == DoqError.EXCESSIVE_LOAD
    assert len(front.asked) <= MAX_WITHDRAWN + 20
    await settled(lambda: not listener.intake.under_way.count)


async def test_a_client_that_is_served_may_withdraw_now_and_then(serve, call):
    one = await call(serve())
    for _ in range(MAX_WITHDRAWN):
        one.quic.stop_stream(one.send(FRAMED), 3)
        await one.ask(QUERY)
        await one.ask(QUERY)
    assert one.closed is None


def stingy(quic):
    """Never lets the server send more than it did at first."""
    quic._write_connection_limits = quic._write_stream_limits = lambda **_: None


@pytest.mark.parametrize("window", [{"max_data": 1}, {"max_stream_data": 1}])
async def test_answers_that_are_not_read_are_bounded(serve, call, front, window):
    front.size = 60000
    listener = serve()
    one = await call(listener, adjust=stingy, **window)
    [connection] = listener._open.values()
    for _ in range(50):
        one.send(FRAMED)
    most = 0
    while one.closed is None:
        await one.pause(0.01)
        most = max(most, connection.quic.owed())
    assert one.closed.error_code == DoqError.EXCESSIVE_LOAD
    assert most <= MAX_OWED + 60100


async def test_an_answer_must_be_read_in_time(serve, call, front, autojump_clock):
    front.size = 5000
    one = await call(serve(), adjust=stingy, max_stream_data=1)
    one.send(FRAMED)
    began = trio.current_time()
    while one.closed is None:
        one.quic.send_ping(0)
        await one.pause(1)
    assert one.closed.error_code == DoqError.EXCESSIVE_LOAD
    assert PATIENCE <= trio.current_time() - began <= 2 * PATIENCE + 2


async def test_connection_ids_are_bounded(serve, call):
    listener = serve()
    one = await call(listener)
    for _ in range(40):
        await one.ask(QUERY)
        one.quic.change_connection_id()
    assert await one.ask(QUERY)
    assert len(listener._connections) <= 9
    [connection] = listener._open.values()
    assert connection.ids == set(listener._connections)


async def hostile(one, frames):
    """Send frames that no client of good manners would."""
    write = one.quic._write_ping_frame

    def written(builder, *_, **__):
        for frame_type, octets in frames:
            builder.start_frame(frame_type, capacity=len(octets) + 1).push_bytes(octets)

    one.quic._write_ping_frame = written
    one.quic.send_ping(0)
    one.flush()
    one.quic._write_ping_frame = write
    await one.pause(0.02)


async def test_new_connection_ids_are_bounded(serve, call):
    one = await call(serve())
    frames = [
        (QuicFrameType.NEW_CONNECTION_ID, encode_uint_var(number) + b"\0\x08" + os.urandom(24)) for number in range(8, 20)
    ]
    await hostile(one, frames)
    await one.until(lambda: False)
    assert one.closed.error_code == QuicErrorCode.CONNECTION_ID_LIMIT_ERROR


def pieces(stream):
    """Every second octet of a stream, a hundred in a packet: aioquic looks at all that it has for each that comes."""
    for first in range(1, 40000, 200):
        head = b"" if stream is None else encode_uint_var(stream)
        kind = QuicFrameType.CRYPTO if stream is None else QuicFrameType.STREAM_BASE | 6
        yield [(kind, head + encode_uint_var(first + 2 * number) + b"\x01x") for number in range(100)]


@pytest.mark.parametrize("stream", [0, None])
async def test_a_stream_in_too_many_pieces_ends_the_connection(serve, call, stream):
    listener = serve()
    one = await call(listener)
    [connection] = listener._open.values()
    other = await call(listener)
    for frames in pieces(stream):
        await hostile(one, frames)
        if one.closed is not None:
            break
    assert "pieces" in one.closed.reason_phrase
    streams = (*connection.quic._streams.values(), *connection.quic._crypto_streams.values())
    assert max(len(one.receiver._ranges) for one in streams) == MAX_PIECES + 1
    assert await other.ask(QUERY)


async def test_floods_of_path_challenges_are_bounded(serve, call):
    listener = serve()
    one = await call(listener)
    [connection] = listener._open.values()
    for _ in range(20):
        one.received.clear()
        await hostile(one, [(QuicFrameType.PATH_CHALLENGE, os.urandom(8)) for _ in range(100)])
        assert sum(size for size, _ in one.received) < 3000
        assert all(len(path.remote_challenges) <= 32 for path in connection.quic._network_paths)
    assert await one.ask(QUERY)


async def test_paths_are_bounded(serve, call):
    listener = serve()
    one = await call(listener)
    [connection] = listener._open.values()
    for _ in range(20):
        one.move()
        one.quic.send_ping(0)
        one.flush()
        await turn()
    assert len(connection.quic._network_paths) <= 8


# Clients that move


async def test_a_client_behind_another_port_goes_on(serve, call):
    listener = serve()
    one = await call(listener)
    assert await one.ask(QUERY)
    one.move()
    assert await one.ask(QUERY)
    assert listener.counters.quic_accepted == 1


async def test_an_address_counts_once_it_is_proven(serve, call, front):
    one = await call(serve())
    one.move("127.0.0.2")
    assert await one.ask(QUERY)
    await one.pause(0.05)
    assert await one.ask(QUERY)
    assert [asked[1] for asked in front.asked] == ["127.0.0.1", "127.0.0.2"]
