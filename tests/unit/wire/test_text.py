import pytest

from dohproxy.model import Ede, RRset
from dohproxy.wire import constants as c
from dohproxy.wire import text
from dohproxy.wire.names import from_text


def test_types_both_ways_and_classes():
    for number, name in ((c.HTTPS, "HTTPS"), (c.NSEC3PARAM, "NSEC3PARAM"), (65280, "TYPE65280")):
        assert text.type_to_text(number) == name
        assert text.type_from_text(name.lower()) == number
    assert text.class_to_text(c.CH) == "CH"


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


def test_a_word_that_stands_for_no_type():
    with pytest.raises(ValueError, match="'NONSENSE' is no"):
        text.type_from_text("NONSENSE")


def test_rcodes():
    assert [text.rcode_to_text(n) for n in (0, 3, 16, 23, 99)] == ["NOERROR", "NXDOMAIN", "BADVERS", "BADCOOKIE", "RCODE99"]


def test_extended_errors():
    assert text.ede_to_text(Ede(7, "by a day")) == "EDE 7 (Signature Expired): by a day"
    assert text.ede_to_text(Ede(999)) == "EDE 999 (unassigned)"
    assert len(c.EDE_NAMES) == 31


def test_records():
    rdata = text.rdata_from_text(c.MX, "10 Mail.example")
    rrset = RRset(from_text("example"), c.MX, 60, (rdata,))
    assert text.rrset_to_lines(rrset) == ["example. 60 IN MX 10 Mail.example."]


def test_rdata_that_is_not_what_its_type_says():
    assert text.rdata_to_text(c.A, b"abc") == "\\# 3 616263"
    with pytest.raises(ValueError, match=r"'300.1.1.1' is no A record"):
        text.rdata_from_text(c.A, "300.1.1.1")
