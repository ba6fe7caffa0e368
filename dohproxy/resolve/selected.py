"""A group of upstreams, asked in the order of the configuration, with fail-over within one deadline."""

from __future__ import annotations

import logging
from math import inf

import trio

from dohproxy.config import settings
from dohproxy.errors import NoReachableUpstream, ResolveError
from dohproxy.model import INTERNAL, Answer, Query, Question
from dohproxy.resolve.failover import REFUSALS, Exchange, Member, Tries, Upstream
from dohproxy.resolve.health import pauses
from dohproxy.wire.constants import NS

_PROBE = Question(b"\0", NS)
"""What every resolver has at hand."""

_log = logging.getLogger("dohproxy.upstream")

Outcome = tuple[Member, float, Answer | ResolveError | None]
"""Who was asked, when, and what came of it."""


class Group:
    """A stage over upstreams, of which the first in order that is up is asked first. Serves while `run` runs.

    A try that fails goes on at once with the next upstream. One that has no answer after `try_timeout` seconds starts
    the next too, and may still win. `where` names the group in the log: "" or a zone.
    """

    def __init__(self, upstreams: tuple[Upstream, ...], forwarding: settings.Forwarding, *, where: str = "") -> None:
        self._members = tuple(map(Member, upstreams))
        self._order = self._members
        """The same, those that are up first."""
        self._try_timeout = forwarding.try_timeout
        self._timeout = forwarding.timeout
        self._where = f" for {where}" if where else ""
        self._unreachable = False
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        members = ", ".join(f"{m.name} up" if m.health.up else f"{m.name} down ({m.health.reason})" for m in self._members)
        return f"<Group{self._where}: {members}>"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the upstreams and, in the background, probes those that are down; until cancelled.

        It begins with a question of its own, so that a connection is there, or its absence told, before a client asks.
        """
        async with trio.open_nursery() as nursery:
            for member in self._members:
                await nursery.start(member.upstream.run)
            self._nursery = nursery
            task_status.started()
            try:
                nursery.start_soon(self._try_out)
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _try_out(self) -> None:
        try:
            await self.resolve(self._probe_query())
        except ResolveError as error:
            _log.debug("the first question%s failed: %s", self._where, error)

    async def resolve(self, query: Query) -> Answer:
        """The answer of the first upstream that gives one. Raises NoReachableUpstream, UpstreamFailed, Overloaded or NotReady.

        While all goes well this costs no task and no cancel scope.
        """
        began = trio.current_time()
        member = self._order[0] if not query.avoid else self._members_for(query)[0]
        exchange = None
        try:
            exchange = member.upstream.begin(query)
            outcome: Answer | ResolveError | None = await exchange.answer(min(query.deadline, began + self._try_timeout))
        except ResolveError as error:
            outcome = error
        if isinstance(outcome, Answer) and outcome.rcode not in REFUSALS:
            self._succeeded(member)
            return outcome
        return await self._fail_over(query, (member, began, outcome), exchange)

    async def _fail_over(self, query: Query, first: Outcome, exchange: Exchange | None) -> Answer:
        tries = Tries((first[0], *(m for m in self._members_for(query) if m is not first[0])), self._went_down)
        tries.next()
        answer = await _Race(self, query, tries, self._try_timeout).run(first, exchange)
        if answer is not None:
            return answer
        error = tries.error()
        if isinstance(error, NoReachableUpstream):
            for member in self._members:
                self._probe_soon(member)
        raise error

    def _members_for(self, query: Query) -> tuple[Member, ...]:
        """In the order to ask them: those that the query would rather avoid last."""
        return tuple(sorted(self._order, key=lambda member: member.name in query.avoid))

    def note(self, outcome: Outcome, tries: Tries) -> Answer | None:
        """Takes an outcome into account; the answer, if it is one to give."""
        member, began, what = outcome
        if what is None:
            tries.late(member, began)
        elif isinstance(what, ResolveError):
            tries.failed(member, began, what)
        else:
            self._succeeded(member)
            if what.rcode not in REFUSALS:
                return what
            tries.refused(member, what)
        return None

    # Health

    def _succeeded(self, member: Member) -> None:
        if member.health.succeeded(trio.current_time()):
            self._reorder()
            _log.info("upstream %s answers again", member.name)
        if self._unreachable:
            self._unreachable = False
            _log.warning("upstreams%s can be reached again: %s answers", self._where, member.name)

    def _went_down(self, member: Member) -> None:
        self._reorder()
        _log.info("upstream %s is left alone for now: %s", member.name, member.health.reason)
        self._probe_soon(member)

    def _reorder(self) -> None:
        self._order = tuple(sorted(self._members, key=lambda member: not member.health.up))

    def _probe_soon(self, member: Member) -> None:
        if self._nursery is not None and not member.probed:
            member.probed = True
            self._nursery.start_soon(self._probe_until_up, member)

    async def _probe_until_up(self, member: Member) -> None:
        """Asks one upstream a cheap question, less and less often, until it answers whatever it may be."""
        try:
            for pause in pauses():
                if await self._probe(member):
                    return
                await trio.sleep(pause)
        finally:
            member.probed = False

    async def _probe(self, member: Member) -> bool:
        began, query = trio.current_time(), self._probe_query()
        try:
            exchange = member.upstream.begin(query)
            try:
                answer = await exchange.answer(query.deadline)
            finally:
                exchange.drop()
            reason = "no answer in time"
        except ResolveError as error:
            answer, reason = None, str(error)
        if answer is not None:
            self._succeeded(member)
        elif member.health.failed(reason, began, certain=True):
            self._reorder()
        self._report_if_unreachable()
        return member.health.up

    def _probe_query(self) -> Query:
        return Query(_PROBE, INTERNAL, trio.current_time() + self._timeout)

    def _report_if_unreachable(self) -> None:
        """Says once that nothing works, and not again before something does."""
        if self._unreachable or any(member.health.up for member in self._members):
            return
        self._unreachable = True
        reasons = "; ".join(f"{member.name}: {member.health.reason}" for member in self._members)
        _log.warning("no upstream can be reached%s: %s; still trying", self._where, reasons)


class _Race:
    """One question with several tries under way, of which the first answer wins and ends the others."""

    def __init__(self, group: Group, query: Query, tries: Tries, patience: float) -> None:
        self._group = group
        self._query = query
        self._tries = tries
        self._patience = patience
        self._latest: tuple[Member, float] | None = None
        """The try that was begun last, while it is not yet late."""
        self._under_way = 0
        self._send, self._receive = trio.open_memory_channel[Outcome](inf)

    async def run(self, first: Outcome, exchange: Exchange | None) -> Answer | None:
        """Goes on from the outcome of the first try, which is still under way if that was None."""
        answer = self._group.note(first, self._tries)
        async with trio.open_nursery() as nursery:
            if first[2] is None and exchange is not None:
                self._await(nursery, first[0], first[1], exchange)
            while answer is None and trio.current_time() < self._query.deadline:
                self._begin_next(nursery)
                if not self._under_way:
                    break
                answer = await self._next_answer()
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
        self._under_way += 1
        nursery.start_soon(self._watch, member, began, exchange)

    async def _watch(self, member: Member, began: float, exchange: Exchange) -> None:
        outcome: Answer | ResolveError | None
        try:
            outcome = await exchange.answer(self._query.deadline)
        except ResolveError as error:
            outcome = error
        finally:
            exchange.drop()
        self._send.send_nowait((member, began, outcome))

    async def _next_answer(self) -> Answer | None:
        """The next outcome, if it is an answer; None where something else is to be tried."""
        with trio.move_on_at(min(self._query.deadline, trio.current_time() + self._patience)):
            outcome = await self._receive.receive()
            self._under_way -= 1
            if self._latest == outcome[:2]:
                self._latest = None
            return self._group.note(outcome, self._tries)
        if self._latest is not None:
            self._tries.late(*self._latest)
            self._latest = None
        return None
