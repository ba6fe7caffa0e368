import struct

import dns.flags
import dns.message
import dns.opcode
import pytest

from dohproxy.model import Question
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text
from dohproxy.wire.request import BadRequest, NotARequest, error_reply, parse_request_untrusted

QNAME = b"\x03WwW\x07eXample\0"
OPT = b"\0" + struct.pack("!HHIH", c.OPT, 1232, c.DO, 0)


def query(*, flags=c.RD, qd=1, an=0, ns=0, ar=0, body=None, qtype=c.A):
    question = QNAME + struct.pack("!HH", qtype, c.IN)
    return struct.pack("!6H", 0xABCD, flags, qd, an, ns, ar) + (question if body is None else body)


def test_a_plain_query():
    request = parse_request_untrusted(query())
    assert (request.id, request.qname, request.question) == (0xABCD, QNAME, Question(QNAME.lower(), c.A))
    assert request.rd
    assert not (request.cd or request.ad or request.do or request.wants_ad)
    assert request.payload_limit == 512


def test_a_query_with_edns_and_all_flags():
    request = parse_request_untrusted(query(flags=c.RD | c.CD | c.AD, ar=1) + OPT)
    assert request.cd
    assert request.ad
    assert request.do
    assert request.wants_ad
    assert request.payload_limit == 1232


def test_do_alone_makes_ad_meaningful():
    assert parse_request_untrusted(query(ar=1) + OPT).wants_ad


def test_a_payload_size_under_512_counts_as_512():
    opt = b"\0" + struct.pack("!HHIH", c.OPT, 100, 0, 0)
    assert parse_request_untrusted(query(ar=1) + opt).payload_limit == 512


@pytest.mark.parametrize("wire", [b"", query()[:11], query(flags=c.QR | c.RD), query(flags=c.QR)[:12]])
def test_silence_for_what_is_no_request(wire):
    with pytest.raises(NotARequest):
        parse_request_untrusted(wire)


def refused(wire):
    with pytest.raises(BadRequest) as caught:
        parse_request_untrusted(wire)
    return caught.value


@pytest.mark.parametrize(
    "wire",
    [
        query(qd=0, body=b""),
        query(qd=2),
        query(an=1) + b"\xc0\x0c" + struct.pack("!HHIH", c.A, c.IN, 1, 4) + b"abcd",
        query(ns=1) + b"\xc0\x0c" + struct.pack("!HHIH", c.A, c.IN, 1, 4) + b"abcd",
        query() + b"\0",
        query(ar=1),
        query(body=QNAME),
        query(body=b"\xc0\x0c\0\1\0\1"),
        query(ar=2) + OPT + OPT,
        query(ar=1) + b"\xc0\x0c" + OPT[1:],
        query(ar=1) + OPT[:-1],
        query(ar=1) + OPT[:-2] + b"\0\3abc",
    ],
)
def test_formerr(wire):
    bad = refused(wire)
    assert bad.rcode == c.FORMERR
    reply = dns.message.from_wire(error_reply(bad))
    assert reply.rcode() == c.FORMERR
    assert reply.id == 0xABCD


def test_an_ixfr_may_bring_its_soa():
    wire = query(ns=1, qtype=c.IXFR) + b"\xc0\x0c" + struct.pack("!HHIH", c.SOA, c.IN, 1, 22) + bytes(22)
    assert parse_request_untrusted(wire).question.qtype == c.IXFR


def test_unknown_additional_records_do_no_harm():
    tsig = b"\3key\0" + struct.pack("!HHIH", c.TSIG, c.CLASS_ANY, 0, 5) + b"12345"
    assert parse_request_untrusted(query(ar=2) + OPT + tsig).do


def test_another_opcode_is_not_implemented_and_its_reply_says_which():
    wire = dns.message.make_query("example.", "A", use_edns=0)
    wire.set_opcode(dns.opcode.NOTIFY)
    bad = refused(wire.to_wire())
    reply = dns.message.from_wire(error_reply(bad))
    assert reply.rcode() == c.NOTIMP
    assert reply.opcode() == dns.opcode.NOTIFY
    assert reply.question == wire.question
    assert reply.edns == 0


def test_a_later_edns_version_is_told_ours():
    bad = refused(query(ar=1, flags=c.RD | c.CD) + b"\0" + struct.pack("!HHIH", c.OPT, 1232, 1 << 16, 0))
    reply = dns.message.from_wire(error_reply(bad))
    assert reply.rcode() == c.BADVERS
    assert reply.edns == 0
    assert reply.flags & dns.flags.CD
    assert reply.question[0].name.to_wire() == QNAME


def test_an_error_reply_repeats_only_what_could_be_read():
    reply = error_reply(refused(query(qd=2)))
    assert reply == struct.pack("!6H", 0xABCD, c.QR | c.RA | c.RD | c.FORMERR, 0, 0, 0, 0)
    with_opt = dns.message.from_wire(error_reply(refused(query(ar=2) + OPT + OPT)))
    assert with_opt.edns == 0
    assert with_opt.question[0].name.to_wire() == QNAME


def test_a_long_name():
    wire = dns.message.make_query("a." * 127, "A").to_wire()
    assert parse_request_untrusted(wire).question.qname == from_text("a." * 127)
