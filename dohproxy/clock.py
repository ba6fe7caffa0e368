"""The time that answers age by: monotonic, but for the hours that a machine slept or that its clock turned out to be behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

LEAP = 5.0
"""Seconds that the wall clock must get ahead at once: less is the slewing of a clock that is kept."""


class Clock:
    """Tells how time passes for caches.

    The kernel's monotonic clock stands still while a machine sleeps, and knows nothing of a wall clock that was decades
    off at boot. What was kept before either is too old afterwards. Whoever asks for the time finds out, so that not even
    the first answer after a sleep is too old; a clock set back changes nothing.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic, self._wall = monotonic, wall
        self._leapt, self._began = 0.0, monotonic()
        self._ahead = wall() - monotonic()

    def now(self) -> float:
        """Seconds, from some point in the past."""
        monotonic = self._monotonic()
        if not -LEAP <= self._wall() - monotonic - self._ahead <= LEAP:
            self._notice(self._wall() - monotonic)
        return monotonic + self._leapt

    def age(self) -> float:
        """Seconds since this clock was made, not counting any that it leapt."""
        return self._monotonic() - self._began

    def _notice(self, ahead: float) -> None:
        """Catch up with the wall clock, if it has leapt ahead."""
        leap, self._ahead = ahead - self._ahead, ahead
        if leap > 0:
            self._leapt += leap
            log.warning("the clock leapt ahead by %.0f s, or the machine slept: cached answers age by that", leap)
