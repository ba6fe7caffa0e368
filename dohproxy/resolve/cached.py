"""Answers at hand: fresh ones at once, stale ones when no upstream helps, made-up ones where proofs allow (RFC 8198)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio
from msgspec import Struct
from msgspec.structs import replace

from dohproxy.cache.answers import AnswerStore, Found, Key, key_of
from dohproxy.cache.failures import FailureStore
from dohproxy.cache.proofs import ProofStore
from dohproxy.dnssec.signatures import serial_gap
from dohproxy.errors import CachedFailure, ResolveError
from dohproxy.model import INTERNAL, Answer, Query, Security, Source, Stage
from dohproxy.resolve.flights import Flights

_FAILED = (Security.BOGUS, Security.INDETERMINATE)
_UPSTREAM = Source.UPSTREAM  # here: an enumeration looks its members up slowly


class Stores(Struct, frozen=True):
    """What is remembered of earlier questions. `proofs` is None where nothing is validated, or not used aggressively."""

    answers: AnswerStore
    failures: FailureStore
    proofs: ProofStore | None

    def clear(self) -> None:
        """Forget everything: what it was judged by does not hold any more."""
        self.answers.clear()
        self.failures.clear()
        if self.proofs is not None:
            self.proofs.clear()


class Cached:
    """Keeps what the stages below find, for all clients: nothing here depends on who asks.

    `timeout` is what a question asked in the background may take, `stale_after` how long a client waits before it gets a
    stale answer (seconds). `wall` tells the time that signatures are judged by.
    """

    def __init__(
        self,
        below: Stage,
        stores: Stores,
        flights: Flights,
        *,
        prefetch: bool,
        stale_after: float,
        timeout: float,
        now: Callable[[], float],
        wall: Callable[[], int],
    ) -> None:
        self._below, self._flights, self._now, self._wall = below, flights, now, wall
        self._answers, self._failures, self._proofs = stores.answers, stores.failures, stores.proofs
        self._prefetch, self._stale_after, self._timeout = prefetch, stale_after, timeout

    async def resolve(self, query: Query) -> Answer:
        """The best answer that there is before the deadline; raises CachedFailure, or what the stages below raise."""
        key = key_of(query.question, query.cd)
        found = self.look(key, query, self._now())
        if found is None:
            return await self._flights.join(key, partial(self.fetch, key, query))
        if isinstance(found, Found):
            return await self._fresh_or_stale(key, query, found)
        return found

    def look(self, key: Key, query: Query, now: float) -> Answer | Found | None:
        """The answer that is at hand, or one that may be served stale if no other comes; raises CachedFailure."""
        found = self._answers.get(key, now)
        if found is not None and found.is_fresh(now):
            if self._prefetch and found.is_due(now):
                self._launch(key, query)
            return found.answer
        if self._proofs is not None and not query.cd and (made := self._proofs.synthesize(query.question, now)):
            return made
        if found is not None and self._may_be_stale(found.answer):
            return found
        failed = self._failures.get(key, now)
        if isinstance(failed, CachedFailure):
            raise failed
        return failed

    def _may_be_stale(self, answer: Answer) -> bool:
        """Whether the signatures of a secure answer still hold: it is never served past them."""
        return answer.security is not Security.SECURE or _signatures_hold(answer, self._wall())

    async def _fresh_or_stale(self, key: Key, query: Query, found: Found) -> Answer:
        """A fresh answer if it comes soon, else the stale one (RFC 8767 5); its flight goes on and renews the store."""
        self._launch(key, query)
        if self._flights.under_way(key):
            try:
                fresh = await self._flights.wait(key, self._stale_after)
            except ResolveError:
                fresh = None
            if fresh is not None and fresh.security not in _FAILED:
                return fresh
        return found.stale()

    def _launch(self, key: Key, query: Query) -> None:
        """Ask again in the background, with a whole time-out of its own; not if that failed a moment ago."""
        if self._failures.get(key, self._now()) is None:
            again = Query(query.question, INTERNAL, trio.current_time() + self._timeout, query.cd)
            self._flights.launch(key, partial(self.fetch, key, again))

    async def fetch(self, key: Key, query: Query) -> Answer:
        """The answer from below, whatever is at hand; kept, as is a failure."""
        try:
            answer = await self._below.resolve(query)
        except ResolveError as error:
            self._failures.put(key, error, self._now())
            raise
        if answer.security in _FAILED:
            self._failures.put(key, replace(answer, evidence=None), self._now())
            return answer
        return self.keep(key, answer, self._now())

    def keep(self, key: Key, answer: Answer, now: float) -> Answer:
        """Remember what was found below and did not fail: as it is kept, and so told to all who ask."""
        self._failures.discard(key)
        kept = self._answers.put(key, answer, now)
        return kept if kept.source is _UPSTREAM else replace(kept, source=_UPSTREAM)


def _signatures_hold(answer: Answer, wall: int) -> bool:
    """Whether each signed RRset has a signature whose expiration is still to come (RFC 4034 3.1.5)."""
    return all(
        any(serial_gap(int.from_bytes(rrsig[8:12]), wall) > 0 for rrsig in rrset.signatures)
        for rrset in (*answer.answer, *answer.authority)
        if rrset.signatures
    )
