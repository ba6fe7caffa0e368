import pytest

from dohproxy.errors import MalformedMessage
from dohproxy.wire import constants as c
from dohproxy.wire.rdata import canonical_rdata, names_in

HOST = b"\4HOST\7Example\0"


@pytest.mark.parametrize(
    ("rdtype", "head", "tail"),
    [
        (c.NS, b"", b""),
        (c.MX, b"AB", b""),
        (c.SRV, b"ABCDEF", b""),
        (c.NAPTR, b"ABCD\1S\3SIP\0", b""),
        (c.RRSIG, b"ABCDEFGHIJKLMNOPQR", b"SIGNATURE"),
        (c.A6, b"\x7f" + b"A", b""),
    ],
)
def test_the_canonical_form_lowers_names_and_nothing_else(rdtype, head, tail):
    assert canonical_rdata(rdtype, head + HOST + tail) == head + HOST.lower() + tail
    assert names_in(rdtype, head + HOST + tail) == (HOST,)


def test_both_names_of_an_soa_are_lowered_but_not_its_numbers():
    assert canonical_rdata(c.SOA, HOST + HOST + b"A" * 20) == HOST.lower() * 2 + b"A" * 20


@pytest.mark.parametrize("rdtype", [c.NSEC, c.TXT, c.HTTPS, c.DS, 65280])
def test_other_types_keep_their_case(rdtype):
    """RFC 6840 5.1 for NSEC, RFC 4034 6.2 for what is not listed there."""
    assert canonical_rdata(rdtype, HOST + b"\0\1\x40") == HOST + b"\0\1\x40"


@pytest.mark.parametrize(
    ("rdtype", "rdata"), [(c.NS, b"\4HO"), (c.NS, b""), (c.NS, b"\xc0\x0c"), (c.NAPTR, b"AB"), (c.A6, b"\xff")]
)
def test_rdata_without_the_names_that_it_needs_is_malformed(rdtype, rdata):
    with pytest.raises(MalformedMessage):
        canonical_rdata(rdtype, rdata)
