import struct

import pytest

from dohproxy.errors import MalformedMessage
from dohproxy.model import Question, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.message import Edns, parse_message_untrusted
from dohproxy.wire.names import from_text

NAME = from_text("www.example.com")
ZONE = from_text("example.com")


def header(*, qd=1, an=0, ns=0, ar=0, flags=c.QR | c.RA, id_=7):
    return struct.pack("!6H", id_, flags, qd, an, ns, ar)


QUESTION = b"\x03WWW\x07Example\x03com\0" + struct.pack("!HH", c.A, c.IN)


def record(owner, rdtype, rdata, *, ttl=300, rdclass=c.IN):
    return owner + struct.pack("!HHIH", rdtype, rdclass, ttl, len(rdata)) + rdata


def rrsig(covered, *, signer=ZONE, tail=b"signature"):
    return struct.pack("!HBBIIIH", covered, 13, 3, 300, 2_000_000_000, 1_700_000_000, 12345) + signer + tail


A1, A2 = b"\xc0\0\2\1", b"\xc0\0\2\2"


def test_an_answer_with_its_signature():
    wire = header(an=2, ar=1) + QUESTION + record(b"\xc0\x0c", c.A, A1) + record(b"\xc0\x0c", c.RRSIG, rrsig(c.A))
    wire += record(b"\0", c.OPT, b"", rdclass=1232, ttl=c.DO)
    message = parse_message_untrusted(wire)
    assert message.id == 7
    assert message.question == Question(NAME, c.A)
    assert message.answer == (RRset(NAME, c.A, 300, (A1,), (rrsig(c.A),)),)
    assert message.edns == Edns(1232, 0, True)


def test_one_rrset_from_scattered_records_takes_the_smallest_ttl_and_drops_duplicates():
    records = [
        record(b"\xc0\x0c", c.A, A1, ttl=50),
        record(b"\xc0\x0c", c.TXT, b"\1x"),
        record(b"\x03wWw\xc0\x10", c.A, A2, ttl=40),
        record(b"\xc0\x0c", c.A, A1, ttl=60),
    ]
    message = parse_message_untrusted(header(an=4) + QUESTION + b"".join(records))
    assert message.answer == (RRset(NAME, c.A, 40, (A1, A2)), RRset(NAME, c.TXT, 300, (b"\1x",)))


def test_a_signature_before_its_rrset_joins_it_and_lowers_its_ttl():
    records = record(b"\xc0\x0c", c.RRSIG, rrsig(c.A), ttl=20) + record(b"\xc0\x0c", c.A, A1)
    message = parse_message_untrusted(header(an=2) + QUESTION + records)
    assert message.answer == (RRset(NAME, c.A, 20, (A1,), (rrsig(c.A),)),)


def test_signatures_of_other_sections_classes_and_types_stay_alone():
    wire = header(an=3, ns=1) + QUESTION + record(b"\xc0\x0c", c.A, A1)
    wire += record(b"\xc0\x0c", c.RRSIG, rrsig(c.AAAA)) + record(b"\xc0\x0c", c.RRSIG, rrsig(c.A), rdclass=c.CH)
    wire += record(b"\xc0\x0c", c.RRSIG, rrsig(c.A))
    message = parse_message_untrusted(wire)
    assert message.answer == (
        RRset(NAME, c.A, 300, (A1,)),
        RRset(NAME, c.RRSIG, 300, (rrsig(c.AAAA),)),
        RRset(NAME, c.RRSIG, 300, (rrsig(c.A),), rdclass=c.CH),
    )
    assert message.authority == (RRset(NAME, c.RRSIG, 300, (rrsig(c.A),)),)


def test_names_in_rdata_are_uncompressed_and_keep_their_case():
    soa = b"\2Ns\xc0\x10" + b"\5admin\xc0\x10" + struct.pack("!5I", 1, 2, 3, 4, 5)
    message = parse_message_untrusted(header(ns=1) + QUESTION + record(b"\xc0\x10", c.SOA, soa))
    example = b"\x07Example\x03com\0"
    expected = b"\2Ns" + example + b"\5admin" + example + struct.pack("!5I", 1, 2, 3, 4, 5)
    assert message.authority == (RRset(ZONE, c.SOA, 300, (expected,)),)


@pytest.mark.parametrize(
    ("rdtype", "head", "tail"),
    [
        (c.MX, b"\0\n", b""),
        (c.SRV, b"\0\1\0\2\0\3", b""),
        (c.NAPTR, b"\0\1\0\2\1u\3E2U\0", b""),
        (c.A6, b"\x40" + b"12345678", b""),
        (c.RRSIG, rrsig(c.A, signer=b"", tail=b""), b"sig"),
        (c.NSEC, b"", b"\0\1\x40"),
        (c.DNAME, b"", b""),
    ],
)
def test_compressed_names_are_tolerated_in_the_types_of_rfc_3597(rdtype, head, tail):
    message = parse_message_untrusted(header(an=1) + QUESTION + record(b"\xc0\x0c", rdtype, head + b"\xc0\x10" + tail))
    assert message.answer[0].rdatas == (head + b"\x07Example\x03com\0" + tail,)


def test_a6_of_a_whole_address_has_no_name():
    message = parse_message_untrusted(header(an=1) + QUESTION + record(b"\xc0\x0c", c.A6, b"\0" + bytes(16)))
    assert message.answer[0].rdatas == (b"\0" + bytes(16),)


def test_a_ttl_with_the_top_bit_set_is_zero():
    message = parse_message_untrusted(header(an=1) + QUESTION + record(b"\xc0\x0c", c.A, A1, ttl=0x80000001))
    assert message.answer[0].ttl == 0


def test_the_rcode_has_twelve_bits():
    wire = header(ar=1, flags=c.QR | 7) + QUESTION + record(b"\0", c.OPT, b"", rdclass=1232, ttl=1 << 24)
    assert parse_message_untrusted(wire).rcode == c.BADCOOKIE


def test_edns_options():
    wire = header(ar=1) + QUESTION + record(b"\0", c.OPT, b"\0\x0f\0\2\0\3\0\x0c\0\0", rdclass=1232)
    edns = parse_message_untrusted(wire).edns
    assert edns is not None
    assert edns.options == ((c.OPTION_EDE, b"\0\3"), (c.OPTION_PADDING, b""))


def test_a_message_without_a_question():
    assert parse_message_untrusted(header(qd=0, flags=c.QR | c.FORMERR)).question is None


OPT = record(b"\0", c.OPT, b"", rdclass=1232)


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        header()[:11],
        header(),
        header() + QUESTION[:-1],
        header(qd=2) + QUESTION + QUESTION,
        header() + QUESTION + b"\0",
        header(an=1) + QUESTION,
        header(an=0xFFFF) + QUESTION + record(b"\xc0\x0c", c.A, A1),
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.A, A1 + b"\0"),
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.AAAA, A1),
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.A, A1)[:-1],
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.CNAME, b"\xc0\x0c\0"),
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.CNAME, b"\1a"),
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.SOA, b"\0\0" + bytes(19)),
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.RRSIG, b"\0\1"),
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.A6, b"\x81"),
        header(an=1) + QUESTION + record(b"\xc0\x0c", c.NAPTR, b"\0\1\0\2\xff"),
        header(an=1) + QUESTION + record(b"\xc0\x21", c.A, A1),
        header(an=1) + QUESTION + record(b"\xc0\x30", c.A, A1),
        header(an=1) + QUESTION + record(b"\xc0\x04", c.A, A1),
        header(an=1) + QUESTION + record(b"\x41a", c.A, A1),
        header(an=1) + QUESTION + record(b"\x81a", c.A, A1),
        header(an=1) + QUESTION + OPT,
        header(ar=2) + QUESTION + OPT + OPT,
        header(ar=1) + QUESTION + record(b"\xc0\x0c", c.OPT, b"", rdclass=1232),
        header(ar=1) + QUESTION + record(b"\0", c.OPT, b"\0\1\0", rdclass=1232),
        header(ar=1) + QUESTION + record(b"\0", c.OPT, b"\0\1\0\5abcd", rdclass=1232),
    ],
)
def test_what_is_malformed(wire):
    with pytest.raises(MalformedMessage):
        parse_message_untrusted(wire)


def test_a_pointer_to_itself_or_forward_is_refused():
    start = 12 + len(QUESTION)
    for target in (start, start + 2):
        with pytest.raises(MalformedMessage):
            parse_message_untrusted(header(an=1) + QUESTION + record(struct.pack("!H", 0xC000 | target), c.A, A1))


def test_a_name_grown_over_255_octets_by_pointers_is_refused():
    label = b"\x3f" + b"a" * 63
    question = label * 3 + b"\0" + struct.pack("!HH", c.A, c.IN)  # 193 octets
    for first, sound in ((61, True), (62, False)):
        wire = header(an=1) + question + record(bytes([first]) + b"b" * first + b"\xc0\x0c", c.A, A1)
        if sound:
            assert len(parse_message_untrusted(wire).answer[0].owner) == 255
        else:
            with pytest.raises(MalformedMessage):
                parse_message_untrusted(wire)


def test_a_long_chain_of_pointers_is_refused():
    """Each points to the one before; the price of following them must stay bounded."""
    base = 12 + 5 + 11  # the TXT's RDATA: the first pointer leads to the question's root name
    pointers = b"\xc0\x0c" + b"".join(struct.pack("!H", 0xC000 | base + 1 + 2 * i) for i in range(126))
    for last, sound in ((125, True), (126, False)):
        wire = header(an=2) + b"\0" + struct.pack("!HH", c.A, c.IN)
        wire += record(b"\0", 65280, b"\0" + pointers) + record(struct.pack("!H", 0xC000 | base + 1 + 2 * last), c.A, A1)
        if sound:
            assert parse_message_untrusted(wire).answer[1].owner == b"\0"
        else:
            with pytest.raises(MalformedMessage):
                parse_message_untrusted(wire)
