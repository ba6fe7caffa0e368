"""Which upstreams a name goes to: the `[[zone]]` that it lies in, or everyone's (split DNS)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio
from msgspec.structs import replace

from dohproxy.errors import NoReachableUpstream
from dohproxy.model import Answer, Name, Query, Question, Stage
from dohproxy.wire import names
from dohproxy.wire.constants import DS


class Routed:
    """Sends each question to the stage of the closest enclosing zone.

    `routes` maps zone names to stages; the root's is for all other names. `now` is the clock that answers age by. A DS
    record belongs to the parent side of a zone cut, and so is asked for where the parent's names are (RFC 4035 3.1.4.1).
    """

    def __init__(self, routes: Mapping[Name, Stage], now: Callable[[], float]) -> None:
        self._routes, self._now = dict(routes), now
        self.splits = set(routes) != {names.ROOT}
        """Whether names go different ways."""

    def zone_of(self, question: Question) -> Name | None:
        """The configured zone that decides where this question goes; None if nobody is responsible."""
        if not self.splits:
            return names.ROOT
        name = names.parent(question.qname) if question.qtype == DS and question.qname in self._routes else question.qname
        for zone in names.suffixes(name):
            if zone in self._routes:
                return zone
        return None

    def stage_of(self, question: Question) -> Stage:
        """The responsible upstreams; raises NoReachableUpstream if no zone and no upstream has the name."""
        zone = self.zone_of(question)
        if zone is None:
            raise NoReachableUpstream(f"no upstream is configured for {names.to_text(question.qname)}")
        return self._routes[zone]

    async def resolve(self, query: Query) -> Answer:
        """Their answer."""
        return self.dated(await self.stage_of(query.question).resolve(query))

    def dated(self, answer: Answer) -> Answer:
        """The answer of one of these stages, born by the clock that answers age by."""
        age = trio.current_time() - answer.born
        return replace(answer, born=self._now() - age)
