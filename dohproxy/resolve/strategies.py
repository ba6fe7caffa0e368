"""Which upstream of a group is asked first: by the file, by speed, several at once, or each for its share of the names.

All of them prefer what works: whatever a strategy makes of them, upstreams that are up come before those that are not, and
those that are trusted before those that are not (`Member.rank`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Protocol

from dohproxy.config import settings
from dohproxy.model import Name
from dohproxy.resolve.doubts import domain_of
from dohproxy.resolve.member import Member

UNKNOWN_AFTER = 60.0
"""Seconds without a question: then nobody knows how quick an upstream is, and it gets one."""


class Strategy(Protocol):
    """An order of upstreams. `width` are asked at once."""

    width: int

    def order(self, name: Name, members: Sequence[Member], now: float) -> Sequence[Member]:
        """In which order to ask about this name; `members` come by rank, then as configured."""
        ...


class Race:
    """As configured, several at once."""

    def __init__(self, width: int) -> None:
        self.width = width

    def order(self, name: Name, members: Sequence[Member], now: float) -> Sequence[Member]:  # noqa: ARG002 -- a Strategy
        """As they come."""
        return members


class Fastest:
    """The better of two that `chance` picks (0 <= chance() < 1), so that not all run to the same one; then by cost.

    The cost is the peak latency, times the questions under way, doubled for each doubt. One that was not asked for a while
    costs nothing, until it is asked.
    """

    width = 1

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance

    def order(self, name: Name, members: Sequence[Member], now: float) -> Sequence[Member]:  # noqa: ARG002 -- a Strategy
        """The cheaper of two first."""
        best = [member for member in members if member.rank == members[0].rank]
        first = self._better_of_two(best, now) if len(best) > 1 else best[0]
        rest = [member for member in members if member is not first]
        return (first, *sorted(rest, key=lambda member: (member.rank, _cost(member, now))))

    def _better_of_two(self, members: Sequence[Member], now: float) -> Member:
        one = int(self._chance() * len(members))
        other = (one + 1 + int(self._chance() * (len(members) - 1))) % len(members)
        return min(members[one], members[other], key=lambda member: _cost(member, now))


def _cost(member: Member, now: float) -> float:
    if now - member.pace.at > UNKNOWN_AFTER:
        return 1e9 if member.under_way else 0.0  # nobody else is to wait for the answer that will tell
    doubted: float = 2.0 ** member.doubts.count(now)
    return member.pace.peak * (1 + member.under_way) * doubted


class Spread:
    """Each domain has an upstream of its own, so that no upstream sees more than its share of what is asked here.

    Rendezvous hashing: if an upstream fails, only its own domains move, and they return with it. A domain is the last two
    labels of a name, so that the hosts of one site, and the questions of one visit to it, go to one upstream. `secret` makes
    it impossible to tell from outside which one.
    """

    width = 1

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def order(self, name: Name, members: Sequence[Member], now: float) -> Sequence[Member]:  # noqa: ARG002 -- a Strategy
        """By the hash of domain and upstream."""
        domain = domain_of(name)
        return sorted(members, key=lambda member: (member.rank, self._hash(domain, member)))

    def _hash(self, domain: Name, member: Member) -> bytes:
        return blake2b(domain + member.name.encode(), key=self._secret, digest_size=8).digest()


def strategy_of(forwarding: settings.Forwarding, members: int, chance: Callable[[], float], secret: bytes) -> Strategy | None:
    """The strategy of a group of so many; None is the order of the configuration, one at a time."""
    if members < 2:
        return None
    match forwarding.strategy:
        case "race":
            return Race(min(forwarding.race, members))
        case "fastest":
            return Fastest(chance)
        case "spread":
            return Spread(secret)
    return None
