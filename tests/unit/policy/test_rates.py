"""Token buckets by prefix: what passes, what slips, who shares one, and that they stay few."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.config.settings import ClientLimits
from dohproxy.policy import rates
from dohproxy.policy.rates import Charge, Prefixes, Rates

PASS, TRUNCATE, SILENCE = Charge.PASS, Charge.TRUNCATE, Charge.SILENCE


def make(rate=10.0, burst=3, slip=2, ipv4=32, ipv6=56):
    return Rates(ClientLimits(rate, burst, slip), Prefixes(ipv4, ipv6))


def charge(limits, host, now):
    return limits.bucket(host).pay(int(now * 1e9))


def test_a_burst_passes_then_every_second_query_slips():
    limits = make()
    assert [charge(limits, "192.0.2.1", 100.0) for _ in range(8)] == [PASS] * 3 + [SILENCE, TRUNCATE] * 2 + [SILENCE]


@given(st.floats(0, 1e8), st.integers(1, 2000), st.integers(1, 200))
def test_a_burst_passes_whole_by_any_clock(now, rate, burst):
    limits = make(rate=rate, burst=burst)
    assert [charge(limits, "192.0.2.1", now) for _ in range(burst + 1)] == [PASS] * burst + [SILENCE]


def test_what_is_over_the_limit_costs_nothing():
    limits = make()
    [charge(limits, "192.0.2.1", 100.0) for _ in range(100)]
    assert charge(limits, "192.0.2.1", 100.11) is PASS
    assert charge(limits, "192.0.2.1", 100.11) is not PASS


def test_the_burst_comes_back_and_no_more_than_that():
    limits = make()
    [charge(limits, "192.0.2.1", 100.0) for _ in range(3)]
    assert [charge(limits, "192.0.2.1", 200.0) for _ in range(4)] == [PASS] * 3 + [SILENCE]


@pytest.mark.parametrize(
    ("slip", "kinds"), [(0, [SILENCE] * 4), (1, [TRUNCATE] * 4), (3, [SILENCE, SILENCE, TRUNCATE, SILENCE])]
)
def test_slips(slip, kinds):
    limits = make(burst=1, slip=slip)
    assert [charge(limits, "192.0.2.1", 100.0) for _ in range(5)] == [PASS, *kinds]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8:0:ff::2", True),
        ("2001:db8::1", "2001:db8:0:100::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("0.0.0.1", "::1", False),
    ],
)
def test_who_counts_as_one(one, other, same):
    limits = make(burst=1)
    charge(limits, one, 100.0)
    assert (charge(limits, other, 100.0) is not PASS) == same


def test_wider_prefixes():
    limits = make(burst=1, ipv4=24)
    charge(limits, "192.0.2.1", 100.0)
    assert charge(limits, "192.0.2.255", 100.0) is not PASS
    assert charge(limits, "192.0.3.1", 100.0) is PASS


def test_a_client_is_known_while_others_come_and_go(monkeypatch):
    monkeypatch.setattr(rates, "KEPT", 10)
    limits = make(burst=1)
    charge(limits, "192.0.2.1", 100.0)
    for number in range(1000):
        charge(limits, f"10.0.{number >> 8}.{number & 255}", 100.0)
        if number % 5 == 0:
            assert charge(limits, "192.0.2.1", 100.0) is not PASS
        assert len(limits._young) <= 10 and len(limits._old) <= 10


def test_who_holds_a_bucket_is_told_when_to_ask_again(monkeypatch):
    monkeypatch.setattr(rates, "KEPT", 10)
    limits = make(burst=1)
    held, era, passed = limits.bucket("192.0.2.1"), limits.era, 0
    for number in range(1000):
        charge(limits, f"10.0.{number >> 8}.{number & 255}", 100.0)
        if limits.era != era:
            held, era = limits.bucket("192.0.2.1"), limits.era
        passed += held.pay(10**11) is PASS
    assert passed == 1
    assert limits.bucket("192.0.2.1") is held


@given(
    st.lists(st.floats(0, 3), max_size=200),
    st.floats(0.5, 1000),
    st.integers(1, 50),
)
def test_never_more_than_the_rate_and_the_burst(gaps, rate, burst):
    limits, now, passed = make(rate, burst), 1000.0, 0
    for gap in gaps:
        now += gap
        passed += charge(limits, "192.0.2.1", now) is PASS
    assert passed <= burst + rate * (now - 1000.0) + 1e-6
    assert passed >= min(len(gaps), burst)
