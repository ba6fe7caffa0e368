"""Streams of a frame there and a frame back, and what else may come of them: with a server on aioquic, on a bad network too."""

from collections import Counter
from random import Random

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, StopSendingReceived, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from dns_peers import Certificates

from dohproxy.protocol.quic_client import ClientConnection

HERE, THERE = ("127.0.0.1", 1), ("127.0.0.1", 2)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Pair:
    """A client and a server, and what each has seen. `lossy` of the datagrams, or as many more of them, change on their way."""

    def __init__(self, certificates, *, max_data=1 << 20, max_stream_data=1 << 17, random=None):
        self.now, self.random, self.lossy = 0.0, random, 0.0
        self.client = ClientConnection(
            QuicConfiguration(alpn_protocols=["doq"], server_name="dns.test", max_datagram_size=1200, max_stream_data=1 << 17),
            lambda *_: None,
            keep_ticket=lambda _: None,
            keep_token=lambda _: None,
        )
        configuration = QuicConfiguration(
            is_client=False, alpn_protocols=["doq"], max_data=max_data, max_stream_data=max_stream_data
        )
        configuration.load_cert_chain(*certificates.good)
        self.server = QuicConnection(
            configuration=configuration, original_destination_connection_id=self.client.original_destination_connection_id
        )
        self.answers, self.questions, self.refused = {}, {}, {}
        self.at_server, self.at_client = [], []
        self.sent, self.ends = Counter(), Counter()
        self.answering = lambda stream, data: self.server.send_stream_data(stream, data[::-1], end_stream=True)
        self.client.connect(THERE, self.now)
        self.settle()
        assert self.client.trusted and self.client.may_migrate

    def step(self):
        """Once there and back: whether anything was on its way."""
        self.now += 0.001
        moved = self._carry("client", self.client, self.server, HERE)
        while (event := self.server.next_event()) is not None:
            self.at_server.append(event)
            if isinstance(event, StreamDataReceived):
                data = self.questions[event.stream_id] = self.questions.get(event.stream_id, b"") + event.data
                if event.end_stream:
                    self.answering(event.stream_id, data)
        moved |= self._carry("server", self.server, self.client, THERE)
        while (event := self.client.next_event()) is not None:
            self.at_client.append(event)
            if isinstance(event, StreamDataReceived):
                assert event.stream_id not in self.refused
                self.answers[event.stream_id] = self.answers.get(event.stream_id, b"") + event.data
                self.ends[event.stream_id] += event.end_stream
            elif isinstance(event, StreamReset):
                self.refused[event.stream_id] = event.error_code
        return moved

    def _carry(self, name, sender, receiver, address):
        datagrams = [data for data, _ in sender.datagrams_to_send(self.now)]
        self.sent[name] += len(datagrams)
        for data in self._changed(datagrams):
            receiver.receive_datagram(data, address, self.now)
        return bool(datagrams)

    def _changed(self, datagrams):
        if self.random is None or not self.lossy:
            return datagrams
        kept = [data for data in datagrams if self.random.random() > self.lossy]
        kept += [data for data in datagrams if self.random.random() < self.lossy]
        kept += [data[:-1] + b"?" for data in datagrams if self.random.random() < self.lossy]
        self.random.shuffle(kept)
        return kept

    def settle(self):
        """Until nobody has anything to say, whatever was lost."""
        for _ in range(2000):
            if not self.step():
                timers = [one.get_timer() for one in (self.client, self.server)]
                due = min(timers)
                if due > self.now + 5:
                    return
                self.now = max(self.now, due)
            for one in (self.client, self.server):
                if one.get_timer() <= self.now:
                    one.handle_timer(self.now)
        raise AssertionError("they never end")

    def plain(self):
        """Whether no stream is left of what was asked."""
        return not self.client._brief and not self.client._unsent and not self.client._streams


def silence(stream, data):
    """No answer."""


def asked(pair, count, size=130):
    questions = [b"%d-" % n + bytes(size) for n in range(min(count, pair.client.streams_left))]
    return {pair.client.ask(question): question for question in questions}


def test_many_questions_and_their_answers(certificates):
    pair = Pair(certificates)
    for _ in range(20):
        questions = asked(pair, 100)
        pair.step()
        assert len(pair.client._streams) < 20  # answers that were cut in two
        pair.settle()
        assert {stream: pair.answers.pop(stream) for stream in questions} == {s: q[::-1] for s, q in questions.items()}
    assert len(pair.questions) > 1000
    assert pair.plain()
    assert pair.sent["client"] < 20 * 20


@pytest.mark.parametrize("seed", range(12))
def test_datagrams_that_are_lost_or_come_twice_or_late_or_spoilt(certificates, seed):
    pair = Pair(certificates, random=Random(seed))
    pair.lossy = 0.25
    questions = {}
    for _ in range(10):
        questions |= asked(pair, 40)
        for _ in range(3):
            pair.step()
    pair.settle()
    assert pair.answers == {s: q[::-1] for s, q in questions.items()}
    assert pair.questions == questions and set(pair.ends.values()) == {1}
    assert pair.plain() and pair.client.end is None


def test_answers_in_pieces(certificates):
    pair = Pair(certificates)
    pair.answering = lambda stream, data: pair.server.send_stream_data(stream, data * 30, end_stream=True)
    questions = asked(pair, 20)
    pair.settle()
    assert pair.answers == {s: q * 30 for s, q in questions.items()}
    assert pair.plain()


def test_an_answer_whose_end_comes_by_itself(certificates):
    pair = Pair(certificates)
    pair.answering = pair.server.send_stream_data
    [stream] = asked(pair, 1)
    pair.settle()
    pair.server.send_stream_data(stream, b"", end_stream=True)
    pair.settle()
    assert pair.answers[stream] == pair.questions[stream]
    assert pair.plain()


def test_streams_that_the_server_resets(certificates):
    pair = Pair(certificates)
    pair.answering = lambda stream, _: pair.server.reset_stream(stream, 4)
    questions = asked(pair, 5)
    pair.settle()
    assert pair.refused == dict.fromkeys(questions, 4)
    assert pair.plain()


def test_a_server_that_wants_no_more_of_a_question_may_answer_it(certificates):
    pair = Pair(certificates)

    def refuse(stream, data):
        pair.server.stop_stream(stream, 4)
        pair.server.send_stream_data(stream, data[::-1], end_stream=True)

    pair.answering = refuse
    questions = asked(pair, 5)
    pair.settle()
    assert pair.answers == {s: q[::-1] for s, q in questions.items()}
    assert pair.plain()


@pytest.mark.parametrize("sent", [False, True])
def test_questions_that_are_given_up(certificates, sent):
    pair = Pair(certificates)
    pair.answering = silence
    questions = asked(pair, 10)
    if sent:
        pair.step()
    for stream in questions:
        pair.client.give_up(stream, 3)
    pair.settle()
    resets = {event.stream_id for event in pair.at_server if isinstance(event, StreamReset)}
    assert resets == (set() if sent else set(questions))  # aioquic says no more of what has come whole
    assert {event.stream_id for event in pair.at_server if isinstance(event, StopSendingReceived)} == set(questions)
    for stream in questions:
        pair.server.reset_stream(stream, 3)
    pair.settle()
    assert pair.plain() and not pair.client._events


def test_what_is_given_up_after_its_end_is_nothing(certificates):
    pair = Pair(certificates)
    [stream] = asked(pair, 1)
    pair.settle()
    pair.client.give_up(stream, 3)
    assert pair.plain()


def test_the_servers_window(certificates):
    pair = Pair(certificates, max_data=3000)
    questions = asked(pair, 100, size=200)
    pair.step()
    assert 0 < len(pair.questions) < 20
    pair.settle()
    assert pair.questions == questions
    assert pair.client._remote_max_data_used == sum(map(len, questions.values()))


def test_what_does_not_fit_into_one_frame_goes_another_way(certificates):
    pair = Pair(certificates, max_stream_data=900)
    questions = asked(pair, 4, size=100) | asked(pair, 4, size=950) | asked(pair, 4, size=5000)
    pair.settle()
    assert pair.questions == questions
    assert pair.answers == {s: q[::-1] for s, q in questions.items()}
    assert pair.plain()


def test_new_keys_and_connection_ids(certificates):
    pair = Pair(certificates)
    for turn in range(6):
        if turn % 2:
            pair.server.request_key_update()
        pair.server.change_connection_id()
        questions = asked(pair, 30)
        pair.settle()
        assert all(pair.answers[stream] == question[::-1] for stream, question in questions.items())
    assert pair.client.end is None


def says(pair, kind, octets):
    """Has the server send such a frame with its next packet."""

    def written(builder, *_, **__):
        builder.start_frame(kind, capacity=len(octets) + 1).push_bytes(octets)

    pair.server._write_ping_frame = written
    pair.server.send_ping(0)


def test_a_question_that_was_lost_comes_again_though_the_server_names_its_stream(certificates):
    pair = Pair(certificates)
    [first] = asked(pair, 1)
    pair.client.datagrams_to_send(pair.now)  # and lost
    [second] = asked(pair, 1)
    says(pair, QuicFrameType.MAX_STREAM_DATA, bytes([first]) + b"\x80\x10\0\0")
    pair.settle()
    assert set(pair.answers) == {first, second} and pair.plain()


def test_a_stream_whose_question_was_lost_is_reset_if_the_server_wants_no_more_of_it(certificates):
    pair = Pair(certificates)
    [first] = asked(pair, 1)
    pair.client.datagrams_to_send(pair.now)  # and lost
    [second] = asked(pair, 1)
    says(pair, QuicFrameType.STOP_SENDING, bytes([first]) + b"\x03")
    pair.settle()
    assert [(event.stream_id, event.error_code) for event in pair.at_server if isinstance(event, StreamReset)] == [(first, 3)]
    assert set(pair.answers) == {second}
    pair.server.reset_stream(first, 4)
    pair.settle()
    assert pair.refused == {first: 4} and pair.plain()


def lost_and_found_out(pair):
    """What the client has to say now is lost, as an acknowledgement of later packets shows."""
    assert pair.client.datagrams_to_send(pair.now)
    pair.answering = silence
    for _ in range(4):
        pair.now += 0.001
        asked(pair, 1)
        for data, _ in pair.client.datagrams_to_send(pair.now):
            pair.server.receive_datagram(data, HERE, pair.now)
    assert pair.client.may_wait(pair.now)
    pair.now += 0.03
    for data, _ in pair.server.datagrams_to_send(pair.now):
        pair.client.receive_datagram(data, THERE, pair.now)


def test_a_window_that_was_lost_does_not_wait(certificates):
    pair = Pair(certificates)
    limit = pair.client._local_max_data
    limit.used = limit.value - 1000
    pair.client._stirred = True
    lost_and_found_out(pair)
    assert not pair.client.may_wait(pair.now)
    pair.client.datagrams_to_send(pair.now)
    assert limit.sent == limit.value


def test_a_ping_that_was_lost_does_not_wait(certificates):
    pair = Pair(certificates)
    pair.client.send_ping(7)
    lost_and_found_out(pair)
    assert pair.client._ping_pending == [7] and not pair.client.may_wait(pair.now)


def test_nothing_is_stirred_by_an_acknowledgement_that_tells_of_no_loss(certificates):
    pair = Pair(certificates)
    pair.answering = silence
    for _ in range(8):
        asked(pair, 1)
        pair.step()
        pair.now += 0.03
        pair.step()
        assert not pair.client._stirred


@pytest.mark.parametrize(
    ("kind", "octets", "code"),
    [
        (QuicFrameType.STREAM_BASE | 3, b"\0\x7f\xff", QuicErrorCode.FRAME_ENCODING_ERROR),
        (QuicFrameType.STREAM_BASE | 3, b"\x44\x00\1x", QuicErrorCode.STREAM_STATE_ERROR),
        (QuicFrameType.STREAM_BASE | 7, b"\0\xc0\0\0\0\1\0\0\0\1x", QuicErrorCode.FLOW_CONTROL_ERROR),
        (QuicFrameType.ACK, b"\x05\0\0\x09", QuicErrorCode.FRAME_ENCODING_ERROR),
        (0x3F, b"", QuicErrorCode.FRAME_ENCODING_ERROR),
    ],
)
def test_frames_that_no_server_may_send(certificates, kind, octets, code):
    pair = Pair(certificates)
    pair.answering = silence
    asked(pair, 1)
    pair.step()
    says(pair, kind, octets)
    pair.step()
    assert isinstance(pair.client.end, ConnectionTerminated)
    assert pair.client.end.error_code == code


def test_an_acknowledgement_waits_for_company(certificates):
    pair = Pair(certificates)
    pair.settle()
    assert pair.client.may_wait(pair.now)
    [stream] = asked(pair, 1)
    assert not pair.client.may_wait(pair.now)
    pair.step()
    assert pair.answers[stream] and pair.client.may_wait(pair.now)
    assert pair.now + 0.015 < pair.client.get_timer() < pair.now + 0.021
    assert not pair.client.may_wait(pair.client.get_timer())
    pair.client.give_up(asked(pair, 1).popitem()[0], 3)
    assert not pair.client.may_wait(pair.now)


def test_every_second_packet_is_acknowledged_at_once(certificates):
    pair = Pair(certificates)
    pair.answering = lambda stream, data: pair.server.send_stream_data(stream, data * 200, end_stream=True)
    asked(pair, 1)
    pair.step()
    assert pair.client._unacknowledged >= 2
    assert not pair.client.may_wait(pair.now)


def test_what_aioquic_has_to_say_does_not_wait(certificates):
    pair = Pair(certificates)
    pair.settle()
    for stir in (
        lambda: pair.client.send_ping(1),
        lambda: pair.client.send_stream_data(2, b"x"),
        lambda: pair.client.handle_timer(pair.now),
        pair.client.close,
    ):
        assert pair.client.may_wait(pair.now)
        stir()
        assert not pair.client.may_wait(pair.now)
        pair.client.datagrams_to_send(pair.now)
