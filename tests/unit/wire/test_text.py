import pytest

from dohproxy.model import Ede, Question, RRset
from dohproxy.wire import constants as c
from dohproxy.wire import text
from dohproxy.wire.names import from_text


def test_types_and_classes_both_ways():
    for number, name in ((c.HTTPS, "HTTPS"), (c.NSEC3PARAM, "NSEC3PARAM"), (65280, "TYPE65280")):
        assert text.type_to_text(number) == name
        assert text.type_from_text(name.lower()) == number
    assert text.class_to_text(c.CH) == "CH"
    assert text.class_from_text("class42") == 42


def test_our_numbers_are_those_of_the_registry():
    for name in ("A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV", "NAPTR", "DNAME", "OPT", "DS", "RRSIG", "NSEC"):
        assert text.type_from_text(name) == getattr(c, name)
    for name in (
        "DNSKEY",
        "NSEC3",
        "NSEC3PARAM",
        "TLSA",
        "SVCB",
        "HTTPS",
        "CDS",
        "CDNSKEY",
        "ANY",
        "AXFR",
        "IXFR",
        "CAA",
        "TKEY",
    ):
        assert text.type_from_text(name) == getattr(c, name)


@pytest.mark.parametrize("call", [text.type_from_text, text.class_from_text, text.rcode_from_text])
def test_a_word_that_stands_for_nothing(call):
    with pytest.raises(ValueError, match="'NONSENSE' is no"):
        call("NONSENSE")


def test_rcodes():
    assert [text.rcode_to_text(n) for n in (0, 3, 16, 23, 99)] == ["NOERROR", "NXDOMAIN", "BADVERS", "BADCOOKIE", "RCODE99"]
    assert text.rcode_from_text("refused") == c.REFUSED


def test_flags_and_extended_errors():
    assert text.flags_to_text(c.QR | c.RD | c.RA | c.AD) == "qr rd ra ad"
    assert text.ede_to_text(Ede(7, "by a day")) == "EDE 7 (Signature Expired): by a day"
    assert text.ede_to_text(Ede(999)) == "EDE 999 (unassigned)"
    assert len(c.EDE_NAMES) == 31


def test_records():
    rdata = text.rdata_from_text(c.MX, "10 Mail.example")
    rrset = RRset(from_text("example"), c.MX, 60, (rdata,))
    assert text.rrset_to_text(rrset) == "example. 60 IN MX 10 Mail.example."
    assert text.question_to_text(Question(from_text("example"), c.MX)) == "example. IN MX"


def test_rdata_that_is_not_what_its_type_says():
    assert text.rdata_to_text(c.A, b"abc") == "\\# 3 616263"
    with pytest.raises(ValueError, match=r"'300.1.1.1' is no A record"):
        text.rdata_from_text(c.A, "300.1.1.1")
