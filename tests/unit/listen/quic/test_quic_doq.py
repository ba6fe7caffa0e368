"""DNS over QUIC, as RFC 9250 has it."""

import pytest
import trio
from quic_callers import settled

from dohproxy.model import Question, Transport
from dohproxy.protocol.doq import DoqError
from dohproxy.wire.query import build_query
from dohproxy.wire.reply import error_reply_for
from dohproxy.wire.request import parse_request_untrusted


def message(text=b"miss", id=b"\0\0"):
    return (id + b"\1\0" + text).ljust(16, b".")


def framed(octets):
    return len(octets).to_bytes(2) + octets


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
async def test_a_query_on_each_stream(serve, call, front, address):
    listener = serve(address)
    one = await call(listener)
    assert [await one.ask(message(text)) for text in (b"miss", b"other")] == [message(b"MISS"), message(b"OTHER")]
    assert front.asked[0] == (message(), listener.address[0], Transport.DOQ)
    assert (listener.counters.doq_queries, listener.counters.misses, listener.counters.quic_open) == (2, 2, 1)


async def test_answers_leave_from_the_address_that_was_asked(serve, call):
    listener = serve("0.0.0.0")
    listener.address = ("127.0.0.3", listener.address[1])
    one = await call(listener)
    assert await one.ask(message())
    assert {source for _, source in one.received} == {listener.address}


async def test_streams_are_answered_as_answers_come(serve, call, front):
    front.gates[b"\0\0\1\0"] = trio.Event()
    one = await call(serve())
    slow = one.send(framed(message()))
    await one.pause()
    del front.gates[b"\0\0\1\0"]
    assert await one.ask(message(b"fast")) == message(b"FAST")
    assert slow not in one.ended


async def test_many_at_once_over_the_stream_limit(serve, call):
    one = await call(serve(tcp_pipeline=10))
    streams = [one.send(framed(message(b"%d" % number))) for number in range(100)]
    assert await one.until(lambda: one.ended.issuperset(streams))
    assert [one.data[stream][2:] for stream in streams] == [message(b"%d" % number) for number in range(100)]


async def test_a_reply_at_hand_needs_no_task(serve, call, front):
    one = await call(listener := serve())
    front.recall = lambda *asked: b"\0\0\x81\0at hand" if asked == (message(), "127.0.0.1", Transport.DOQ) else None
    assert await one.ask(message()) == b"\0\0\x81\0at hand"
    assert (listener.counters.hits, front.asked) == (1, [])


@pytest.mark.parametrize(
    ("octets", "unidirectional"),
    [
        (framed(message(id=b"\0\1")), False),
        (framed(message()) + b"x", False),
        (framed(message()) + framed(message()), False),
        (framed(message())[:-1], False),
        (b"\0", False),
        (b"", False),
        (framed(b"\0\0short"), False),
        (framed(message()), True),
    ],
)
async def test_breaches_of_the_protocol_end_the_connection(serve, call, front, octets, unidirectional):
    one = await call(listener := serve())
    one.send(octets, stream=one.quic.get_next_available_stream_id(is_unidirectional=unidirectional))
    await one.until(lambda: False)
    assert (one.closed.error_code, one.closed.frame_type) == (DoqError.PROTOCOL_ERROR, None)
    assert (front.asked, listener.counters.quic_broken, listener.counters.quic_open) == ([], 1, 0)


async def test_keepalive_of_tcp_has_no_place_here(serve, call, front):
    query = build_query(Question(b"\3www\7example\0", 1), 0, cd=False, pad_to=0)
    assert query[-2:] == b"\0\0"
    one = await call(serve())
    assert await one.ask(query) is not None
    assert await one.ask(query[:-2] + b"\0\4" + b"\0\x0b\0\0") is None
    assert one.closed.error_code == DoqError.PROTOCOL_ERROR


async def test_silence_resets_the_stream(serve, call, front):
    async def silent(wire, peer, transport):
        return b""

    front.answer = silent
    one = await call(serve())
    stream = one.send(framed(message()))
    assert await one.over(stream) is None
    assert one.resets[stream] == DoqError.UNSPECIFIED_ERROR
    assert one.closed is None


@pytest.mark.parametrize("end", [True, False])
async def test_who_stops_listening_frees_the_work(serve, call, front, end):
    front.gates[b"\0\0\1\0"] = trio.Event()
    one = await call(listener := serve())
    stream = one.send(framed(message()), end=end)
    await one.pause()
    assert len(front.asked) == end
    one.quic.stop_stream(stream, DoqError.REQUEST_CANCELLED)
    if not end:
        one.quic.reset_stream(stream, DoqError.REQUEST_CANCELLED)
    await one.until(lambda: stream in one.resets)
    await settled(lambda: front.cancelled == end)
    assert listener.intake.under_way.count == 0
    front.gates.clear()
    assert await one.ask(message()) == message(b"MISS")


async def test_padded_queries_get_padded_answers(serve, call, front):
    async def refuse(wire, peer, transport):
        return error_reply_for(parse_request_untrusted(wire), 5)

    front.answer = refuse
    question = Question(b"\3www\7example\0", 1)
    one = await call(serve())
    assert len(await one.ask(build_query(question, 0, cd=False, pad_to=128))) == 468
    assert len(await one.ask(build_query(question, 0, cd=False, pad_to=0))) < 100


async def test_without_room_queries_wait_in_a_row(serve, call, front):
    front.gates[b"\0\0\1\0"] = trio.Event()
    one = await call(listener := serve(in_flight=2))
    streams = [one.send(framed(message(b"%d" % number))) for number in range(10)]
    await one.pause()
    assert len(front.asked) == 2
    one.quic.stop_stream(streams[5], DoqError.REQUEST_CANCELLED)
    await one.pause()
    front.gates[b"\0\0\1\0"].set()
    rest = set(streams) - {streams[5]}
    assert await one.until(lambda: one.ended.issuperset(rest))
    assert len(front.asked) == 9
    assert listener.intake.under_way.count == 0


async def test_a_stop_lets_answers_out(serve, call, front):
    front.gates[b"\0\0\1\0"] = trio.Event()
    listener = serve()
    busy, idle = await call(listener), await call(listener)
    stream = busy.send(framed(message()))
    await busy.pause()
    listener.stop()
    await idle.until(lambda: False)
    assert (idle.closed.error_code, idle.closed.frame_type) == (DoqError.NO_ERROR, None)
    late = busy.send(framed(message(b"late")))
    await busy.pause()
    front.gates[b"\0\0\1\0"].set()
    await busy.until(lambda: False)
    assert busy.data[stream][2:] == message(b"MISS")
    assert late not in busy.ended
    assert (busy.closed.error_code, len(front.asked)) == (DoqError.NO_ERROR, 1)
    await settled(lambda: not len(listener))


async def test_a_client_gone_while_we_stop_holds_nothing_up(serve, call, front):
    front.gates[b"\0\0\1\0"] = trio.Event()
    one = await call(listener := serve())
    one.send(framed(message()))
    await one.pause()
    listener.stop()
    front.gates[b"\0\0\1\0"].set()
    await settled(lambda: not len(listener))  # the client says nothing any more


async def test_an_unknown_protocol_is_refused(serve, caller):
    one = caller(serve(), "h3")
    assert not await one.connect()
    assert one.closed.error_code == 0x100 + 120  # no_application_protocol


async def test_version_2_is_spoken(serve, call):
    one = await call(serve(), original_version=0x6B3343CF, supported_versions=[0x6B3343CF])
    assert await one.ask(message()) == message(b"MISS")


async def test_sessions_are_resumed_but_early_data_is_not_taken(serve, call, caller, authority):
    listener = serve()
    first = await call(listener)
    await first.until(lambda: first.tickets)
    [ticket] = first.tickets
    assert ticket.max_early_data_size is None
    second = await call(listener, session_ticket=ticket)
    assert second.ready.session_resumed
    ticket.max_early_data_size = 0xFFFFFFFF  # the client offers it all the same
    again = await call(listener)
    await again.until(lambda: again.tickets)
    again.tickets[0].max_early_data_size = 0xFFFFFFFF
    eager = caller(listener, session_ticket=again.tickets[0])
    eager.quic.connect(eager.address, trio.current_time())
    stream = eager.send(framed(message()))
    assert await eager.over(stream) is not None
    assert not eager.ready.early_data_accepted
    assert not eager.ready.session_resumed


async def test_a_ticket_counts_once(serve, call):
    listener = serve()
    first = await call(listener)
    await first.until(lambda: first.tickets)
    resumed = [(await call(listener, session_ticket=first.tickets[0])).ready.session_resumed for _ in range(2)]
    assert resumed == [True, False]
    await settled(lambda: listener.counters.tls_handshakes == 3)
    assert (listener.counters.tls_resumed, listener.counters.tls_failed) == (1, 0)
