"""The straight way: one call down to an upstream's connection and one back up, where no stage has anything to do but go on.

That is what most misses are, and a coroutine in every stage for nothing is most of what they cost. Nothing is decided here:
each stage is asked for its part, which `resolve` of that stage asks for too (`Policed.let_through`, `Local.find`,
`Cached.look`, `Validated.at_hand`, …). As soon as one has more to do than go on, the question takes the way through the stages
from the first; what was begun at an upstream is taken up there (`Group.take_up`). Without this module all is answered the same.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Protocol

from dohproxy.cache.answers import Key, key_of
from dohproxy.contained import is_defect, tell
from dohproxy.courses import Course, Courses
from dohproxy.errors import ResolveError
from dohproxy.model import Answer, Name, Query
from dohproxy.policy.group import blocks
from dohproxy.resolve.cached import Cached
from dohproxy.resolve.chased import Chased, has_alias
from dohproxy.resolve.failover import REFUSALS
from dohproxy.resolve.flights import Flight, Flights
from dohproxy.resolve.local import Local
from dohproxy.resolve.policed import Passage, Policed
from dohproxy.resolve.routed import Routed
from dohproxy.resolve.selected import Begun, Group
from dohproxy.resolve.validated import Validated


class Asker(Protocol):
    """Who wants an answer; is told one of these once."""

    @property
    def query(self) -> Query:
        """What is asked."""
        ...

    def answered(self, answer: Answer, now: float) -> None:
        """Here it is; `now` by the clock that answers age by."""
        ...

    def failed(self, error: ResolveError) -> None:
        """There is none."""
        ...

    def abandoned(self) -> None:
        """Nobody looks for it any more: it all ends."""
        ...

    def by_stages(self) -> Coroutine[object, None, None]:
        """The whole way, through all stages, to its end."""
        ...


class Straight:
    """Knows the stages, and asks them in their order.

    `is_elsewhere` tells whether a stage that is not among them may want the question now: then it is theirs.
    """

    def __init__(
        self,
        policed: Policed,
        local: Local,
        cached: Cached,
        flights: Flights,
        validated: Validated | None,
        chased: Chased,
        routed: Routed,
        groups: Mapping[Name, Group],
        is_elsewhere: Callable[[Query], bool] | None,
        now: Callable[[], float],
    ) -> None:
        self._policed, self._local, self._cached, self._flights = policed, local, cached, flights
        self._validated, self._chased, self._routed, self._groups = validated, chased, routed, groups
        self._is_elsewhere, self.now = is_elsewhere, now

    def begin(self, asker: Asker, courses: Courses, now: float) -> bool:
        """Answer at once, or ask; False where that takes the stages, and nothing was done. Raises nothing.

        `now` is by the clock that answers age by.
        """
        try:
            return self._begin(asker, courses, now)
        except ResolveError:
            return False  # to be met again, where it has its place
        except BaseException as error:
            if not is_defect(error):
                raise
            tell("a query", error)
            return False

    def _begin(self, asker: Asker, courses: Courses, now: float) -> bool:
        query = asker.query
        question = query.question
        if query.minimal or (self._is_elsewhere is not None and self._is_elsewhere(query)):
            return False
        passage = self._policed.passage(query)
        if blocks(passage.asked) or self._local.find(question) is not None:
            return False
        below = self._policed.as_wanted(query, passage)
        key = key_of(question, below.cd)
        found = self._cached.look(key, below, now)
        if isinstance(found, Answer):
            asker.answered(self._policed.let_through(query, passage, found), now)
            return True
        if found is not None or self._flights.under_way(key) or self._chased.redirects(below):
            return False
        zone = self._routed.zone_of(question)
        if zone is None or (begun := self._groups[zone].begin(below)) is None:
            return False
        errand = _Errand(self, courses, asker, passage, below, key, self._groups[zone], begun)
        if begun.exchange.leave_to(errand, begun.until):
            errand.flight = self._flights.take_off(key)
            courses.add(errand)
        else:
            errand.group.take_up(below, begun)
            courses.begin(errand.rest())
        return True

    def landed(self, errand: _Errand, now: float) -> Answer | None:
        """The answer as the client may have it; None where that takes the stages. Raises ResolveError where it may not."""
        query = errand.below
        try:
            answer = errand.begun.exchange.made(now)
        except ResolveError:  # it cannot be read: the stages know what to do
            return None
        if answer.rcode in REFUSALS or has_alias(answer):
            return None
        if self._validated is not None and not query.cd:
            judged = self._validated.at_hand(query, answer)
            if judged is None:
                return None
            answer = judged
        errand.group.succeeded(errand.begun)
        answer = self._cached.keep(errand.key, query, answer, now)
        self._flights.land(errand.key, errand.flight, answer)
        return self._policed.let_through(errand.asker.query, errand.passage, answer)

    def hand_over(self, errand: _Errand) -> None:
        """Whoever shares the flight has it taken on."""
        self._flights.hand_over(errand.key, errand.flight, partial(self._cached.fetch, errand.key, errand.below))


class _Errand(Course):
    """One question on the straight way; a course that is no coroutine."""

    __slots__ = ("_straight", "asker", "begun", "below", "flight", "group", "key", "passage")

    flight: Flight

    def __init__(
        self,
        straight: Straight,
        courses: Courses,
        asker: Asker,
        passage: Passage,
        below: Query,
        key: Key,
        group: Group,
        begun: Begun,
    ) -> None:
        self._courses = courses
        self._straight, self.asker, self.passage = straight, asker, passage
        self.below, self.key, self.group, self.begun = below, key, group, begun

    def step(self) -> None:
        """The upstream has answered. Raises nothing."""
        now = self._straight.now()
        try:
            answer = self._straight.landed(self, now)
        except ResolveError as error:
            self.asker.failed(error)
        except BaseException as error:  # noqa: BLE001 -- whoever steps is innocent of it
            self._fail(error)
            return
        else:
            if answer is not None:
                self.asker.answered(answer, now)
            else:
                self._turn_off()
                self._courses.begin(self.rest())
        self._courses.leave(self)

    def go_on(self) -> None:
        """No answer, or none in time: the stages go on with that, in a task."""
        self._turn_off()
        self._courses.promote(self)

    def close(self) -> None:
        """End it where it is."""
        self._turn_off()
        self.group.let_go(self.below, self.begun)
        self.asker.abandoned()

    def _turn_off(self) -> None:
        self._straight.hand_over(self)
        self.group.take_up(self.below, self.begun)

    async def rest(self) -> None:
        """Through the stages, where what was begun is taken up."""
        try:
            await self.asker.by_stages()
        finally:
            self.group.let_go(self.below, self.begun)

    def _fail(self, error: BaseException) -> None:
        self._straight.hand_over(self)
        self.asker.failed(ResolveError("internal error"))
        self._courses.fail(self, error)
