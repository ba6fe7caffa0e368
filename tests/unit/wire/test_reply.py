import struct

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest
from msgspec.structs import replace

from dohproxy.model import Answer, Ede, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire.message import parse_message_untrusted
from dohproxy.wire.names import from_text
from dohproxy.wire.reply import compile_reply, error_reply_for, render, shape
from dohproxy.wire.request import parse_request_untrusted
from dohproxy.wire.text import rdata_from_text

NAME, ZONE = from_text("www.example.com"), from_text("example.com")
SIGNATURE = struct.pack("!HBBIIIH", c.A, 13, 3, 300, 2_000_000_000, 1_700_000_000, 1) + ZONE + b"s" * 64
A = RRset(NAME, c.A, 300, (b"\xc0\0\2\1",), (SIGNATURE,))
SOA = RRset(
    ZONE, c.SOA, 900, (rdata_from_text(c.SOA, "ns.example.com. admin.example.com. 1 2 3 4 60"),), (b"\0\6" + SIGNATURE[2:],)
)
NSEC = RRset(NAME, c.NSEC, 600, (ZONE + b"\0\1\x40",), (b"\0\x2f" + SIGNATURE[2:],))
NS = RRset(ZONE, c.NS, 900, (from_text("ns.example.com"),))


def request(name="wWw.eXample.com", qtype="A", *, do=False, edns=None, flags=dns.flags.RD, payload=1232):
    query = dns.message.make_query(name, qtype, flags=flags, id=99)
    if do or edns is not None:
        query.use_edns(0, dns.flags.DO if do else 0, payload)
    return parse_request_untrusted(query.to_wire())


def rendered(answer, asked, *, now=0.0, limit=65535):
    return render(compile_reply(answer, asked), asked.id, asked.qname, now, limit)


def read(answer, asked, **options):
    return dns.message.from_wire(rendered(answer, asked, **options))


def types(section):
    return [(dns.rdatatype.to_text(rrset.rdtype), len(rrset)) for rrset in section]


SECURE = Answer(c.NOERROR, (A,), (NS,), Security.SECURE)


def test_a_plain_reply():
    reply = read(SECURE, request())
    assert reply.id == 99
    assert reply.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
    assert str(reply.question[0].name) == str(reply.answer[0].name) == "wWw.eXample.com."
    assert types(reply.answer) == [("A", 1)]
    assert reply.authority == reply.additional == []
    assert reply.edns == -1


def test_dnssec_records_and_ad_go_to_those_who_ask():
    reply = read(replace(SECURE, authority=(NS, NSEC)), request(do=True))
    assert reply.flags & dns.flags.AD
    assert reply.ednsflags & dns.flags.DO
    assert types(reply.answer) == [("A", 1), ("RRSIG", 1)]
    assert types(reply.authority) == [("NSEC", 1), ("RRSIG", 1)]


@pytest.mark.parametrize(
    ("flags", "security", "expected"),
    [
        (dns.flags.AD, Security.SECURE, True),
        (0, Security.SECURE, False),
        (dns.flags.AD | dns.flags.CD, Security.SECURE, False),
        (dns.flags.AD, Security.INSECURE, False),
        (dns.flags.AD, Security.UNCHECKED, False),
        (dns.flags.AD, Security.BOGUS, False),
    ],
)
def test_when_ad_is_set(flags, security, expected):
    reply = read(replace(SECURE, security=security), request(flags=flags))
    assert bool(reply.flags & dns.flags.AD) is expected
    assert reply.flags & dns.flags.CD == flags & dns.flags.CD
    assert not reply.flags & dns.flags.RD


def test_a_negative_reply_has_the_soa_with_the_time_for_which_it_holds():
    plain = read(Answer(c.NXDOMAIN, (), (SOA, NSEC)), request())
    assert plain.rcode() == dns.rcode.NXDOMAIN
    assert types(plain.authority) == [("SOA", 1)]
    assert plain.authority[0].ttl == 60
    signed = read(Answer(c.NOERROR, (), (SOA, NSEC)), request(do=True))
    assert types(signed.authority) == [("SOA", 1), ("RRSIG", 1), ("NSEC", 1), ("RRSIG", 1)]


def test_nodata_behind_an_alias_is_negative():
    alias = RRset(NAME, c.CNAME, 30, (ZONE,))
    reply = read(Answer(c.NOERROR, (alias,), (SOA,)), request())
    assert types(reply.answer) == [("CNAME", 1)]
    assert types(reply.authority) == [("SOA", 1)]


def test_records_asked_for_by_type_are_not_stripped():
    lone = RRset(NAME, c.RRSIG, 300, (SIGNATURE,))
    assert types(read(Answer(0, (lone,)), request(qtype="RRSIG")).answer) == [("RRSIG", 1)]
    assert types(read(Answer(0, (A, lone)), request(qtype="A")).answer) == [("A", 1)]
    assert types(read(Answer(0, (NSEC,)), request(qtype="NSEC")).answer) == [("NSEC", 1)]
    assert types(read(Answer(0, (A,)), request(qtype="ANY")).answer) == [("A", 1), ("RRSIG", 1)]


def test_names_are_compressed_where_rfc_3597_allows():
    mx = RRset(ZONE, c.MX, 60, (rdata_from_text(c.MX, "10 mail.example.com"), rdata_from_text(c.MX, "20 mail.example.com")))
    srv = RRset(ZONE, c.SRV, 60, (rdata_from_text(c.SRV, "1 2 3 mail.example.com"),))
    asked = request("example.com", "ANY")
    wire = rendered(Answer(0, (mx, srv)), asked)
    assert parse_message_untrusted(wire).answer == (mx, srv)
    assert wire.count(b"\4mail\xc0\x0c") == 1
    assert wire.count(b"\4mail\7example\3com\0") == 1


def test_the_root_is_never_a_pointer():
    ns = RRset(b"\0", c.NS, 60, (from_text("a.root-servers.net"), b"\0"))
    asked = request(".", "NS")
    wire = rendered(Answer(0, (ns,)), asked)
    assert parse_message_untrusted(wire).answer == (ns,)
    assert b"\xc0\x0c" not in wire


def test_time_passes():
    answer = Answer(0, (RRset(NAME, c.CNAME, 5, (ZONE,)), RRset(ZONE, c.A, 300, (b"abcd",))), born=1000.0)
    asked = request()
    reply = compile_reply(answer, asked)
    assert (reply.born, reply.expires) == (1000.0, 1005.0)
    for now, ttls in ((1000.9, [5, 300]), (1003.5, [2, 297]), (1010.0, [0, 290]), (999.0, [5, 300])):
        message = dns.message.from_wire(render(reply, 1, asked.qname, now, 512))
        assert [rrset.ttl for rrset in message.answer] == ttls


def test_stale_records_say_30_seconds_and_are_not_kept():
    answer = Answer(0, (A,), born=0.0, stale=True, ede=(Ede(c.EDE_STALE_ANSWER),))
    asked = request(edns=0)
    reply = compile_reply(answer, asked)
    assert reply.expires == reply.born
    message = dns.message.from_wire(render(reply, 1, asked.qname, 86400.0, 512))
    assert message.answer[0].ttl == 30
    assert message.extended_errors()[0].code == 3


def test_extended_errors_go_only_to_edns_clients_and_their_texts_are_bounded():
    answer = Answer(c.SERVFAIL, ede=(Ede(7, "é" * 150), Ede(6, "short")))
    assert read(answer, request()).edns == -1
    errors = read(answer, request(edns=0)).extended_errors()
    assert [(e.code, e.text) for e in errors] == [(7, "é" * 100), (6, "short")]


def test_a_reply_too_long_loses_texts_then_extended_errors_then_records():
    many = RRset(NAME, c.A, 300, tuple(bytes([10, 0, 0, n]) for n in range(25)))
    answer = Answer(0, (many,), security=Security.SECURE, ede=(Ede(7, "x" * 150), Ede(6)))
    asked = request(do=True)
    whole = len(rendered(answer, asked))
    assert [e.text for e in read(answer, asked, limit=whole).extended_errors()] == ["x" * 150, None]
    textless = read(answer, asked, limit=whole - 1)
    assert [(e.code, e.text) for e in textless.extended_errors()] == [(7, None), (6, None)]
    bare = read(answer, asked, limit=whole - 151)
    assert bare.extended_errors() == []
    assert types(bare.answer) == [("A", 25)]
    short = read(answer, asked, limit=whole - 163)
    assert short.flags & dns.flags.TC
    assert not short.flags & dns.flags.AD
    assert short.answer == []
    assert short.edns == 0
    assert str(short.question[0].name) == "wWw.eXample.com."


def test_truncation_without_edns():
    many = RRset(NAME, c.A, 300, tuple(bytes([10, 0, 0, n]) for n in range(50)))
    short = read(Answer(0, (many,)), request(), limit=512)
    assert short.flags & dns.flags.TC
    assert short.answer == []
    assert short.edns == -1


def test_a_long_reply_points_no_further_than_a_pointer_can():
    names = [from_text(f"host{n}.example.org") for n in range(1500)]
    rrsets = tuple(RRset(name, c.CNAME, 60, (name,)) for name in names)
    wire = rendered(Answer(0, rrsets), request())
    assert len(wire) > 0x4000
    assert parse_message_untrusted(wire).answer == rrsets


def test_an_error_reply():
    reply = dns.message.from_wire(error_reply_for(request(edns=0), c.REFUSED, (Ede(18, "no"),)))
    assert reply.rcode() == dns.rcode.REFUSED
    assert reply.extended_errors()[0].code == 18
    assert str(reply.question[0].name) == "wWw.eXample.com."


def test_an_extended_rcode_needs_edns():
    assert dns.message.from_wire(error_reply_for(request(edns=0), c.BADCOOKIE)).rcode() == c.BADCOOKIE
    assert dns.message.from_wire(error_reply_for(request(), c.BADCOOKIE)).rcode() == c.SERVFAIL


def test_requests_of_one_shape_get_one_reply_and_all_others_differ():
    answer = replace(SECURE, ede=(Ede(0, "x"),))
    replies = {}
    for flags in (0, dns.flags.RD, dns.flags.CD, dns.flags.AD, dns.flags.RD | dns.flags.CD | dns.flags.AD):
        for edns, do in ((None, False), (0, False), (0, True)):
            for payload in (512, 1232):
                asked = request(flags=flags, edns=edns, do=do, payload=payload)
                replies.setdefault(shape(asked), set()).add(compile_reply(answer, asked).wire)
    assert len(replies) == 14  # with DO, the AD bit of a query adds nothing
    assert all(len(same) == 1 for same in replies.values())
    assert len({next(iter(same)) for same in replies.values()}) == 14
