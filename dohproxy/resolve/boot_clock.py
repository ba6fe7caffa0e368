"""A clock that is not set yet: the names that setting it takes are answered unvalidated, until it is."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio
from msgspec.structs import replace

from dohproxy.config.settings import BootClock as Settings
from dohproxy.dnssec.reasons import CLOCK_NOT_SET
from dohproxy.model import Answer, Ede, Name, Query, Security, Stage
from dohproxy.wire import names
from dohproxy.wire.constants import EDE_OTHER

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between questions to the kernel."""


class BootClock:
    """Sends the configured names past validation while it is open: from `run` until `is_set` says that the clock is set.

    `age` tells how long (seconds) the proxy has been running, which bounds it; once over, it stays over. `unvalidated` is
    asked for those names, `below` for all others.
    """

    def __init__(
        self, below: Stage, unvalidated: Stage, settings: Settings, *, is_set: Callable[[], bool], age: Callable[[], float]
    ) -> None:
        self._below, self._unvalidated, self._settings, self._is_set, self._age = below, unvalidated, settings, is_set, age
        self._itself = frozenset(pattern.name for pattern in settings.names if pattern.itself)
        self._above = frozenset(pattern.name for pattern in settings.names if pattern.below)
        self.is_open = False

    async def resolve(self, query: Query) -> Answer:
        """The answer, insecure for one of the names while open."""
        if not self.is_open or query.cd or not self._is_meant(query.question.qname):
            return await self._below.resolve(query)
        answer = await self._unvalidated.resolve(query)
        return replace(answer, security=Security.INSECURE, ede=(Ede(EDE_OTHER, CLOCK_NOT_SET),))

    def _is_meant(self, qname: Name) -> bool:
        return qname in self._itself or any(name in self._above for name in names.suffixes(qname) if name != qname)

    async def run(self, end: Callable[[], Awaitable[None]]) -> None:
        """Open, if the clock is not set; come back when it is, or the time is over, having called `end`."""
        limit = self._settings.max_seconds
        if self._is_set() or self._age() >= limit:
            return
        log.warning("the clock is not synchronised: %d names are answered unvalidated until it is", len(self._settings.names))
        self.is_open = True
        try:
            while not self._is_set() and self._age() < limit:  # noqa: ASYNC110 -- the kernel sends no word
                await trio.sleep(POLL)
        finally:
            self.is_open = False
        why = "the clock is synchronised" if self._is_set() else f"the clock is not synchronised after {limit} s"
        log.warning("%s: all names are validated from now on", why)
        await end()
