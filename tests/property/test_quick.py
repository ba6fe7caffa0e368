"""The compiled readers and writers of ordinary messages against those in Python: the same, or no answer."""

import random

import pytest
from captured import ANSWERS, QUERIES
from msgspec.structs import replace

from dohproxy.core import finished
from dohproxy.errors import MalformedMessage
from dohproxy.model import Answer, Question, RRset, Security, Transport
from dohproxy.protocol import dns_stream
from dohproxy.protocol.session import question_octets
from dohproxy.upstream import answers
from dohproxy.wire import constants as c
from dohproxy.wire import message, reply, request
from dohproxy.wire.framing import frame
from dohproxy.wire.names import from_text
from dohproxy.wire.query import build_query

compiled = pytest.importorskip("dohproxy.wire._compiled")

CAPTURED_ANSWERS = [wire for wires in ANSWERS.values() for wire in wires]
NAMES = [from_text(text) for text in ("www.example.com", "example.com", "com", ".", "a.b.example.com", "x" * 63 + ".test")]
SIGNATURE = bytes((0, 1, 13, 2)) + bytes(14) + from_text("example.com") + b"signature"
RDATAS = {
    c.A: bytes((192, 0, 2, 1)),
    c.AAAA: bytes(16),
    c.NS: from_text("NS1.example.com"),
    c.CNAME: from_text("a.b.Example.com"),
    c.SOA: from_text("ns1.example.com") + from_text("host.example.com") + bytes(19) + b"\x07",
    c.MX: b"\0\x0a" + from_text("mail.example.com"),
    c.TXT: b"\3abc",
    c.SRV: bytes(6) + from_text("srv.example.com"),
    c.DS: b"\0\1\15\2" + bytes(32),
    c.NSEC: from_text("b.example.com") + b"\0\1\x40",
    c.NSEC3: b"\1\0\0\0\0\x14" + bytes(20) + b"\0\1\x40",
    c.MINFO: NAMES[0] + NAMES[1],
    c.NAPTR: bytes(7) + NAMES[0],
    c.DNAME: NAMES[4],
}


def rrset(chance, owner=None):
    rdtype = chance.choice(list(RDATAS))
    rdatas = [RDATAS[rdtype]]
    if rdtype in (c.A, c.TXT) and chance.random() < 0.3:
        rdatas.append(rdatas[0][:-1] + b"z")
    signatures = (rdtype.to_bytes(2) + SIGNATURE[2:],) if chance.random() < 0.4 else ()
    ttl = chance.choice((0, 1, 300, 86400, 0x7FFFFFFF))
    return RRset(owner or chance.choice(NAMES), rdtype, ttl, tuple(rdatas), signatures, chance.choice((1, 1, 1, 3)))


def answer(chance, question):
    own = [rrset(chance, question.qname if chance.random() < 0.7 else None) for _ in range(chance.randrange(4))]
    authority = tuple(rrset(chance) for _ in range(chance.randrange(4)))
    rcode, security = chance.choice((0, 0, 0, 3, 2)), chance.choice(list(Security))
    return Answer(rcode, tuple(own), authority, security, born=7.0, stale=chance.random() < 0.05)


def query(chance):
    question = Question(chance.choice(NAMES), chance.choice((1, 1, 28, 15, 46, 255, 6)), 1)
    wire = build_query(question, 7, cd=chance.random() < 0.3, do=chance.random() < 0.5, pad_to=chance.choice((0, 128)))
    return question, wire if chance.random() < 0.7 else wire[:10] + b"\0\0" + wire[12 : 12 + len(question.qname) + 4]


def mutated(wire, chance):
    out = bytearray(wire)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
        at = chance.randrange(len(out) + 1)
        kind = chance.randrange(4)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and at < len(out):
            out[at] = chance.choice((0, 1, 12, 41, 46, 63, 64, 191, 192, 255))
        elif kind == 2:
            del out[at : at + chance.choice((1, 2, 999))]
        else:
            out[at:at] = chance.choice(
                (b"\0", b"\xc0\x0c", b"\xc0\x20", b"\0\0\x29\4\xd0\0\0\0\0\0\0", bytes(out[at : at + 30]))
            )
    return bytes(out)


def told(read, *args):
    try:
        return read(*args)
    except MalformedMessage:
        return "malformed"


def in_python(wire):
    """What `answers.answer_from` makes of it without its quick way."""
    quick, answers.ordinary_answer_untrusted = answers.ordinary_answer_untrusted, lambda *_: None
    parse, answers.parse_message_untrusted = answers.parse_message_untrusted, message.parse_message_untrusted
    try:
        return answers.answer_from(wire, "one", Transport.DOT, 7.0)
    finally:
        answers.ordinary_answer_untrusted, answers.parse_message_untrusted = quick, parse


def packed_in_python(*given):
    """What `finished.pack` makes of it without its quick way."""
    quick, finished.packed_reply = finished.packed_reply, lambda *_: None
    try:
        return finished.pack(*given)
    finally:
        finished.packed_reply = quick


def finished_in_python(given, asked, now, limit, told_of):
    """What `finished.finish` makes of it without its quick way."""
    quick, finished.finished_reply = finished.finished_reply, lambda *_: None
    try:
        return finished.finish(given, asked, payload_size=1232, now=now, limit=limit, told=told_of)
    finally:
        finished.finished_reply = quick


def received(cut, questions, pieces):
    """What a stream that asked these makes of the pieces, with this quick way, and what it waits for then."""
    quick, dns_stream.cut_answers_untrusted = dns_stream.cut_answers_untrusted, cut
    ids = iter(range(len(questions)))
    try:
        stream = dns_stream.DnsStream(lambda: next(ids), pipeline=9)
        for question in questions:
            stream.begin(question)
        stream.forget(0)
        return [told(stream.receive_untrusted, piece) for piece in pieces], stream.capacity, stream.closing
    finally:
        dns_stream.cut_answers_untrusted = quick


def compare_streams(chance, wire):
    """The answers of a stream, most of them to what was asked, cut anywhere."""
    questions = [Question(name, chance.choice((1, 28)), 1) for name in NAMES[:4]]
    octets = b""
    for id in chance.sample(range(len(questions)), chance.randrange(1, 5)):
        question = question_octets(questions[id])
        answer = id.to_bytes(2) + b"\x81\x80\0\1" + bytes(6) + question + wire[: chance.randrange(40)]
        octets += frame(mutated(answer, chance) if chance.random() < 0.1 else answer)
    if chance.random() < 0.1:
        octets = mutated(octets, chance)
    at = sorted(chance.randrange(len(octets) + 1) for _ in range(chance.choice((0, 0, 1, 2))))
    pieces = [octets[start:end] for start, end in zip([0, *at], [*at, len(octets)], strict=True)]
    quickly = received(compiled.cut_answers, questions, pieces)
    slowly = received(lambda *_: ([], 0), questions, pieces)
    assert quickly[0] == slowly[0], (octets, at)
    if "malformed" not in slowly[0]:  # the stream is over then, whatever it waits for
        assert quickly == slowly, (octets, at)


def compare(seed, rounds):
    chance, seen = random.Random(seed), [0, 0, 0, 0, 0, 0]
    for _ in range(rounds):
        question, wire = query(chance)
        asked = request.parse_request_untrusted(wire)
        cd, pad_to = chance.random() < 0.5, chance.choice((0, 1, 128, 468))
        assert compiled.built_query(question, 77, cd, pad_to) == frame(build_query(question, 77, cd=cd, pad_to=pad_to))
        seen[0] += compare_query(mutated(wire, chance))
        given = answer(chance, question)
        written = reply.compile_reply(given, asked)
        if (quick := compiled.ordinary_reply(given, asked, 1232)) is not None:
            seen[1] += 1
            assert quick == written, (given, asked)
        now, limit = 7 + chance.choice((0, 0.5, 1, 400)), chance.choice((0, 200, 4096))
        if (quick := compiled.rendered(written, 7, asked.qname.upper(), now, limit)) is not None:
            seen[4] += 1
            assert quick == reply.render(written, 7, asked.qname.upper(), now, limit)
        security = chance.choice(list(Security))
        told_of = chance.random() < 0.5
        quick = compiled.packed_reply(written, now, finished._NUMBERS[security.value], told_of)
        assert quick == packed_in_python(written, now, security, told_of)
        given = replace(given, security=security)
        number = finished._NUMBERS[security.value]
        quick = compiled.finished_reply(given, asked, 1232, now, limit, 0.9, number, told_of)
        if quick is not None:
            seen[5] += 1
            assert quick == finished_in_python(given, asked, now, limit, told_of), (given, asked)
        compare_streams(chance, written.wire)
        wire = written.wire if chance.random() < 0.8 else chance.choice(CAPTURED_ANSWERS)
        for at, found in enumerate(compare_answer(mutated(wire, chance)), 2):
            seen[at] += found
    return seen


def compare_query(wire):
    """Whether it is ordinary."""
    if (quick := compiled.ordinary_request(wire)) is not None:
        assert quick == told(request.parse_request_untrusted, wire), wire
    return quick is not None


def compare_answer(wire):
    """Whether it is an ordinary message, and an ordinary answer."""
    if (read := compiled.ordinary_message(wire)) is not None:
        assert read == told(message.parse_message_untrusted, wire), wire
    if (taken := compiled.ordinary_answer(wire, "one", Transport.DOT, 7.0)) is not None:
        assert taken == in_python(wire), wire
    return read is not None, taken is not None


@pytest.mark.parametrize("seed", range(4))
def test_the_compiled_ones_agree_with_python(seed):
    rounds = 2500
    requests, replies, messages, plain, rendered, at_once = compare(seed, rounds)
    assert requests > rounds / 4
    assert replies > rounds / 2
    assert messages > rounds / 5
    assert plain > rounds / 20
    assert rendered > rounds / 10
    assert at_once > rounds / 20


def test_what_others_write_is_read_alike():
    queries = [compare_query(wire) for wires in QUERIES.values() for wire in wires]
    answers = [compare_answer(wire) for wire in CAPTURED_ANSWERS]
    assert sum(queries) > len(queries) / 2
    assert sum(read for read, _ in answers) > len(answers) / 2
    assert sum(taken for _, taken in answers) > 10


def test_a_chain_of_aliases_is_ordinary_in_its_order_only():
    links = [b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\6\3WWW\xc0\x10", b"\3www\xc0\x10\0\5\0\1\0\0\0\x3c\0\4\1z\xc0\x10"]
    address, head = b"\1z\xc0\x10\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\1", b"\0\x07\x81\x80\0\1\0\3\0\0\0\0\3one\3two\0\0\1\0\1"
    wire = head + b"".join(links) + address
    assert len(in_python(wire).answer) == 3
    assert compiled.ordinary_answer(wire, "one", Transport.DOT, 7.0) == in_python(wire)
    for astray in ([*links[::-1], address], [links[0], address, links[1]], [links[1], links[1], address]):
        wire = head + b"".join(astray)
        assert compiled.ordinary_answer(wire, "one", Transport.DOT, 7.0) is None
        in_python(wire)
