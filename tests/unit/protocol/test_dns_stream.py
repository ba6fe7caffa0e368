from __future__ import annotations

from collections.abc import Iterator

import pytest

from dohproxy.errors import MalformedMessage
from dohproxy.model import Question
from dohproxy.protocol.dns_stream import DnsStream
from dohproxy.protocol.session import Received, answers, question_octets
from dohproxy.wire import names
from dohproxy.wire.framing import frame

QUESTION = Question(names.from_text("www.example."), 1)
OTHER = Question(names.from_text("mail.example."), 1)


def stream(*ids: int, pipeline: int = 3) -> DnsStream:
    source: Iterator[int] = iter(ids)
    return DnsStream(lambda: next(source), pipeline=pipeline)


def reply(id: int, question: Question = QUESTION) -> bytes:
    return id.to_bytes(2) + b"\x81\x80\0\1\0\0\0\0\0\0" + question_octets(question)


def test_each_question_is_a_piece_of_its_own_and_sent_once() -> None:
    session = stream(7, 8)
    assert [session.begin(QUESTION), session.begin(OTHER)] == [7, 8]
    pieces = session.take()
    assert [piece[2:4] for piece in pieces] == [b"\0\7", b"\0\10"]
    assert [len(piece) for piece in pieces] == [130, 130]
    assert session.take() == []


def test_an_id_under_way_is_not_given_again() -> None:
    session = stream(7, 7, 7, 9)
    assert [session.begin(QUESTION), session.begin(QUESTION)] == [7, 9]


def test_answers_in_any_order_and_in_pieces() -> None:
    session = stream(1, 2)
    session.begin(QUESTION)
    session.begin(OTHER)
    octets = frame(reply(2, OTHER)) + frame(reply(1))
    assert session.receive_untrusted(octets[:10]) == []
    assert session.receive_untrusted(octets[10:]) == [Received(2, reply(2, OTHER)), Received(1, reply(1))]


def test_capacity_is_what_the_pipeline_leaves() -> None:
    session = stream(1, 2, 3)
    for left in (2, 1, 0):
        session.begin(QUESTION)
        assert session.capacity == left
    session.receive_untrusted(frame(reply(2)))
    assert session.capacity == 1


def test_a_late_answer_to_a_forgotten_question_is_dropped_and_its_id_stays_taken_until_then() -> None:
    session = stream(1, 1, 2, 1)
    session.begin(QUESTION)
    session.forget(1)
    assert session.begin(QUESTION) == 2
    assert session.receive_untrusted(frame(reply(1))) == []
    assert session.begin(QUESTION) == 1


def test_too_many_forgotten_end_the_session() -> None:
    session = stream(1, 2, 3, pipeline=2)
    for id in (1, 2):
        session.begin(QUESTION)
        assert not session.closing
        session.forget(id)
    assert session.closing
    assert session.capacity == 0


@pytest.mark.parametrize("message", [reply(2), reply(1, OTHER), b"\0\1", reply(1)[:-1]])
def test_what_was_not_asked_is_malformed(message: bytes) -> None:
    session = stream(1)
    session.begin(QUESTION)
    with pytest.raises(MalformedMessage):
        session.receive_untrusted(frame(message))


def test_an_answer_twice_is_malformed() -> None:
    session = stream(1)
    session.begin(QUESTION)
    with pytest.raises(MalformedMessage):
        session.receive_untrusted(2 * frame(reply(1)))


def test_a_late_answer_to_another_question_is_malformed() -> None:
    session = stream(1)
    session.begin(QUESTION)
    session.forget(1)
    with pytest.raises(MalformedMessage):
        session.receive_untrusted(frame(reply(1, OTHER)))


def test_the_type_is_compared_as_it_is_and_only_the_name_in_any_case() -> None:
    """Type 65 is `A` and type 97 is `a`: lower case would make them one."""
    https, other = Question(QUESTION.qname, 65), Question(QUESTION.qname, 97)
    assert not answers(reply(1, other), question_octets(https))
    assert not answers(reply(1, https), question_octets(other))
    assert answers(reply(1, Question(b"\3WWW\7eXample\0", 65)), question_octets(https))


@pytest.mark.parametrize("header", [b"\x01\x00\0\1", b"\x91\x80\0\1", b"\x81\x80\0\0", b"\x81\x80\0\2"])
def test_only_a_response_to_one_question_answers(header: bytes) -> None:
    octets = question_octets(QUESTION)
    assert answers(b"\0\0" + b"\x81\x80\0\1" + bytes(6) + octets, octets)
    assert not answers(b"\0\0" + header + bytes(6) + octets, octets)


@pytest.mark.parametrize(("always", "asked", "told"), [(True, False, 1), (True, True, 1), (False, True, 1), (False, False, 0)])
def test_checking_is_disabled_for_all_or_for_one(always: bool, asked: bool, told: int) -> None:
    session = DnsStream(lambda: 7, pipeline=1, checking_disabled=always)
    session.begin(QUESTION, asked)
    [piece] = session.take()
    assert piece[5] >> 4 & 1 == told
