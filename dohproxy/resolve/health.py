"""Which upstreams are worth asking first, judged by what they did with the questions that they got anyway."""

from __future__ import annotations

from collections.abc import Iterator

FAILURES = 2
"""In a row: then an upstream is down."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds between the probes of an upstream that is down; each pause is twice the last."""


class Health:
    """Of one upstream: up until it fails repeatedly, down until it answers."""

    def __init__(self) -> None:
        self.up = True
        self.reason = ""
        """Why it is down, or of its last failure."""
        self._failures = 0
        self._owes_return = False
        """Whether it was down since its last answer."""
        self._answered = float("-inf")

    def succeeded(self, now: float) -> bool:
        """It answered; whether it was down since it last did."""
        self._answered = now
        if not self._failures:
            return False
        returns = self._owes_return
        self.up, self.reason, self._failures, self._owes_return = True, "", 0, False
        return returns

    def failed(self, reason: str, began: float, *, certain: bool = False) -> bool:
        """It did not answer what was asked at `began`; whether that brought it down.

        What it answered since then speaks for it: then only that question is slow. A `certain` failure (no connection)
        needs no second.
        """
        if not certain and self.answered_since(began):
            return False
        was_up = self.up
        self.reason = reason
        self._failures += FAILURES if certain else 1
        self.up = self.up and self._failures < FAILURES
        self._owes_return |= not self.up
        return was_up and not self.up

    def answered_since(self, began: float) -> bool:
        """Whether it has answered anything, whatever was asked, after that."""
        return self._answered > began

    def reset(self) -> None:
        """What was known does not hold any more: up, until it fails once."""
        self.up, self.reason, self._failures = True, "", FAILURES - 1


def pauses() -> Iterator[float]:
    """The pauses between probes, in seconds, without end."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)
