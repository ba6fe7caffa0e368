import pytest

from dohproxy.model import Answer, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.negative import is_negative, negative_ttl

A, CNAME = RRset(b"\1a\0", c.A, 60, (b"abcd",)), RRset(b"\1b\0", c.CNAME, 60, (b"\1a\0",))


@pytest.mark.parametrize(
    ("rcode", "rrsets", "qtype", "expected"),
    [
        (c.NOERROR, (A,), c.A, False),
        (c.NOERROR, (CNAME, A), c.A, False),
        (c.NOERROR, (CNAME,), c.CNAME, False),
        (c.NOERROR, (CNAME,), c.ANY, False),
        (c.NOERROR, (CNAME,), c.A, True),
        (c.NOERROR, (A,), c.AAAA, True),
        (c.NOERROR, (), c.ANY, True),
        (c.NXDOMAIN, (CNAME,), c.CNAME, True),
    ],
)
def test_what_is_negative(rcode, rrsets, qtype, expected):
    assert is_negative(Answer(rcode, rrsets), qtype) is expected


@pytest.mark.parametrize(("ttl", "minimum", "expected"), [(300, 60, 60), (60, 300, 60)])
def test_it_holds_for_the_smaller_of_ttl_and_minimum(ttl, minimum, expected):
    assert negative_ttl(RRset(b"\0", c.SOA, ttl, (b"\0\0" + bytes(16) + minimum.to_bytes(4),))) == expected
