import pytest

from dohproxy.cache.lifetime import clamped, lifetime
from dohproxy.config.settings import Cache
from dohproxy.model import Answer, RRset, Security
from dohproxy.wire import constants as c


def rrset(rdtype, ttl):
    return RRset(b"\1a\0", rdtype, ttl, (b"abcd",))


def soa(ttl, minimum):
    return RRset(b"\0", c.SOA, ttl, (b"\0\0" + bytes(16) + minimum.to_bytes(4),))


def kept(answer, **settings):
    answer = clamped(answer, c.A, Cache(**settings))
    return lifetime(answer, c.A), [r.ttl for r in answer.answer + answer.authority]


def test_the_smallest_ttl_of_an_answer_counts():
    assert kept(Answer(0, (rrset(c.CNAME, 300), rrset(c.A, 60)))) == (60, [300, 60])


def test_a_wildcards_proof_counts_but_other_authority_does_not():
    assert kept(Answer(0, (rrset(c.A, 300),), (rrset(c.NSEC, 60), rrset(c.NS, 5)))) == (60, [300, 60, 5])


def test_bounds():
    assert kept(Answer(0, (rrset(c.A, 100_000),)), max_ttl=86400) == (86400, [86400])
    assert kept(Answer(0, (rrset(c.A, 5),)), min_ttl=60) == (60, [60])


def test_nothing_lifts_the_ttl_of_what_is_secure():
    """Validation has lowered it to what is left of a signature (RFC 4035 5.3.3)."""
    assert kept(Answer(0, (rrset(c.A, 5),), security=Security.SECURE), min_ttl=60) == (5, [5])


@pytest.mark.parametrize("rcode", [c.NOERROR, c.NXDOMAIN])
def test_negative_answers_live_by_their_soa(rcode):
    assert kept(Answer(rcode, (), (soa(900, 60),))) == (60, [60])
    assert kept(Answer(rcode, (), (soa(30, 60),))) == (30, [30])
    assert kept(Answer(rcode, (), (soa(90_000, 90_000),)), max_negative_ttl=3600) == (3600, [3600])
    assert kept(Answer(rcode, (rrset(c.CNAME, 10),), (soa(900, 60),))) == (10, [10, 60])
    assert kept(Answer(rcode, (), (soa(900, 60), rrset(c.NSEC, 20)))) == (20, [60, 20])


def test_min_ttl_does_not_lengthen_a_no():
    assert kept(Answer(c.NXDOMAIN, (), (soa(5, 5),)), min_ttl=60) == (5, [5])


def test_a_negative_answer_without_soa_is_not_kept():
    assert kept(Answer(c.NXDOMAIN))[0] == 0
    assert kept(Answer(c.NOERROR, (rrset(c.CNAME, 300),)))[0] == 0


def test_other_rcodes_say_nothing_about_data():
    assert kept(Answer(c.SERVFAIL, (rrset(c.A, 300),)))[0] == 0
