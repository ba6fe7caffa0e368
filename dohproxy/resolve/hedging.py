"""Hedging: a question whose answer is late is asked elsewhere too, within a budget ("The Tail at Scale", CACM 56:2)."""

from __future__ import annotations

from math import frexp

QUANTILE = 0.95
"""Of latencies: what takes longer is late."""
ENOUGH = 32
"""Latencies that must be known before any is called late."""
_MEMORY = 1024
"""Latencies after which all that is known counts half."""
_EVERY = 32
"""Latencies after which the quantile is looked up again."""
_SLOTS = 128
_STEPS = 8
"""To an octave: a latency is known to an eighth or better."""
_FINEST = -13
"""The binary exponent of the first slot: a tenth of a millisecond, about."""


class Latencies:
    """A histogram in which old latencies (seconds) fade."""

    def __init__(self) -> None:
        self._counts = [0] * _SLOTS
        self._total = 0
        self._fresh = 0
        self._late = float("inf")

    def add(self, latency: float) -> None:
        """One more."""
        fraction, exponent = frexp(latency)  # fraction in [0.5, 1)
        slot = (exponent - _FINEST) * _STEPS + int((fraction - 0.5) * 2 * _STEPS)
        self._counts[min(max(slot, 0), _SLOTS - 1)] += 1
        self._total += 1
        self._fresh += 1
        if self._total >= _MEMORY:
            self._counts = [count // 2 for count in self._counts]
            self._total = sum(self._counts)
        if self._fresh >= _EVERY:
            self._fresh, self._late = 0, self._looked_up()

    @property
    def late(self) -> float:
        """The time that all but one in twenty take no longer than; infinite while too little is known."""
        return self._late

    def _looked_up(self) -> float:
        if self._total < ENOUGH:
            return float("inf")
        left = self._total * QUANTILE
        for slot, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return _end_of(slot)
        return _end_of(_SLOTS - 1)


def _end_of(slot: int) -> float:
    octave, step = divmod(slot, _STEPS)
    return float((0.5 + (step + 1) / (2 * _STEPS)) * 2.0 ** (octave + _FINEST))


class Hedge:
    """When a group's questions are late, and how many of them may be asked twice: a `share` of all (0 to 1)."""

    BURST = 10.0
    """Questions that may be asked twice in a row, once so many have been saved up."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = 0.0
        self._latencies = Latencies()

    def asked(self) -> float:
        """A question begins: after how many seconds its answer is late; infinite if that is not known, or not affordable."""
        self._saved = min(self.BURST, self._saved + self._share)
        return self._latencies.late if self._saved >= 1 else float("inf")

    def spend(self) -> bool:
        """Whether a late question may be asked once more, which is then paid for."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True

    def answered(self, latency: float) -> None:
        """A question was answered after so many seconds."""
        self._latencies.add(latency)
