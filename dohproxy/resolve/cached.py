"""Answers at hand: fresh ones at once, stale ones when no upstream helps, made-up ones where proofs allow (RFC 8198)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from msgspec.structs import replace

from dohproxy.cache.answers import AnswerStore, Found
from dohproxy.cache.failures import FailureStore
from dohproxy.cache.proofs import ProofStore
from dohproxy.config import settings
from dohproxy.errors import CachedFailure, ResolveError
from dohproxy.model import Answer, Ede, Query, Question, Security, Source, Stage
from dohproxy.resolve.flights import Flights
from dohproxy.wire.constants import EDE_STALE_ANSWER, EDE_STALE_NXDOMAIN, NXDOMAIN

Key = tuple[Question, bool]
"""The question, and whether checking is disabled: unvalidated answers never serve those who rely on validation."""


class Cached:
    """Keeps what the stages below find, for all clients: nothing here depends on who asks.

    `proofs` is None where answers are not validated, or where aggressive use is off.
    """

    def __init__(
        self,
        below: Stage,
        cache: settings.Cache,
        store: AnswerStore,
        failures: FailureStore,
        proofs: ProofStore | None,
        flights: Flights,
        now: Callable[[], float],
    ) -> None:
        self._below, self._settings, self._store, self._failures = below, cache, store, failures
        self._proofs, self._flights, self._now = proofs, flights, now

    async def resolve(self, query: Query) -> Answer:
        """The best answer that there is before the deadline; raises CachedFailure, or what the stages below raise."""
        key, now = (query.question, query.cd), self._now()
        found = self._store.get(key, now)
        if found is not None and now < found.fresh_until:
            if self._settings.prefetch and found.is_ending(now):
                self._launch(key, query)
            return replace(found.answer, source=Source.CACHE)
        if self._proofs is not None and not query.cd and (made := self._proofs.synthesize(query.question, now)):
            return made
        if found is not None:
            return await self._fresh_or_stale(key, query, found)
        if failure := self._failures.get(key, now):
            raise CachedFailure(f"{failure} (a moment ago)")
        return await self._flights.join(key, partial(self._fetch, key, query))

    async def _fresh_or_stale(self, key: Key, query: Query, found: Found) -> Answer:
        """A fresh answer if it comes soon, else the stale one (RFC 8767 5); its flight goes on and renews the store."""
        if self._failures.get(key, self._now()) is None:
            self._launch(key, query)
            try:
                fresh = await self._flights.wait(key, self._settings.stale_after)
            except ResolveError:
                fresh = None
            if fresh is not None and fresh.security not in (Security.BOGUS, Security.INDETERMINATE):
                return fresh
        return _as_stale(found.answer)

    def _launch(self, key: Key, query: Query) -> None:
        """Ask again in the background, with a whole deadline of its own."""
        if self._failures.get(key, self._now()) is None:
            self._flights.launch(key, partial(self._fetch, key, query))

    async def _fetch(self, key: Key, query: Query) -> Answer:
        try:
            answer = await self._below.resolve(query)
        except ResolveError as error:
            self._failures.put(key, str(error), self._now())
            raise
        if answer.security in (Security.BOGUS, Security.INDETERMINATE):
            self._store.put_briefly(key, answer, self._now())
        else:
            self._store.put(key, answer, self._now())
        return answer


def _as_stale(answer: Answer) -> Answer:
    code = EDE_STALE_NXDOMAIN if answer.rcode == NXDOMAIN else EDE_STALE_ANSWER
    return replace(answer, stale=True, source=Source.CACHE, ede=(Ede(code, "no upstream answered in time"), *answer.ede))
