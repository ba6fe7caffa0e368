"""An upstream that is reached over QUIC where that gets through, and else over TCP (RFC 8305, between transports)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from typing import Protocol

import trio

from dohproxy.bell import Bell
from dohproxy.contained import contained, kept
from dohproxy.courses import Course, as_task
from dohproxy.errors import Disconnected, NoHandshake, NoReachableUpstream, NotReady, ResolveError
from dohproxy.model import INTERNAL, Answer, Query, Question
from dohproxy.upstream.answers import answered
from dohproxy.upstream.bootstrap import Locate
from dohproxy.upstream.exchange import Exchange
from dohproxy.upstream.pool import Pool
from dohproxy.wire.constants import NS

HEAD_START = 0.25
"""Seconds that a server has to answer QUIC's first packet before TCP is tried beside it."""
LONGER = 0.75
"""Seconds more that it has once it has answered."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 600.0
"""Seconds until QUIC is tried again while it does not get through; each pause is twice the last."""
FAREWELL = 30.0
"""Seconds that a way over QUIC has to finish what it began once there is another one: longer than anybody waits."""
_PATIENCE = 3.0
"""Seconds that such a try may take."""
_PROBE = Question(b"\0", NS)

_log = logging.getLogger("dohproxy.upstream")


class Swift(Protocol):
    """The way over QUIC: a pool that tells how it gets on."""

    @property
    def is_open(self) -> bool:
        """Whether a question would leave at once."""
        ...

    @property
    def is_heard(self) -> bool:
        """Whether the server has answered on a connection that there is now."""
        ...

    def begin(self, query: Query) -> Exchange:
        """Ask; raises ResolveError."""
        ...

    def located(self, locate: Locate) -> None:
        """How its addresses are found."""
        ...

    def renew(self) -> None:
        """The network is another one."""
        ...

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the connections until it is cancelled."""
        ...


class Either:
    """Two ways to one upstream, encrypted and verified alike: `sure` is TCP's. Serves while `run` runs.

    Whichever is ready first has a question; once QUIC does not get through, TCP has all, and QUIC is tried again, less and
    less often. `swift` is QUIC's way, if the upstream is known to have one; else that is to be `offered`.
    """

    def __init__(self, sure: Pool, swift: Swift | None = None) -> None:
        self.name = sure.name
        self.sure, self.swift = sure, swift
        self._until = inf
        self._locate: Locate | None = None
        self._leans = False
        """Whether TCP has the questions, while no connection over QUIC is open."""
        self._retry = Bell()
        self._nursery: trio.Nursery | None = None
        self._end_of_swift = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Either {self.name}: {self.swift!r}; {self.sure!r}>"

    def located(self, locate: Locate) -> None:
        """How the addresses are found, where they are not configured."""
        self._locate = locate
        self.sure.located(locate)
        if self.swift is not None:
            self.swift.located(locate)

    def offered(self, make: Callable[[], Swift] | None, seconds: float) -> None:
        """For so long there is a way over QUIC: the one that there was, unless `make` makes another.

        That one takes no more questions then, and finishes what it began. Raises what `make` raises, and all is as it was.
        """
        now = trio.current_time()
        swift = make() if make is not None and self._nursery is not None else None
        self._until = now + seconds
        if swift is None or self._nursery is None:
            return
        self._end_of_swift.deadline = now + FAREWELL
        self.swift, self._end_of_swift = None, trio.CancelScope()
        if self._locate is not None:
            swift.located(self._locate)
        self._nursery.start_soon(self._run_offered, swift, self._end_of_swift)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns both ways until it is cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self.sure.run)
            if self.swift is not None:
                await nursery.start(self._run_swift, self.swift, self._end_of_swift)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def _run_offered(self, swift: Swift, until: trio.CancelScope) -> None:
        with contained(f"the way to {self.name} over QUIC"):
            await self._run_swift(swift, until)

    async def _run_swift(
        self, swift: Swift, until: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """It may be asked once it runs."""
        try:
            with until:
                async with trio.open_nursery() as nursery:
                    await nursery.start(swift.run)
                    self.swift = swift
                    task_status.started()
        finally:
            if self.swift is swift:
                self.swift = None

    async def resolve(self, query: Query) -> Answer:
        """The upstream's answer, whatever its RCODE; raises ResolveError."""
        return await answered(self.begin(query), self.name, query.deadline)

    def begin(self, query: Query) -> Exchange | BothWays:
        """Ask, by the way that is open, or both where neither is known to be. Raises ResolveError."""
        swift = self.swift
        if swift is None or (self._until < inf and trio.current_time() >= self._until):
            return self.sure.begin(query)
        if swift.is_open:
            if self._leans:
                self._retry.ring()
            return swift.begin(query)
        if self._leans and self.sure.is_open:
            return self.sure.begin(query)
        return BothWays(self, swift, query, 0.0 if self._leans else HEAD_START)

    def renew(self) -> None:
        """The network is another one: QUIC may get through there."""
        self.sure.renew()
        if self.swift is not None:
            self.swift.renew()
        self._retry.ring()

    def lean(self) -> None:
        """TCP has the questions from now on, until QUIC gets through."""
        if self._nursery is None:
            raise NotReady(f"{self.name} is not running")
        if not self._leans:
            self._leans = True
            self._nursery.start_soon(kept, f"trying QUIC to {self.name}", self._until_swift)

    async def _until_swift(self) -> None:
        """Tries QUIC again and again; the first try is the one that is under way. Says so only if that fails."""
        pause, told = FIRST_PAUSE, False
        while (swift := self.swift) is not None and (reason := await _trouble(swift)):
            if not told:
                _log.warning("upstream %s is asked over TCP: %s", self.name, reason)
            told = True
            with trio.move_on_after(pause) as paused:
                await self._retry.heard()
            pause = min(2 * pause, LONGEST_PAUSE) if paused.cancelled_caught else FIRST_PAUSE
        self._leans = False
        if told:
            _log.warning("upstream %s is asked over QUIC again", self.name)


async def _trouble(swift: Swift) -> str:
    """Why a question is not answered over QUIC; "" if it is."""
    until = trio.current_time() + _PATIENCE
    try:
        exchange = swift.begin(Query(_PROBE, INTERNAL, until))
        try:
            return "" if await exchange.answer(until) is not None else "QUIC does not get through (no answer in time)"
        finally:
            exchange.drop()
    except NoHandshake as error:
        return f"over QUIC, {error}"
    except ResolveError as error:
        return f"QUIC does not get through ({error})"


class BothWays:
    """One question that QUIC has first, and TCP as well if the server is not heard soon."""

    def __init__(self, either: Either, swift: Swift, query: Query, head_start: float) -> None:
        self._either, self._swift, self._query = either, swift, query
        self._exchanges = [swift.begin(query)]
        self._both_from = trio.current_time() + head_start
        self._was_heard = False
        self._errors: list[ResolveError] = []
        if not head_start:
            self._ask_both()

    async def answer(self, until: float) -> Answer | None:
        """The first answer by either way, or None if there is none by then. Raises ResolveError when neither will bring one."""
        await as_task()
        while self._both_from < inf:
            answer = await self._swift_alone(min(until, self._both_from))
            if answer is not None or (self._exchanges and trio.current_time() >= until):
                return answer
            self._consider()
        return await self._any(until)

    async def _swift_alone(self, until: float) -> Answer | None:
        try:
            return await self._exchanges[0].answer(until)
        except (NoReachableUpstream, Disconnected) as error:
            self._exchanges.clear()
            self._errors.append(error)
            return None

    def _consider(self) -> None:
        """Asks over TCP too; a handshake over QUIC that is going on has a while longer."""
        if self._exchanges and self._swift.is_heard and not self._was_heard:
            self._was_heard = True
            self._both_from += LONGER
            return
        self._ask_both()

    def _ask_both(self) -> None:
        self._both_from = inf
        self._either.lean()
        self._exchanges.append(self._either.sure.begin(self._query))

    async def _any(self, until: float) -> Answer | None:
        answers: list[Answer] = []
        async with trio.open_nursery() as nursery:

            async def wait(exchange: Exchange) -> None:
                try:
                    answer = await exchange.answer(until)
                except ResolveError as error:
                    self._exchanges.remove(exchange)
                    self._errors.append(error)
                    return
                if answer is not None:
                    answers.append(answer)
                    nursery.cancel_scope.cancel()

            for exchange in self._exchanges:
                nursery.start_soon(wait, exchange)
        if not answers and not self._exchanges:
            raise self._error()
        return answers[0] if answers else None

    def _error(self) -> ResolveError:
        """TCP's, unless QUIC's was a mishap after which the question may be asked once more."""
        return next((error for error in self._errors if isinstance(error, Disconnected)), self._errors[-1])

    def leave_to(self, course: Course, until: float) -> None:
        """It takes a task: `answer` is to be awaited."""

    @property
    def silent(self) -> bool:
        """Whether nothing was heard by either way since it was asked."""
        return all(exchange.silent for exchange in self._exchanges)

    def drop(self) -> None:
        """Nobody wants the answer any more."""
        for exchange in self._exchanges:
            exchange.drop()
