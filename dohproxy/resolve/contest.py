"""One question with several tries under way, of which the first answer wins and ends the others."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from dohproxy.courses import Exchange
from dohproxy.errors import Disconnected, ResolveError
from dohproxy.model import Answer, Query
from dohproxy.resolve.failover import Tries
from dohproxy.resolve.member import Member

UNUSUAL = 0.4
"""Seconds without an answer that may mean something, however quick an upstream is."""

Outcome = tuple[Member, float, Answer | ResolveError | None]
"""Who was asked, when, and what came of it."""
FRESH = 0.25
"""Seconds within which an upstream shows that it is there, over another connection, however quick it is."""
Note = Callable[[Outcome, Tries], Answer | None]
"""Takes an outcome into account; the answer, if it is one to give."""


class Contest:
    """Asks the next of `tries` when one fails, and beside it when it has no answer after `patience` seconds."""

    def __init__(self, query: Query, tries: Tries, patience: float, note: Note) -> None:
        self._query, self._tries, self._patience, self._note = query, tries, patience, note
        self._doubted: tuple[Member, float] | None = None
        """The try that was under way already and heard nothing, until it is known whether its upstream is there."""
        self._latest: tuple[Member, float] | None = None
        """The try that was begun last, while it is not yet late."""
        self._under_way: dict[tuple[Member, float], Exchange] = {}
        self._send, self._receive = trio.open_memory_channel[Outcome](inf)

    async def run(
        self, first: tuple[Member, float, Exchange] | None, at_once: int = 1, *, doubted: bool = False
    ) -> Answer | None:
        """The first answer, where one try may be under way already, and so many are begun at once; None if there is none.

        Where the first is `doubted`, the next is at the same upstream, over another connection; others have to wait as long as
        that one shows that it is there.
        """
        answer = None
        self._doubted = first[:2] if doubted and first is not None else None
        async with trio.open_nursery() as nursery:
            if first is not None:
                self._await(nursery, *first)
            for _ in range(at_once - 1):
                self._begin_next(nursery)
            while answer is None and trio.current_time() < self._query.deadline:
                self._begin_next(nursery)
                if not self._under_way:
                    break
                answer = await self._next_answer()
            if answer is not None and (first is not None or at_once == 1):
                self._judge_losers()
            nursery.cancel_scope.cancel()
        return answer

    def _begin_next(self, nursery: trio.Nursery) -> None:
        """Asks the next upstream that can be asked at all."""
        while (member := self._tries.next()) is not None:
            began = trio.current_time()
            try:
                exchange = member.upstream.begin(self._query)
            except ResolveError as error:
                self._tries.failed(member, began, error)
                continue
            self._latest = member, began
            self._await(nursery, member, began, exchange)
            return

    def _await(self, nursery: trio.Nursery, member: Member, began: float, exchange: Exchange) -> None:
        self._under_way[member, began] = exchange
        nursery.start_soon(self._watch, member, began, exchange)

    async def _watch(self, member: Member, began: float, exchange: Exchange) -> None:
        outcome: Answer | ResolveError | None
        member.under_way += 1
        try:
            outcome = await exchange.answer(self._query.deadline)
        except ResolveError as error:
            outcome = error
        finally:
            member.under_way -= 1
            exchange.drop()
        self._send.send_nowait((member, began, outcome))

    async def _next_answer(self) -> Answer | None:
        """The next outcome, if it is an answer; None where something else is to be tried."""
        until = trio.current_time() + self._patience
        outcome = None
        if self._doubted is not None:
            (member, began), self._doubted = self._doubted, None
            outcome = await self._outcome_in_doubt(member)
            if outcome is None and not member.health.answered_since(began):
                return None
            until = began + self._patience
        if outcome is None:
            outcome = await self._outcome(until)
        if outcome is not None:
            return self._note(outcome, self._tries)
        if self._latest is not None:
            self._tries.late(*self._latest)
            self._latest = None
        return None

    async def _outcome_in_doubt(self, member: Member) -> Outcome | None:
        """The next while it is open whether the upstream is there. Of its two tries, one may have made room for the other."""
        until = trio.current_time() + max(4 * member.pace.smoothed, FRESH)
        outcome = await self._outcome(until)
        if outcome is not None and isinstance(outcome[2], Disconnected) and self._under_way:
            return await self._outcome(until)
        return outcome

    async def _outcome(self, until: float) -> Outcome | None:
        """The next, if there is one by then."""
        with trio.move_on_at(min(self._query.deadline, until)):
            outcome = await self._receive.receive()
            del self._under_way[outcome[:2]]
            if self._latest == outcome[:2]:
                self._latest = None
            return outcome
        return None

    def _judge_losers(self) -> None:
        """Those that were not asked to race, and kept silent altogether, will not be heard any more."""
        judged: set[Member] = set()
        for (member, began), exchange in self._under_way.items():
            if member not in judged and trio.current_time() - began >= UNUSUAL and exchange.silent:
                self._tries.unheard(member, began)
                judged.add(member)
