"""The straight way: one call down to an upstream's connection and one back up, where no stage has anything to do but go on.

That is what most misses are, and a coroutine in every stage for nothing is most of what they cost. Nothing is decided here:
each stage is asked for its part, which `resolve` of that stage asks for too (`Policed.let_through`, `Local.find`,
`Cached.look`, `Validated.at_hand`, …). As soon as one has more to do than go on, the question takes the way through the stages
from the first; what was begun at an upstream is taken up there (`Query.begun`). Without this module all is answered the same.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from dohproxy.cache.answers import Key, key_of
from dohproxy.contained import contained, is_defect, tell
from dohproxy.courses import Course, Courses, Left
from dohproxy.dnssec.budget import Budget
from dohproxy.errors import ResolveError
from dohproxy.model import Answer, Name, Query, Question, Security
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
from dohproxy.wire.names import ROOT

_FAILED = (Security.BOGUS, Security.INDETERMINATE)


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

    def by_stages(self, begun: Begun | None = None) -> Coroutine[object, None, None]:
        """The whole way, through all stages, to its end; what was begun is taken up there, or let go."""
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
        self._policed, self._local, self._cached, self.flights = policed, local, cached, flights
        self._validated, self._chased, self._routed, self._groups = validated, chased, routed, groups
        self._is_elsewhere, self.now = is_elsewhere, now
        self._sole = None if routed.splits else groups.get(ROOT)
        """Who is asked whatever the name."""

    def begin(self, asker: Asker, courses: Courses, now: float) -> bool:
        """Answer at once, or ask; False where that takes the stages, and nothing was done. Raises nothing.

        `now` is by the clock that answers age by.
        """
        try:
            found = self._begin(asker, courses, now)
        except ResolveError:
            return False  # to be met again, where it has its place
        except BaseException as error:
            if not is_defect(error):
                raise
            tell("a query", error)
            return False
        if isinstance(found, Answer):
            asker.answered(found, now)
        return found is not False

    def _begin(self, asker: Asker, courses: Courses, now: float) -> Answer | bool:
        """The answer at hand, or whether it is asked for."""
        query = asker.query
        question = query.question
        group = self._sole or self._group_of(question)
        if query.minimal or group is None:
            return False
        if self._is_elsewhere is not None and self._is_elsewhere(query):
            return False
        passage = self._policed.passage(query)
        if (passage.asked is not None and blocks(passage.asked)) or self._local.find(question) is not None:
            return False
        below = self._policed.as_wanted(query, passage)
        key = key_of(question, below.cd)
        found = self._cached.look(key, below, now)
        if isinstance(found, Answer):
            return False if found.security in _FAILED else self._policed.let_through(query, passage, found)
        if found is not None or self.flights.under_way(key) or self._chased.redirects(below):
            return False
        begun = group.begin(below)
        if begun is not None:
            _Errand(self, courses, asker, passage, below, key, begun).begin()
        return begun is not None

    def _group_of(self, question: Question) -> Group | None:
        zone = self._routed.zone_of(question)
        return None if zone is None else self._groups[zone]

    def landed(self, errand: _Errand, now: float) -> Answer | None:
        """The answer as the client may have it; None where that takes the stages. Raises ResolveError where it may not."""
        query, begun = errand.below, errand.begun
        try:
            answer = given = errand.left.made(now)
        except ResolveError:  # it cannot be read: the stages know what to do
            return None
        aliased = has_alias(given)
        if given.rcode in REFUSALS or (aliased and not self._chased.is_whole(query, given)):
            return None
        if self._validated is not None and not query.cd:
            judged = self._validated.at_hand(query, given)
            if isinstance(judged, Budget):
                begun.budget = judged
                return None
            answer = judged
        if aliased:  # not sooner: the stages would be redirected by what they have not seen yet
            self._chased.learn(query, given)
        begun.group.succeeded(begun)
        answer = self._cached.keep(errand.key, answer, now)
        self.flights.land(errand.key, errand.flight, answer)
        return self._policed.let_through(errand.asker.query, errand.passage, answer)

    def turn_off(self, errand: _Errand, *, always: bool = False) -> Begun | None:
        """The question takes the stages. Where others share the flight, or will, it goes on by itself with what was begun;
        else that is to be taken up by the asker.
        """
        begun = errand.begun
        take = partial(self._fly_on, errand.key, replace(errand.below, begun=begun), begun)
        return None if self.flights.hand_over(errand.key, errand.flight, take, always=always) else begun

    async def _fly_on(self, key: Key, query: Query, begun: Begun) -> Answer:
        try:
            return await self._cached.fetch(key, query)
        finally:
            begun.let_go()

    def give_up(self, errand: _Errand) -> None:
        """Its asker is gone: whoever shares the flight asks anew."""
        errand.begun.let_go()
        self.flights.hand_over(errand.key, errand.flight, partial(self._cached.fetch, errand.key, errand.below))


class _Errand(Course):
    """One question on the straight way."""

    __slots__ = ("_courses", "_straight", "asker", "begun", "below", "flight", "key", "left", "passage")

    flight: Flight
    left: Left

    def __init__(
        self, straight: Straight, courses: Courses, asker: Asker, passage: Passage, below: Query, key: Key, begun: Begun
    ) -> None:
        self._straight, self._courses, self.asker, self.passage = straight, courses, asker, passage
        self.below, self.key, self.begun = below, key, begun

    def begin(self) -> None:
        """Wait for the upstream, or have the stages wait where that takes a task."""
        left = self.begun.exchange.leave_to(self, self.begun.until)
        if left is not None:
            self.left = left
            self.flight = self._straight.flights.take_off(self.key)  # whoever asks the same meanwhile shares it
            self._courses.add(self)
        else:
            self._courses.begin(self.asker.by_stages(self.begun))

    def step(self) -> None:
        """The upstream has answered."""
        try:
            self._land()
        except BaseException as error:  # noqa: BLE001 -- whoever steps is innocent of it
            self._fail(error)

    def _land(self) -> None:
        now = self._straight.now()
        try:
            answer = self._straight.landed(self, now)
        except ResolveError as error:
            self.asker.failed(error)
        else:
            if answer is not None:
                self.asker.answered(answer, now)
            else:
                self._courses.begin(self.asker.by_stages(self._straight.turn_off(self)))
        self._courses.leave(self)

    def go_on(self) -> None:
        """No answer, or none in time: the stages go on with that, in a task.

        So that nobody begins the same again before that has its turn, the flight goes on in any case.
        """
        begun = self._straight.turn_off(self, always=True)
        self._courses.promote(self, self.asker.by_stages(begun))

    def close(self) -> None:
        """End it where it is."""
        self._straight.give_up(self)
        self.asker.abandoned()

    def _fail(self, error: BaseException) -> None:
        """By a defect, which is told."""
        self._straight.give_up(self)
        self._courses.fail(self, error)
        with contained("a query"):
            self.asker.failed(ResolveError("internal error"))
