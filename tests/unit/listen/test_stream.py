import dns.edns
import dns.message
import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from dohproxy.listen.stream import StreamConnection
from dohproxy.model import Transport


def message(text):
    return text.ljust(12)


def framed(text):
    return len(message(text)).to_bytes(2) + message(text)


class Talk:
    """A connection that is being served, and its client."""

    def __init__(self, intake, nursery):
        self.client, ours = memory_stream_pair()
        self.connection = StreamConnection(ours, "192.0.2.1", Transport.TCP, intake)
        self.ended = trio.Event()
        nursery.start_soon(self._run)

    async def ask(self, *options):
        """The options of the answer to a question with these, of which the fake front repeats those asked."""
        query = dns.message.make_query("WWW.EXAMPLE", "A", id=1, options=list(options) or None, payload=1232).to_wire()
        await self.client.send_all(len(query).to_bytes(2) + query)
        answer = await self._exactly(int.from_bytes(await self._exactly(2)))
        return [(option.otype, option.to_wire()) for option in dns.message.from_wire(answer).options]

    async def _run(self):
        await self.connection.run()
        self.ended.set()

    async def say(self, *texts):
        await self.client.send_all(b"".join(framed(text) for text in texts))

    async def hear(self, count):
        """The next answers, in the order that they came."""
        heard = []
        for _ in range(count):
            length = int.from_bytes(await self._exactly(2))
            heard.append((await self._exactly(length)).rstrip())
        return heard

    async def _exactly(self, size):
        octets = b""
        while len(octets) < size:
            chunk = await self.client.receive_some(size - len(octets))
            assert chunk, "the connection ended"
            octets += chunk
        return octets

    async def closed(self):
        assert await self.client.receive_some(1) == b""
        await self.ended.wait()


@pytest.fixture
def talk(nursery, make_intake):
    return lambda **limits: Talk(make_intake(**limits), nursery)


async def test_many_queries_on_one_connection(talk):
    talk = talk()
    await talk.say(b"one", b"two", b"hit")
    assert sorted(await talk.hear(3)) == [b"HIT", b"ONE", b"TWO"]
    await talk.say(b"three")
    assert await talk.hear(1) == [b"THREE"]


async def test_answers_leave_as_they_are_ready(talk, front):
    front.gates[b"slow"] = trio.Event()
    talk = talk()
    await talk.say(b"slow", b"fast")
    assert await talk.hear(1) == [b"FAST"]
    front.gates[b"slow"].set()
    assert await talk.hear(1) == [b"SLOW"]


async def test_messages_may_come_octet_by_octet(talk):
    talk = talk()
    for octet in framed(b"one") + framed(b"two"):
        await talk.client.send_all(bytes([octet]))
        await wait_all_tasks_blocked()
    assert await talk.hear(2) == [b"ONE", b"TWO"]


async def test_silence_leaves_the_connection_open(talk):
    talk = talk()
    await talk.say(b"drop", b"one")
    assert await talk.hear(1) == [b"ONE"]
    await wait_all_tasks_blocked()
    assert talk.connection.idle


async def test_a_client_that_ends_its_side_gets_its_answers(talk, front):
    front.gates[b"slow"] = trio.Event()
    talk = talk()
    await talk.say(b"slow")
    await talk.client.send_stream.aclose()
    await wait_all_tasks_blocked()
    front.gates[b"slow"].set()
    assert await talk.hear(1) == [b"SLOW"]
    await talk.closed()


@pytest.mark.parametrize("octets", [b"\0\0", b"\0\x0b" + bytes(11)])
async def test_what_is_too_short_to_be_a_message_ends_the_connection(talk, octets):
    talk = talk()
    await talk.client.send_all(octets)
    await talk.closed()
    assert talk.connection._counters.tcp_broken == 1


async def test_an_idle_connection_is_closed(talk, autojump_clock):
    talk = talk(tcp_idle_timeout=10.0)
    await trio.sleep(9)
    await talk.say(b"one")
    await talk.hear(1)
    before = trio.current_time()
    await talk.closed()
    assert trio.current_time() - before == pytest.approx(10)
    assert talk.connection._counters.tcp_broken == 0


async def test_a_connection_with_a_query_under_way_is_not_idle(talk, front, autojump_clock):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk(tcp_idle_timeout=10.0)
    await talk.say(b"slow")
    await trio.sleep(60)
    gate.set()
    assert await talk.hear(1) == [b"SLOW"]
    await trio.sleep(9)
    await talk.say(b"one")
    assert await talk.hear(1) == [b"ONE"]


async def test_half_a_message_is_waited_for_as_long_as_an_idle_client_and_no_longer(talk, autojump_clock):
    talk = talk(tcp_idle_timeout=10.0)
    before = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        for octet in framed(b"a long name that takes its time"):
            await talk.client.send_all(bytes([octet]))
            await trio.sleep(1)
    assert trio.current_time() - before <= 12
    assert talk.connection._counters.tcp_broken == 1


async def test_half_a_message_behind_a_query_under_way_times_out_and_the_answer_leaves(talk, front, autojump_clock):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk(tcp_idle_timeout=10.0)
    await talk.say(b"slow")
    await talk.client.send_all(b"\0")
    await trio.sleep(11)
    gate.set()
    assert await talk.hear(1) == [b"SLOW"]
    await talk.closed()


async def test_reading_pauses_beyond_the_pipeline_limit(talk, front):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk(tcp_pipeline=3)
    await talk.say(*[b"slow %d" % i for i in range(8)])
    await wait_all_tasks_blocked()
    assert len(front.asked) == 3
    gate.set()
    assert len(await talk.hear(8)) == 8


async def test_reading_waits_for_room_among_all_queries(talk, front, nursery, make_intake):
    gate = front.gates[b"slow"] = trio.Event()
    intake = make_intake(in_flight=1)
    one, other = Talk(intake, nursery), Talk(intake, nursery)
    await one.say(b"slow")
    await wait_all_tasks_blocked()
    await other.say(b"two")
    await wait_all_tasks_blocked()
    assert [wire.rstrip() for wire, _, _ in front.asked] == [b"slow"]
    gate.set()
    assert await one.hear(1) == [b"SLOW"]
    assert await other.hear(1) == [b"TWO"]
    await wait_all_tasks_blocked()
    assert intake.under_way.count == 0


async def test_a_client_that_does_not_read_is_given_up(nursery, front, intake, autojump_clock):
    client, ours = trio.testing.lockstep_stream_pair()
    connection = StreamConnection(ours, "192.0.2.1", Transport.TCP, intake)
    nursery.start_soon(client.send_all, framed(b"one"))
    before = trio.current_time()
    await connection.run()
    assert trio.current_time() - before == pytest.approx(10)
    assert intake.counters.tcp_broken == 1


async def test_a_client_that_is_gone_ends_its_queries(talk, front):
    front.gates[b"slow"] = trio.Event()
    talk = talk()
    await talk.say(b"slow", b"one")
    await talk.hear(1)
    talk.connection.close()
    await talk.closed()
    assert front.cancelled == 1
    assert talk.connection._intake.under_way.count == 0


async def test_stopping_lets_answers_out(talk, front):
    gate = front.gates[b"slow"] = trio.Event()
    talk = talk(tcp_pipeline=1)
    await talk.say(b"slow", b"never")
    await wait_all_tasks_blocked()
    talk.connection.stop()
    await wait_all_tasks_blocked()
    assert not talk.ended.is_set()
    gate.set()
    assert await talk.hear(1) == [b"SLOW"]
    await talk.closed()


async def test_stopping_an_idle_connection_closes_it(talk):
    talk = talk()
    await wait_all_tasks_blocked()
    talk.connection.stop()
    await talk.closed()


async def test_large_answers_leave_whole(talk, front):
    front.size = 60_000
    talk = talk()
    await talk.say(*[b"%d" % i for i in range(5)])
    sizes = set()
    for _ in range(5):
        length = int.from_bytes(await talk._exactly(2))
        sizes.add(len(await talk._exactly(length)))
    assert sizes == {60_012}


ASKS = dns.edns.GenericOption(11, b"")


async def test_who_asks_how_long_it_may_be_idle_is_told(talk):
    talk = talk(tcp_idle_timeout=4.5)
    assert await talk.ask(ASKS) == [(11, b""), (11, b"\0\x2d")]
    assert await talk.ask() == []
    assert await talk.ask(dns.edns.GenericOption(11, b"\0\x14")) == [(11, b"\0\x14")]


async def test_who_asks_while_the_connection_ends_is_told_to_ask_no_more(talk, front):
    gate = front.gates[b"\0\1\1\0"] = trio.Event()
    talk = talk()
    async with trio.open_nursery() as nursery:

        async def ask():
            assert await talk.ask(ASKS) == [(11, b""), (11, b"\0\0")]

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        talk.connection.stop()
        await wait_all_tasks_blocked()
        gate.set()
    await talk.closed()
