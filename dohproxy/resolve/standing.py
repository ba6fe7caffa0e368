"""How the upstreams of a group stand: who is up, who is trusted, and the questions in the background that find it out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import trio

from dohproxy.contained import tell
from dohproxy.courses import Exchange
from dohproxy.errors import ResolveError
from dohproxy.model import INTERNAL, Answer, Name, Query, Question
from dohproxy.resolve.health import FIRST_PAUSE, pauses
from dohproxy.resolve.member import Member, Upstream
from dohproxy.resolve.pace import Pace
from dohproxy.wire.constants import NS
from dohproxy.wire.names import to_text

PROBE = Question(b"\0", NS)
"""What every resolver has at hand."""
_QUIET = 60.0
"""Seconds between two lines of the log about doubts in one upstream."""

_Probe = tuple[float, Exchange | ResolveError]
"""When it was begun, and what came of beginning it."""

_log = logging.getLogger("dohproxy.upstream")


class Standing:
    """The members of a group, `order` having them by rank and then as configured. Probes while `nursery` is there.

    `timeout` is that of one probe (seconds); `where` names the group in the log, `on_return` is called when something
    answers after nothing did.
    """

    def __init__(self, upstreams: Iterable[Upstream], timeout: float, where: str, on_return: Callable[[], None]) -> None:
        self.members = tuple(map(Member, upstreams))
        self.order = self.members
        self.lost = False
        """Whether none is up."""
        self.nursery: trio.Nursery | None = None
        self._timeout, self._where, self._on_return = timeout, where, on_return
        self._told_lost = self._owes_return = False
        self._told_doubt = dict.fromkeys(self.members, float("-inf"))

    def __repr__(self) -> str:
        return ", ".join(map(_described, self.members))

    def came_back(self, member: Member) -> None:
        """Its health turned good."""
        self._end_probing(member)
        self.rank()
        if self._told_lost:
            self._told_lost = False
            _log.warning("upstreams%s can be reached again: %s answers", self._where, member.name)
        else:
            _log.info("upstream %s answers again", member.name)
        if self._owes_return:
            self._owes_return = False
            self._on_return()

    def went_down(self, member: Member) -> None:
        """Its health turned bad."""
        self.rank()
        _log.info("upstream %s is left alone for now: %s", member.name, member.health.reason)
        self.probe_soon(member)

    def rank(self) -> None:
        """Put the members in order anew."""
        now = trio.current_time()
        for member in self.members:
            member.rank = 2 if not member.health.up else 1 if member.doubts.tolerable_in(now) > 0 else 0
        self.order = tuple(sorted(self.members, key=lambda member: member.rank))
        self.lost = self.order[0].rank == 2
        self._owes_return |= self.lost

    def renew(self) -> None:
        """The network is another one: nothing that was found out about reaching upstreams holds any more."""
        for member in self.members:
            member.upstream.renew()
            member.health.reset()
            member.pace = Pace()
            self._end_probing(member)
        self.rank()
        for member in self.members:
            self.probe_soon(member)

    # Doubts

    def doubt(self, member: Member, name: Name, reason: str) -> None:
        """What it said of this name did not hold, for this reason."""
        now = trio.current_time()
        if not member.doubts.raised(name, now):
            return
        self.rank()
        if now - self._told_doubt[member] >= _QUIET:
            self._told_doubt[member] = now
            _log.warning("upstream %s is doubted, for what it says of %s: %s", member.name, to_text(name), reason)
        if member.rank and self.nursery is not None:
            self.nursery.start_soon(self._rank_again_in, member.doubts.tolerable_in(now))

    async def _rank_again_in(self, seconds: float) -> None:
        await trio.sleep(seconds + 0.001)
        self.rank()

    # Probes

    def probe_soon(self, member: Member) -> None:
        """Ask whether it answers, now and in the background, unless that is done already."""
        if self.nursery is not None and member.probing is None:
            member.probing = trio.CancelScope()
            self.nursery.start_soon(self._probe_until_up, member, member.probing, self._begun(member))

    @staticmethod
    def _end_probing(member: Member) -> None:
        if member.probing is not None:
            member.probing.cancel()
            member.probing = None

    async def _probe_until_up(self, member: Member, scope: trio.CancelScope, begun: _Probe) -> None:
        """Asks one upstream a cheap question, less and less often, until it answers whatever it may be.

        While there is none that answers, the question is cheaper than waiting: it is asked as often as at first.
        """
        with scope:
            for pause in pauses():
                if await self._probe(member, begun):
                    break
                await trio.sleep(FIRST_PAUSE if self.lost else pause)
                begun = self._begun(member)
        if member.probing is scope:
            member.probing = None

    def _begun(self, member: Member) -> _Probe:
        began = trio.current_time()
        try:
            return began, member.upstream.begin(Query(PROBE, INTERNAL, began + self._timeout))
        except ResolveError as error:
            return began, error
        except Exception as defect:  # noqa: BLE001 -- told
            return began, _failed(member, defect)

    async def _probe(self, member: Member, begun: _Probe) -> bool:
        began, exchange = begun
        try:
            answer, reason = await self._outcome(exchange, began + self._timeout)
        except Exception as defect:  # noqa: BLE001 -- told
            answer, reason = None, str(_failed(member, defect))
        if answer is not None:
            if member.health.succeeded(trio.current_time()):
                self.came_back(member)
        elif member.health.failed(reason, began, certain=True):
            self.went_down(member)
        self._tell_if_lost()
        return member.health.up

    @staticmethod
    async def _outcome(exchange: Exchange | ResolveError, until: float) -> tuple[Answer | None, str]:
        """The answer, or why there is none."""
        if isinstance(exchange, ResolveError):
            return None, str(exchange)
        try:
            return await exchange.answer(until), "no answer in time"
        except ResolveError as error:
            return None, str(error)
        finally:
            exchange.drop()

    def _tell_if_lost(self) -> None:
        """Says once that nothing works, and not again before something does."""
        if self._told_lost or not self.lost:
            return
        self._told_lost = True
        reasons = "; ".join(f"{member.name}: {member.health.reason}" for member in self.members)
        _log.warning("no upstream can be reached%s: %s; still trying", self._where, reasons)


def _failed(member: Member, defect: Exception) -> ResolveError:
    tell(f"probing {member.name}", defect)
    return ResolveError("internal error")


def _described(member: Member) -> str:
    if not member.health.up:
        return f"{member.name} down ({member.health.reason})"
    return f"{member.name} up{', doubted' if member.rank else ''}"
