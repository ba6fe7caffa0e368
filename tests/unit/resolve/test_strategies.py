from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import count

import pytest

from dohproxy.config.settings import Forwarding
from dohproxy.resolve.doubts import HALF_LIFE, MOST, Doubts, domain_of
from dohproxy.resolve.hedging import Hedge, Latencies
from dohproxy.resolve.member import Member
from dohproxy.resolve.pace import MEMORY, Pace
from dohproxy.resolve.strategies import UNKNOWN_AFTER, Fastest, Race, Spread, strategy_of
from dohproxy.wire.names import from_text

NAME = from_text("www.example.")


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def members(*paces: float, now: float = 0.0) -> list[Member]:
    """Upstreams a, b, …, each with one latency; 0 is unknown."""
    made = [Member(Named(chr(97 + number))) for number in range(len(paces))]  # type: ignore[arg-type]
    for member, latency in zip(made, paces, strict=True):
        if latency:
            member.pace.answered(latency, now)
    return made


def chances(*values: float) -> Iterator[float]:
    return iter(values)


def order(strategy: Fastest | Spread | Race, given: list[Member], now: float = 1.0, name: bytes = NAME) -> str:
    return "".join(member.name for member in strategy.order(name, given, now))


def test_two_are_drawn_and_the_quicker_goes_first_the_rest_by_cost() -> None:
    given = members(0.05, 0.01, 0.03, 0.02)
    assert order(Fastest(chances(0.0, 0.4).__next__), given) == "cbda"  # a against c
    assert order(Fastest(chances(0.9, 0.0).__next__), given) == "dbca"  # d against a


def test_no_upstream_is_drawn_against_itself() -> None:
    given = members(0.05, 0.01)
    for first in (0.0, 0.49, 0.5, 0.99):
        for second in (0.0, 0.99):
            assert order(Fastest(chances(first, second).__next__), given) == "ba"


def test_questions_under_way_count() -> None:
    given = members(0.05, 0.02)
    given[1].under_way = 3
    assert order(Fastest(chances(0.0, 0.0).__next__), given) == "ab"


def test_what_is_not_known_is_tried_by_one() -> None:
    given = members(0.01, 0.0)
    assert order(Fastest(lambda: 0.0), given) == "ba"
    given[1].under_way = 1
    assert order(Fastest(lambda: 0.0), given) == "ab"


def test_what_was_not_asked_for_long_is_tried_again() -> None:
    given = members(0.01, 0.5)
    assert order(Fastest(lambda: 0.0), given, now=UNKNOWN_AFTER - 1) == "ab"
    given[0].pace.answered(0.01, UNKNOWN_AFTER)
    assert order(Fastest(lambda: 0.0), given, now=UNKNOWN_AFTER + 1) == "ba"


def test_those_down_or_doubted_come_last_however_quick() -> None:
    given = members(0.001, 0.002, 0.5)
    given[0].rank, given[1].rank = 2, 1
    by_rank = sorted(given, key=lambda member: member.rank)
    assert order(Fastest(lambda: 0.0), by_rank) == "cba"
    assert order(Spread(b"x"), by_rank) == "cba"


def test_doubts_make_dear() -> None:
    given = members(0.03, 0.05)
    given[0].doubts.raised(NAME, 0.0)
    assert order(Fastest(lambda: 0.0), given) == "ba"


def test_each_domain_has_its_upstream_and_each_upstream_its_share() -> None:
    spread, given = Spread(b"secret"), members(0, 0, 0)
    first = Counter(order(spread, given, name=from_text(f"www.n{number}.example."))[0] for number in range(300))
    assert all(70 < first[name] < 130 for name in "abc"), first
    assert order(spread, given, name=from_text("a.one.example.")) == order(spread, given, name=from_text("b.c.one.example."))


def test_only_the_domains_of_a_failed_upstream_move() -> None:
    spread, given = Spread(b"secret"), members(0, 0, 0)
    names = [from_text(f"n{number}.example.") for number in range(100)]
    before = {name: order(spread, given, name=name)[0] for name in names}
    given[0].rank = 2
    after = {name: order(spread, given, name=name)[0] for name in names}
    assert all(after[name] == before[name] for name in names if before[name] != "a")
    assert {after[name] for name in names if before[name] == "a"} == {"b", "c"}


def test_the_share_is_nobodys_to_foretell() -> None:
    given = members(0, 0)
    names = [from_text(f"n{number}.example.") for number in range(64)]
    one, other = ([order(Spread(secret), given, name=name)[0] for name in names] for secret in (b"one", b"other"))
    assert one != other


def test_a_strategy_for_one_upstream_is_none() -> None:
    for strategy in ("ordered", "fastest", "race", "spread"):
        assert strategy_of(Forwarding(strategy=strategy), 1, lambda: 0.0, b"") is None


@pytest.mark.parametrize(
    ("strategy", "kind"), [("fastest", Fastest), ("race", Race), ("spread", Spread), ("ordered", type(None))]
)
def test_strategies_by_name(strategy: str, kind: type) -> None:
    assert type(strategy_of(Forwarding(strategy=strategy), 3, lambda: 0.0, b"x")) is kind


def test_no_more_race_than_there_are() -> None:
    assert strategy_of(Forwarding(strategy="race", race=5), 3, lambda: 0.0, b"").width == 3  # type: ignore[union-attr]


# Pace


def test_worse_is_believed_at_once_and_better_with_time() -> None:
    pace = Pace()
    pace.answered(0.01, 0.0)
    pace.answered(1.0, 1.0)
    assert pace.peak == 1.0
    pace.answered(0.01, 1.0 + MEMORY)
    assert 0.3 < pace.peak < 0.4
    assert pace.smoothed == pytest.approx(0.01 + 0.99 / 8 - 0.99 / 64)


def test_lateness_shows_in_the_peak_only() -> None:
    pace = Pace()
    pace.answered(0.01, 0.0)
    pace.late(1.5, 2.0)
    assert (pace.peak, pace.smoothed) == (1.5, 0.01)


# Doubts


def test_doubts_halve_with_time() -> None:
    doubts = Doubts()
    for number in range(4):
        assert doubts.raised(from_text(f"n{number}.example."), 0.0)
    assert doubts.count(0.0) == 4 and doubts.count(HALF_LIFE) == 2
    assert doubts.tolerable_in(0.0) == pytest.approx(2 * HALF_LIFE)
    assert doubts.tolerable_in(2 * HALF_LIFE) == 0


def test_one_domain_alone_is_tolerated() -> None:
    doubts = Doubts()
    assert doubts.raised(NAME, 0.0)
    assert not doubts.raised(from_text("other.www.example."), 1.0)
    assert doubts.tolerable_in(1.0) == 0
    assert doubts.raised(NAME, HALF_LIFE)


def test_doubts_are_bounded() -> None:
    doubts = Doubts()
    for number in range(1000):
        doubts.raised(from_text(f"n{number}.example."), 0.0)
    assert doubts.count(0.0) == MOST


def test_the_domain_is_the_last_two_labels() -> None:
    assert domain_of(from_text("a.b.Example.com.".lower())) == from_text("example.com.")
    assert [domain_of(from_text(name)) for name in ("com.", ".")] == [from_text("com."), from_text(".")]


# Hedging


def test_late_is_what_one_in_twenty_is() -> None:
    latencies = Latencies()
    for _ in range(32):
        latencies.add(0.010)
    assert 0.010 <= latencies.late < 0.0125
    for number in range(2000):
        latencies.add(0.2 if number % 10 == 0 else 0.010)
    assert 0.2 <= latencies.late < 0.25


def test_nothing_is_late_before_enough_is_known() -> None:
    latencies = Latencies()
    for _ in range(31):
        latencies.add(0.01)
    assert latencies.late == float("inf")


def test_old_latencies_fade() -> None:
    latencies = Latencies()
    for _ in range(5000):
        latencies.add(0.01)
    for _ in range(3000):
        latencies.add(0.5)
    for _ in range(8000):
        latencies.add(0.02)
    assert latencies.late < 0.03


@pytest.mark.parametrize("latency", [0.0, 1e-9, 5.0, 1e9])
def test_no_latency_is_out_of_range(latency: float) -> None:
    latencies = Latencies()
    for _ in range(64):
        latencies.add(latency)
    assert latencies.late > 0


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 1.0])
def test_the_budget_bounds_what_is_asked_twice(share: float) -> None:
    hedge, paid = Hedge(share), count()
    for _ in range(1000):
        hedge.answered(0.01)
        hedge.asked()
        if hedge.spend():
            next(paid)
    assert share * 1000 - 1 <= next(paid) <= share * 1000 + Hedge.BURST


def test_a_question_is_not_late_when_nothing_is_saved() -> None:
    hedge = Hedge(0.1)
    for _ in range(64):
        hedge.answered(0.01)
    assert hedge.asked() == float("inf")
    for _ in range(20):
        hedge.asked()
    assert hedge.asked() < 0.02
