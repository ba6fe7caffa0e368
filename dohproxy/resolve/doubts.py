"""Doubts about what an upstream says: it stripped signatures, lied, or answered another question. Time heals them."""

from __future__ import annotations

from math import log2

from dohproxy.model import Name
from dohproxy.wire import names

HALF_LIFE = 60.0
"""Seconds in which doubts halve."""
TOLERATED = 1.0
"""So many doubts make no difference to the order: one broken zone is no word against an upstream."""
MOST = 16.0
"""Doubts beyond are not counted: the worst offender is asked first again after four half-lives."""


def domain_of(name: Name) -> Name:
    """The last two labels: what stands for whoever registered a name.

    The list of public suffixes would tell `example.co.uk` from `co.uk`. Nothing here rests on that: names that it would
    tell apart are merely treated alike.
    """
    suffixes = tuple(names.suffixes(name))
    return suffixes[max(0, len(suffixes) - 3)]


class Doubts:
    """About one upstream; times are monotonic seconds.

    One domain counts once a half-life, so that its owner alone cannot make an upstream look bad.
    """

    def __init__(self) -> None:
        self._count = 0.0
        self._at = 0.0
        self._counted: dict[Name, float] = {}

    def raised(self, name: Name, now: float) -> bool:
        """What it said of this name did not hold; whether that counts."""
        self._counted = {domain: at for domain, at in self._counted.items() if now - at < HALF_LIFE}
        domain = domain_of(name)
        if domain in self._counted or len(self._counted) >= 2 * MOST:
            return False
        self._counted[domain] = now
        self._count, self._at = min(MOST, self.count(now) + 1), now
        return True

    def count(self, now: float) -> float:
        """How many there are, the older ones in part."""
        return self._count * 0.5 ** ((now - self._at) / HALF_LIFE) if self._count else 0.0

    def tolerable_in(self, now: float) -> float:
        """Seconds until they are few enough to be overlooked; 0 is now."""
        count = self.count(now)
        return HALF_LIFE * log2(count / TOLERATED) if count > TOLERATED else 0.0
