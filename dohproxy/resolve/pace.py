"""How quickly an upstream answers, as far as that can be told from the answers that it gave."""

from __future__ import annotations

from math import exp

MEMORY = 10.0
"""Seconds after which an earlier latency weighs about a third (1/e) beside a new one."""
_SHARE = 0.125
"""Of a new latency in the smoothed one (RFC 6298 2)."""


class Pace:
    """Latencies in seconds, of one upstream; times are monotonic seconds.

    `peak` follows what gets worse at once and what gets better with time, so that an upstream that stumbles is avoided by
    the next question already. `smoothed` is slow both ways: what is usual.
    """

    __slots__ = ("at", "peak", "smoothed")

    def __init__(self) -> None:
        self.peak = 0.0
        self.smoothed = 0.0
        """0 before the first answer."""
        self.at = float("-inf")
        """When the last question ended, by an answer or by being late."""

    def answered(self, latency: float, now: float) -> None:
        """An answer came after so long."""
        self.smoothed += (latency - self.smoothed) * _SHARE if self.smoothed else latency
        if latency < self.peak:
            latency += (self.peak - latency) * exp((self.at - now) / MEMORY)
        self.peak, self.at = latency, now

    def late(self, latency: float, now: float) -> None:
        """After so long there is no answer yet."""
        self.peak, self.at = max(latency, self.peak), now
