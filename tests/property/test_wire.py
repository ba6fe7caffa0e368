"""Messages made at random, read and written by us and by dnspython."""

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from captured import ANSWERS, QUERIES
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dohproxy.errors import MalformedMessage
from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire.framing import Unframer, frame
from dohproxy.wire.message import parse_message_untrusted
from dohproxy.wire.peek import key_of, peek_untrusted
from dohproxy.wire.query import build_query
from dohproxy.wire.rdata import canonical_rdata
from dohproxy.wire.reply import compile_reply, render, shape
from dohproxy.wire.request import BadRequest, NotARequest, error_reply, parse_request_untrusted

moderate = settings(max_examples=80, deadline=None, derandomize=True)

LABELS = st.sampled_from(
    [b"www", b"WWW", b"mail", b"example", b"Example", b"com", b"a", b"x" * 63, b"*", b"_443", b"\0", b"\xff."]
)
NAMES = st.lists(LABELS, max_size=4).map(lambda labels: dns.name.Name([*labels, b""]))
TTLS = st.sampled_from([0, 1, 60, 300, 86400, 0x7FFFFFFF])
U8, U16, U32 = st.integers(0, 255), st.integers(0, 65535), st.integers(0, 2**32 - 1)
TEXT = st.binary(max_size=40)

RDATAS = {
    c.A: st.tuples(st.binary(min_size=4, max_size=4)),
    c.AAAA: st.tuples(st.binary(min_size=16, max_size=16)),
    c.NS: st.tuples(NAMES),
    c.CNAME: st.tuples(NAMES),
    c.PTR: st.tuples(NAMES),
    c.DNAME: st.tuples(NAMES),
    c.SOA: st.tuples(NAMES, NAMES, st.binary(min_size=20, max_size=20)),
    c.MX: st.tuples(st.binary(min_size=2, max_size=2), NAMES),
    c.SRV: st.tuples(st.binary(min_size=6, max_size=6), NAMES),
    c.RP: st.tuples(NAMES, NAMES),
    c.TXT: st.tuples(TEXT.map(lambda text: bytes([len(text)]) + text)),
    c.NAPTR: st.tuples(st.just(b"\0\1\0\2\1u\3E2U\0"), NAMES),
    c.NSEC: st.tuples(NAMES, st.just(b"\0\1\x40")),
    c.DS: st.tuples(st.just(b"\x30\x39\x0d\2"), st.binary(min_size=32, max_size=32)),
    65280: st.tuples(TEXT),
}


def joined(parts):
    return b"".join(part.to_wire() if isinstance(part, dns.name.Name) else part for part in parts)


@st.composite
def records(draw):
    rdtype = draw(st.sampled_from(sorted(RDATAS)))
    return draw(NAMES), rdtype, draw(TTLS), joined(draw(RDATAS[rdtype]))


@st.composite
def signatures(draw):
    covered = draw(st.sampled_from([c.A, c.NS, c.SOA, c.TXT]))
    rdata = covered.to_bytes(2) + bytes([13, 3]) + bytes(4) + draw(st.binary(min_size=10, max_size=10))
    return draw(NAMES), c.RRSIG, draw(TTLS), rdata + draw(NAMES).to_wire() + draw(TEXT)


SECTION = st.lists(st.one_of(records(), records(), signatures()), max_size=8)


def to_rdata(rdtype, wire):
    return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.RdataType.make(rdtype), wire, 0, len(wire))


def fill(section, made):
    for owner, rdtype, ttl, wire in made:
        section.append(dns.rrset.from_rdata(owner, ttl, to_rdata(rdtype, wire)))


@st.composite
def messages(draw):
    """A message of dnspython, whose writer compresses and never joins what we append."""
    message = dns.message.make_query(draw(NAMES), draw(st.sampled_from(["A", "SOA", "TYPE65280"])), id=draw(U16))
    message.flags = draw(U16) & ~0x000F & ~c.OPCODE_MASK | c.QR
    made = [draw(SECTION) for _ in range(3)]
    for section, added in zip((message.answer, message.authority, message.additional), made, strict=True):
        fill(section, added)
    if draw(st.booleans()):
        message.use_edns(0, draw(st.sampled_from([0, dns.flags.DO])), draw(U16))
    message.set_rcode(draw(st.sampled_from([0, 3, 23] if message.edns == 0 else [0, 3])))
    return message, made


def written(message):
    return message.to_wire(max_size=65535)


def grouped(section):
    """What RFC 2181 5.2 and RFC 4035 2.2 make of these records, said once more and slowly."""
    found = {}
    for owner, rdtype, ttl, wire in section:
        key = (owner.to_wire().lower(), rdtype, wire[:2] if rdtype == c.RRSIG else b"")
        found.setdefault(key, []).append((ttl, wire))
    return found


def regrouped(rrsets):
    found = {}
    for rrset in rrsets:
        if rrset.rdtype != c.RRSIG:
            found[rrset.owner, rrset.rdtype, b""] = set(rrset.rdatas)
        for rdata in rrset.signatures or (rrset.rdatas if rrset.rdtype == c.RRSIG else ()):
            found.setdefault((rrset.owner, c.RRSIG, rdata[:2]), set()).add(rdata)
    return found


def compare(ours, theirs, made):
    """What we read with what dnspython has, whose records are also in `made`, by section."""
    assert (ours.id, ours.rcode) == (theirs.id, theirs.rcode())
    assert ours.flags & 0xFFF0 == theirs.flags & 0xFFF0
    assert ours.question == Question(theirs.question[0].name.to_wire().lower(), theirs.question[0].rdtype)
    assert (ours.edns is not None) == (theirs.edns == 0)
    if ours.edns is not None:
        assert (ours.edns.payload_size, ours.edns.do) == (theirs.payload, bool(theirs.ednsflags & dns.flags.DO))
    for rrsets, section in zip((ours.answer, ours.authority, ours.additional), made, strict=True):
        expected = grouped(section)
        # dnspython compresses names without regard to case, so theirs is the case that counts.
        read = {key: {canonical(key[1], rdata) for rdata in rdatas} for key, rdatas in regrouped(rrsets).items()}
        assert read == {key: {canonical(key[1], rdata) for _, rdata in rdatas} for key, rdatas in expected.items()}
        for rrset in rrsets:
            if rrset.rdtype != c.RRSIG:
                ttls = [ttl for ttl, _ in expected[rrset.owner, rrset.rdtype, b""]]
                ttls += [t for t, _ in expected.get((rrset.owner, c.RRSIG, rrset.rdtype.to_bytes(2)), [])]
                assert rrset.ttl == min(ttls)


@moderate
@given(messages())
def test_we_read_what_dnspython_writes(pair):
    theirs, made = pair
    compare(parse_message_untrusted(written(theirs)), theirs, made)


def as_made(section):
    return [(rrset.name, rrset.rdtype, rrset.ttl, rrset[0].to_wire()) for rrset in section]


@pytest.mark.parametrize("server", ANSWERS)
def test_we_read_what_servers_write_as_dnspython_does(server):
    for wire in ANSWERS[server]:
        theirs = dns.message.from_wire(wire, one_rr_per_rrset=True)
        made = [as_made(section) for section in (theirs.answer, theirs.authority, theirs.additional)]
        compare(parse_message_untrusted(wire), theirs, made)
    assert len(ANSWERS[server]) > 100


@pytest.mark.parametrize("client", QUERIES)
def test_we_read_what_clients_write_as_dnspython_does(client):
    for wire in QUERIES[client]:
        ours, theirs = parse_request_untrusted(wire), dns.message.from_wire(wire)
        assert (ours.id, ours.flags & 0xFFF0) == (theirs.id, theirs.flags & 0xFFF0)
        assert ours.question == Question(theirs.question[0].name.to_wire().lower(), theirs.question[0].rdtype)
        assert (ours.edns is not None) == (theirs.edns == 0)
        if ours.edns is not None:
            assert (ours.edns.payload_size, ours.edns.do) == (theirs.payload, bool(theirs.ednsflags & dns.flags.DO))
            assert [option for option, _ in ours.edns.options] == [option.otype for option in theirs.options]
        check_glance(wire)
    assert len(QUERIES[client]) > 10


@pytest.mark.parametrize("server", ANSWERS)
@moderate
@given(st.data())
def test_any_damaged_answer_of_a_server_is_read_or_malformed(server, data):
    wire = bytearray(data.draw(st.sampled_from(ANSWERS[server])))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(U8)
    only_malformed(bytes(wire[: data.draw(st.integers(0, len(wire)))]))


def canonical(rdtype, rdata):
    return rdata.lower() if rdtype == c.NSEC else canonical_rdata(rdtype, rdata)


@moderate
@given(records())
def test_our_canonical_form_is_that_of_dnspython(record):
    _, rdtype, _, wire = record
    assume(rdtype not in (c.RP, c.NSEC))  # dnspython lowers no RP (RFC 4034 6.2 does), and all NSEC (RFC 6840 5.1 does not)
    assert canonical_rdata(rdtype, wire) == to_rdata(rdtype, wire).to_digestable()


@st.composite
def answers(draw):
    made = [draw(SECTION) for _ in range(2)]
    sections = []
    for section in made:
        rrsets = [
            RRset(owner, rdtype, ttl, (wire,), (), 1)
            for (owner, rdtype, ttl, wire) in ((o.to_wire().lower(), t, ttl, w) for o, t, ttl, w in section)
            if rdtype != c.RRSIG
        ]
        unique = {(rrset.owner, rrset.rdtype): rrset for rrset in rrsets}
        sections.append(tuple(unique.values()))
    return Answer(draw(st.sampled_from([0, 3])), *sections, draw(st.sampled_from(Security)))


@st.composite
def queries(draw):
    query = dns.message.make_query(draw(NAMES), draw(st.sampled_from(["A", "MX", "NSEC", "ANY"])), id=draw(U16))
    query.flags = draw(st.sampled_from([0, c.RD, c.RD | c.AD, c.CD, c.RD | c.CD | c.AD]))
    if draw(st.booleans()):
        options = [dns.edns.GenericOption(draw(st.sampled_from([10, 12, 65001])), draw(TEXT))] if draw(st.booleans()) else []
        query.use_edns(0, draw(st.sampled_from([0, dns.flags.DO])), draw(U16), options=options)
    return query.to_wire()


@moderate
@given(answers(), queries())
def test_dnspython_reads_what_we_write(answer, wire):
    asked = parse_request_untrusted(wire)
    reply = render(compile_reply(answer, asked), asked.id, asked.qname, 0.0, 65535)
    theirs, ours = dns.message.from_wire(reply), parse_message_untrusted(reply)
    assert theirs.id == asked.id
    assert theirs.question[0].name.to_wire() == asked.qname
    assert {(r.owner, r.rdtype, r.ttl): [canonical(r.rdtype, d) for d in r.rdatas] for r in ours.answer} == {
        (r.owner, r.rdtype, r.ttl): [canonical(r.rdtype, d) for d in r.rdatas] for r in answer.answer
    }
    assert sum(map(len, theirs.answer)) == sum(len(r.rdatas) for r in answer.answer)
    for rrset in theirs.answer:
        kept = next(r for r in answer.answer if (r.owner, r.rdtype) == (rrset.name.to_wire().lower(), rrset.rdtype))
        assert rrset[0].to_wire().lower() == to_rdata(rrset.rdtype, kept.rdatas[0]).to_wire().lower()


@moderate
@given(answers(), queries(), st.integers(0, 700))
def test_no_reply_is_longer_than_its_limit_and_a_short_one_says_so(answer, wire, room):
    asked = parse_request_untrusted(wire)
    whole = compile_reply(answer, asked)
    reply = render(whole, asked.id, asked.qname, 0.0, 300 + room)
    assert len(reply) <= 300 + room
    message = dns.message.from_wire(reply)
    assert bool(message.flags & dns.flags.TC) == (len(whole.wire) > 300 + room)


def check_glance(wire):
    request = parse_request_untrusted(wire)
    key = key_of(request.question, shape(request))
    peeked = peek_untrusted(wire)
    if key is not None:
        assert peeked is not None
        assert peeked == (key, 12 + len(request.qname), request.payload_limit)


@moderate
@given(queries())
def test_a_glance_at_a_query_finds_the_key_that_a_close_look_finds(wire):
    check_glance(wire)


@moderate
@given(queries(), st.data())
def test_a_glance_at_a_broken_query_finds_no_other_querys_key(wire, data):
    at = data.draw(st.integers(0, len(wire) - 1))
    broken = wire[:at] + bytes([data.draw(U8)]) + wire[at + 1 :]
    peeked = peek_untrusted(broken)
    if peeked is None:
        return
    try:
        request = parse_request_untrusted(broken)
    except MalformedMessage:
        return  # its key is none that key_of makes, or the name in it would be well-formed
    assert peeked[0] == key_of(request.question, shape(request)) or key_of(request.question, shape(request)) is None


@moderate
@given(NAMES, U16, st.booleans())
def test_dnspython_reads_our_queries(name, id_, cd):
    wire = build_query(Question(name.to_wire(), c.A), id_, cd=cd)
    message = dns.message.from_wire(wire)
    assert (message.id, message.question[0].name, bool(message.flags & dns.flags.CD)) == (id_, name, cd)
    assert len(wire) % 128 == 0


@moderate
@given(st.lists(st.binary(min_size=1, max_size=400)), st.data())
def test_a_stream_may_be_cut_anywhere(sent, data):
    stream, unframer, received = b"".join(map(frame, sent)), Unframer(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += unframer.receive_untrusted(stream[:cut])
        stream = stream[cut:]
    assert received == sent


def only_malformed(wire):
    for parse in (parse_message_untrusted, parse_request_untrusted):
        try:
            parse(wire)
        except BadRequest as bad:
            if bad.flags & c.OPCODE_MASK != c.UPDATE << c.OPCODE_SHIFT:  # whose question dnspython reads as a zone
                dns.message.from_wire(error_reply(bad))
        except MalformedMessage:
            pass
    peek_untrusted(wire + bytes(max(0, 17 - len(wire))))


@moderate
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_malformed(wire):
    only_malformed(wire)


@moderate
@given(messages(), st.data())
def test_any_damaged_message_is_read_or_malformed(pair, data):
    wire = bytearray(written(pair[0]))
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(U8)
    cut = data.draw(st.integers(0, len(wire)))
    for damaged in (bytes(wire), bytes(wire[:cut]), bytes(wire) + b"\0"):
        only_malformed(damaged)
        if len(damaged) > 2:
            only_malformed(damaged[:2] + bytes([damaged[2] & 0x07]) + damaged[3:])


@moderate
@given(messages())
def test_no_proper_part_of_a_message_is_a_message(pair):
    wire = written(pair[0])
    for end in range(0, len(wire), max(1, len(wire) // 20)):
        with pytest.raises(MalformedMessage):
            parse_message_untrusted(wire[:end])
    with pytest.raises(MalformedMessage):
        parse_message_untrusted(wire + b"\0")


@moderate
@given(st.binary(min_size=12, max_size=40))
def test_responses_are_never_answered(wire):
    with pytest.raises(NotARequest):
        parse_request_untrusted(wire[:2] + bytes([wire[2] | 0x80]) + wire[3:])
