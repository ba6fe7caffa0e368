"""A group of upstreams: which of them is asked, and who else when that does not help, within one deadline."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from random import SystemRandom

import trio
from msgspec import Struct
from msgspec.structs import replace

from dohproxy.config import settings
from dohproxy.contained import contained
from dohproxy.courses import Exchange, as_task
from dohproxy.dnssec.budget import Budget
from dohproxy.errors import Disconnected, NoReachableUpstream, ResolveError, UpstreamFailed
from dohproxy.model import INTERNAL, Answer, Name, Query
from dohproxy.resolve.contest import UNUSUAL, Contest, Outcome
from dohproxy.resolve.failover import REFUSALS, Tries
from dohproxy.resolve.hedging import Hedge
from dohproxy.resolve.member import Member, Upstream
from dohproxy.resolve.standing import PROBE, Standing
from dohproxy.resolve.strategies import strategy_of

_PATIENCE_WHEN_LOST = 1.0
"""Seconds that a question may take, beyond what is usual, while no upstream is up: clients do better with a quick error."""

_chance = SystemRandom().random

_log = logging.getLogger("dohproxy.upstream")


class Begun(Struct, eq=False):
    """A question put to the first upstream, when, and until when (monotonic seconds) it is given to answer alone.

    It ends once: by `Group.succeeded`, by being taken up, or by `let_go`.
    """

    group: Group
    _query: Query
    member: Member
    began: float
    exchange: Exchange
    until: float
    is_over: bool = False
    budget: Budget | None = None
    """What judging its answer may still cost, where that has begun."""

    def end(self) -> None:
        """It is not under way here any more."""
        if not self.is_over:
            self.is_over = True
            self.member.under_way -= 1

    def let_go(self) -> None:
        """Nobody goes on with it; does nothing to one that is over."""
        if not self.is_over:
            self.end()
            self.exchange.drop()

    def is_of(self, query: Query) -> bool:
        """Whether it may answer this query."""
        mine = self._query
        return not self.is_over and query.question == mine.question and query.cd == mine.cd and not query.avoid


class Group:
    """A stage over upstreams, of which its strategy says who is asked first. Serves while `run` runs.

    A try that fails goes on at once with the next upstream. One that has no answer after `try_timeout` seconds starts
    the next too, and may still win. If the upstream kept silent for four times as long as usual, the question is asked again
    over another connection of the same upstream, beside a probe; and elsewhere as soon as that shows no sign of life either.
    Within the budget of `hedge`, it is asked elsewhere as soon as the answer is late.

    `where` names the group in the log: "" or a zone. `chance` and `secret` are what the strategies go by; `on_return` is
    called when something can be reached after nothing could.
    """

    def __init__(
        self,
        upstreams: tuple[Upstream, ...],
        forwarding: settings.Forwarding,
        *,
        where: str = "",
        chance: Callable[[], float] = _chance,
        secret: bytes | None = None,
        on_return: Callable[[], None] = lambda: None,
    ) -> None:
        self._timeout, self._try_timeout = forwarding.timeout, forwarding.try_timeout
        self._unusual = min(UNUSUAL, forwarding.try_timeout)
        self._where = f" for {where}" if where else ""
        self._standing = Standing(upstreams, forwarding.timeout, self._where, on_return)
        self._strategy = strategy_of(forwarding, len(upstreams), chance, secret or os.urandom(16))
        self._hedge = Hedge(forwarding.hedge) if forwarding.hedge and len(upstreams) > 1 else None
        self._is_plain = self._strategy is None
        self._is_narrow = self._strategy is not None and self._strategy.width == 1
        self._time = trio.current_time
        """The same as that; while it runs with two calls less."""

    def __repr__(self) -> str:
        return f"<Group{self._where}: {self._standing!r}>"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs the upstreams and, in the background, probes those that are down; until cancelled.

        It begins with a question of its own, so that a connection is there, or its absence told, before a client asks.
        """
        async with trio.open_nursery() as nursery:
            for member in self._standing.members:
                await nursery.start(member.upstream.run)
            self._standing.nursery = nursery
            self._time = trio.lowlevel.current_clock().current_time
            task_status.started()
            try:
                nursery.start_soon(self._try_out)
                await trio.sleep_forever()
            finally:
                self._standing.nursery = None

    async def _try_out(self) -> None:
        with contained("the first question"):
            try:
                await self.resolve(Query(PROBE, INTERNAL, trio.current_time() + self._timeout))
            except ResolveError as error:
                _log.debug("the first question%s failed: %s", self._where, error)

    @property
    def is_lost(self) -> bool:
        """Whether no upstream is up."""
        return self._standing.lost

    def renew(self) -> None:
        """The network is another one: connections are replaced, and what was known of upstreams is found out anew."""
        self._standing.renew()

    def doubt(self, upstream: str, name: Name, reason: str) -> None:
        """What the upstream with this name said of a domain name did not hold, and another one's answer did."""
        for member in self._standing.members:
            if member.name == upstream:
                self._standing.doubt(member, name, reason)

    async def resolve(self, query: Query) -> Answer:
        """The answer of the first upstream that gives one. Raises NoReachableUpstream, UpstreamFailed, Overloaded or NotReady.

        While all goes well this costs no task and no cancel scope, unless several are asked at once.
        """
        begun = query.begun
        if isinstance(begun, Begun) and begun.group is self and begun.is_of(query):
            return await self._taken_up(query, begun)
        began = trio.current_time()
        standing = self._standing
        if self._is_plain and not query.avoid and not standing.lost:
            member = standing.order[0]
        else:
            query = self._within_reason(query, began)
            members = self._members_for(query, began)
            if self._strategy is not None and self._strategy.width > 1 and not query.avoid:
                return await self._contest(query, Tries(members, self._standing.went_down), None, self._strategy.width)
            member = members[0]
        exchange: Exchange | None = None
        outcome: Answer | ResolveError | None
        member.under_way += 1
        try:
            exchange = member.upstream.begin(query)
            outcome = await exchange.answer(min(query.deadline, began + self._patience(member)))
        except ResolveError as error:
            outcome = error
        finally:
            member.under_way -= 1
        return await self._gone_well(query, (member, began, outcome), exchange)

    # Begun beside the stages

    def begin(self, query: Query) -> Begun | None:
        """The question put to who is to be asked first; raises ResolveError. See `Straight`.

        None unless all goes well, and one upstream is asked first.
        """
        standing = self._standing
        if standing.lost or not (self._is_plain or self._is_narrow):
            return None
        began = self._time()
        member = standing.order[0] if self._is_plain else self._members_for(query, began)[0]
        until = min(query.deadline, began + self._patience(member))
        exchange = member.upstream.begin(query)
        member.under_way += 1
        return Begun(self, query, member, began, exchange, until)

    def succeeded(self, begun: Begun) -> None:
        """It was answered, and that was all."""
        begun.end()
        self._succeeded(begun.member, begun.began)

    async def _taken_up(self, query: Query, begun: Begun) -> Answer:
        outcome: Answer | ResolveError | None
        try:
            outcome = await begun.exchange.answer(min(begun.until, query.deadline))
        except ResolveError as error:
            outcome = error
        finally:
            begun.end()
        return await self._gone_well(query, (begun.member, begun.began, outcome), begun.exchange)

    async def _gone_well(self, query: Query, first: Outcome, exchange: Exchange | None) -> Answer:
        """The answer of the first try, or that which comes of failing over."""
        member, began, outcome = first
        if isinstance(outcome, Answer) and outcome.rcode not in REFUSALS:
            self._succeeded(member, began)
            return outcome
        return await self._fail_over(query, first, exchange)

    def _patience(self, member: Member) -> float:
        """Seconds after which others may be asked beside this one: see `_ask_beside`."""
        usual = self._usual(member)
        return usual if self._hedge is None else min(usual, self._hedge.asked())

    def _usual(self, member: Member) -> float:
        """Seconds within which this one answers, or at least answers something."""
        usual = 4 * member.pace.smoothed
        if usual < self._unusual:  # rather than max and min, which take as long as all the rest
            return self._unusual
        return usual if usual < self._try_timeout else self._try_timeout  # noqa: FURB136

    def _within_reason(self, query: Query, began: float) -> Query:
        if not self._standing.lost:
            return query
        usual = max(member.pace.smoothed for member in self._standing.members)
        return replace(query, deadline=min(query.deadline, began + _PATIENCE_WHEN_LOST + 4 * usual))

    def _members_for(self, query: Query, now: float) -> Sequence[Member]:
        """In the order to ask them: those that the query would rather avoid last."""
        members: Sequence[Member] = self._standing.order
        if self._strategy is not None:
            members = self._strategy.order(query.question.qname, members, now)
        return sorted(members, key=lambda member: member.name in query.avoid) if query.avoid else members

    # When it does not go well

    async def _fail_over(self, query: Query, first: Outcome, exchange: Exchange | None) -> Answer:
        member, began, what = first
        others = (m for m in self._members_for(query, began) if m is not member)
        tries = Tries((member, *others), self._standing.went_down)
        tries.next()
        doubted = False
        if what is None and exchange is not None:
            what, doubted = await self._ask_beside(query, member, began, exchange, tries)
        if what is None and exchange is not None:
            return await self._contest(query, tries, (member, began, exchange), doubted=doubted)
        answer = self._note(query, (member, began, what), tries)
        return answer or await self._contest(query, tries, None)

    async def _ask_beside(
        self, query: Query, member: Member, began: float, exchange: Exchange, tries: Tries
    ) -> tuple[Answer | ResolveError | None, bool]:
        """Waits on where nothing speaks against that: what came, if anything; and whether it is to be doubted that any will."""
        usual = began + self._usual(member)
        try:
            if trio.current_time() < usual:
                if self._hedge is not None and self._hedge.spend():
                    tries.tarries(member)
                    return None, False
                if (answer := await exchange.answer(min(query.deadline, usual))) is not None:
                    return answer, False
            if exchange.silent and usual < began + self._try_timeout:
                self._standing.probe_soon(member)  # first: some servers take one question after the other
                tries.tarries(member, silent=True)
                return None, True
            answer = await exchange.answer(min(query.deadline, began + self._try_timeout))
        except ResolveError as error:
            return error, False
        except BaseException:
            exchange.drop()
            raise
        if answer is None:
            tries.late(member, began)
            member.pace.late(trio.current_time() - began, trio.current_time())
        return answer, False

    async def _contest(
        self,
        query: Query,
        tries: Tries,
        first: tuple[Member, float, Exchange] | None,
        at_once: int = 1,
        *,
        doubted: bool = False,
    ) -> Answer:
        def note(outcome: Outcome, tries: Tries) -> Answer | None:
            return self._note(query, outcome, tries)

        await as_task()
        answer = await Contest(query, tries, self._try_timeout, note).run(first, at_once, doubted=doubted)
        if answer is not None:
            return answer
        error = tries.error()
        if isinstance(error, NoReachableUpstream):
            for member in self._standing.members:
                self._standing.probe_soon(member)
        raise error

    def _note(self, query: Query, outcome: Outcome, tries: Tries) -> Answer | None:
        """Takes an outcome into account; the answer, if it is one to give."""
        member, began, what = outcome
        if what is None:
            tries.late(member, began)
        elif isinstance(what, ResolveError):
            tries.failed(member, began, what)
            if isinstance(what, UpstreamFailed) and not isinstance(what, Disconnected):
                self._standing.doubt(member, query.question.qname, str(what))
        else:
            self._succeeded(member, began)
            if what.rcode not in REFUSALS:
                return what
            tries.refused(member, what)
        return None

    def _succeeded(self, member: Member, began: float) -> None:
        now = self._time()
        member.pace.answered(now - began, now)
        if self._hedge is not None:
            self._hedge.answered(now - began)
        if member.health.succeeded(now):
            self._standing.came_back(member)
