"""DNSSEC: every answer judged before anyone sees it (RFC 4035 5). The rules are in dohproxy.dnssec; here is the asking."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import trio
from msgspec import Struct
from msgspec.structs import replace

from dohproxy.cache.proofs import ProofStore
from dohproxy.courses import as_task
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.evidence import Exchange
from dohproxy.dnssec.replay import evidence_of, recording
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import Asking, Judgement, Need, World, validate
from dohproxy.errors import ResolveError
from dohproxy.model import INTERNAL, Answer, Name, Query, Question, Security, Stage
from dohproxy.resolve.flights import Flights
from dohproxy.resolve.selected import Begun
from dohproxy.resolve.witness import Witness
from dohproxy.wire.constants import DNSKEY

Fetched = Answer | ResolveError
_Fetch = Callable[[tuple[Need, ...]], Awaitable[tuple[Fetched, ...]]]
_Link = tuple[Question, tuple[str, ...]]
Doubt = Callable[[str, Question, str], None]
"""Told the name of an upstream, what it was asked, and what is wrong with its answer."""

RENEWAL = 5.0
"""Seconds that the renewal of a zone's keys may take."""
_FAILED = (Security.BOGUS, Security.INDETERMINATE)


def _no_matter(_upstream: str, _question: Question, _why: str) -> None:
    pass


class _Case(Struct, frozen=True):
    """An answer judged: what was asked of whom, what came, the verdict, and what was told on the way."""

    query: Query
    given: Answer
    judged: Answer
    told: dict[Need, Fetched]


class Validated:
    """Judges what the stages below find, and says why.

    A verdict is a property of the answer: what is done with it is decided above, by the asking client's mode. An answer
    that fails is asked for once more, elsewhere, before it is called bogus: an upstream may have stripped its signatures.
    `world` makes what a judgement reads: anchors, trusted keys, limits, and the time of now; told True, it does not dwell
    on zones that were found bogus a moment ago. `witness` has what evidence is made of, where any is kept. `doubt` is told of
    upstreams whose answer was bogus where another one's holds.
    """

    def __init__(
        self,
        below: Stage,
        world: Callable[[bool], World],
        proofs: ProofStore | None,
        flights: Flights,
        now: Callable[[], float],
        *,
        witness: Witness | None = None,
        doubt: Doubt = _no_matter,
    ) -> None:
        self._doubt = doubt
        self._below, self._world, self._proofs, self._flights, self._now = below, world, proofs, flights, now
        self._witness = witness
        self._at_hand: dict[_Link, Answer] = {}

    async def resolve(self, query: Query) -> Answer:
        """The answer with its verdict; unjudged if the query disables checking."""
        answer = await self._below.resolve(query)
        if query.cd:
            return answer
        case = await self._judged(query, answer, self._world_of(query))
        if case.judged.security in _FAILED and (other := await self._elsewhere(query, answer)):
            if case.judged.security is Security.BOGUS:
                self._doubt(answer.upstream, query.question, case.judged.ede[0].text if case.judged.ede else "bogus")
            case = other
        judged = self._learnt(case.judged)
        if self._witness is not None and self._witness.recorder.wants(query.client, judged.security):
            return await self._on_record(case, self._witness)
        return judged

    def _world_of(self, query: Query) -> World:
        """For a judgement of this query; what was spent on it before counts (see `at_hand`)."""
        world, begun = self._world(False), query.begun
        return replace(world, budget=begun.budget) if isinstance(begun, Begun) and begun.budget is not None else world

    def at_hand(self, query: Query, given: Answer) -> Answer | Budget:
        """This answer from below with its verdict, as `resolve` would have it.

        Where that takes asking, or more, what is left of the budget that the query carries.
        """
        world = self._world(False)
        try:
            next(validate(query.question, given, world))
        except StopIteration as end:
            judgement: Judgement = end.value
        else:
            return world.budget
        security = judgement.security
        if security in _FAILED or (self._witness is not None and self._witness.recorder.wants(query.client, security)):
            return world.budget
        if judgement.aging:
            self._renew(judgement.aging)
        return self._learnt(_as_judged(given, judgement))

    def _learnt(self, judged: Answer) -> Answer:
        if judged.security is Security.SECURE and self._proofs is not None:
            self._proofs.learn(judged, self._now())
        return judged

    async def _elsewhere(self, query: Query, failed: Answer) -> _Case | None:
        """The same from another upstream, chain and all, if there is one and what it says holds."""
        again = replace(query, avoid=(*query.avoid, failed.upstream))
        try:
            answer = await self._below.resolve(again)
        except ResolveError:
            return None
        if answer.upstream == failed.upstream:
            return None
        case = await self._judged(again, answer, self._world(True))
        return case if case.judged.security in (Security.SECURE, Security.INSECURE) else None

    async def _judged(self, query: Query, given: Answer, world: World) -> _Case:
        told: dict[Need, Fetched] = {}
        judging = validate(query.question, given, world)
        try:
            needs = next(judging)
        except StopIteration as end:  # mostly: all that it needs to know is known
            judgement: Judgement = end.value
        else:
            with self._hearing(query) as told:
                judgement = await _driven(judging, needs, partial(self._fetch_all, query, told))
        if judgement.aging and not world.renewing:
            self._renew(judgement.aging)
        return _Case(query, given, _as_judged(given, judgement), told)

    def _renew(self, zones: tuple[Name, ...]) -> None:
        """Ask for the keys of these zones in the background, before anyone has to wait for them."""
        for zone in zones:
            self._flights.launch(("renewal", zone), partial(self._renewed, Question(zone, DNSKEY)))

    async def _renewed(self, question: Question) -> Answer:
        query = Query(question, INTERNAL, trio.current_time() + RENEWAL, cd=True)
        case = await self._judged(query, await self._below.resolve(query), replace(self._world(False), renewing=True))
        return case.judged

    # Evidence

    async def _on_record(self, case: _Case, witness: Witness) -> Answer:
        """The verdict with its evidence, or that handed on where no client waits for it.

        It is judged once more, from the anchor down by the messages at hand, so that the record is whole where trust was
        at hand too. That changes nothing of the answer.
        """
        question, judged, client = case.query.question, case.judged, case.query.client
        world = replace(self._world(False), keys=TrustCache())
        exchanges: list[Exchange] = []
        judging = recording(validate(question, case.given, world), exchanges)
        judgement = await _judgement(judging, partial(self._recalled, case, witness))
        ede = judgement.ede if judgement.security is judged.security else judged.ede
        judgement = replace(judgement, security=judged.security, ede=ede)
        evidence = evidence_of(question, case.given, world, judgement, exchanges, client=client)
        if client is not INTERNAL:
            return replace(judged, evidence=evidence)
        witness.recorder.record(evidence)
        return judged

    async def _recalled(self, case: _Case, witness: Witness, needs: tuple[Need, ...]) -> tuple[Fetched, ...]:
        """What was told in this case, or before; else what is told now."""
        now, avoid = self._now(), case.query.avoid
        found = {need: case.told.get(need) or witness.recall(need, avoid, now) for need in needs}
        missing = tuple(need for need in needs if found[need] is None)
        if missing:
            with self._hearing(case.query) as told:
                found |= zip(missing, await self._fetch_all(case.query, told, missing), strict=True)
        return tuple(fetched for need in needs if (fetched := found[need]) is not None)

    # Fetching

    @contextmanager
    def _hearing(self, query: Query) -> Iterator[dict[Need, Fetched]]:
        """What this case is told, which is at hand for every other until this one is judged.

        By then it is in the trusted keys, if it holds.
        """
        told: dict[Need, Fetched] = {}
        try:
            yield told
        finally:
            for need in told:
                self._at_hand.pop(_link(query, need), None)

    async def _fetch_all(self, query: Query, told: dict[Need, Fetched], needs: tuple[Need, ...]) -> tuple[Fetched, ...]:
        if len(needs) == 1:
            await self._fetch(query, told, needs[0])
        else:
            await as_task()
            async with trio.open_nursery() as nursery:
                for need in needs:
                    nursery.start_soon(self._fetch, query, told, need)
        return tuple(told[need] for need in needs)

    async def _fetch(self, query: Query, told: dict[Need, Fetched], need: Need) -> None:
        told[need] = fetched = await self._link(query, need)
        if isinstance(fetched, Answer):
            self._at_hand[_link(query, need)] = fetched
        if self._witness is not None:
            self._witness.hear(need, query.avoid, fetched, self._now())

    async def _link(self, query: Query, need: Need) -> Fetched:
        """One link of the chain, shared with every other question that needs it now; none is asked for that is denied at hand.

        Nothing at hand is relied on in a second try: the first may have failed by it.
        """
        question = Question(need.qname, need.qtype)
        if self._proofs is not None and not query.avoid and (made := self._proofs.synthesize(question, self._now())):
            return made
        link = _link(query, need)
        if at_hand := self._at_hand.get(link):
            return at_hand
        asked = Query(question, INTERNAL, query.deadline, cd=True, avoid=query.avoid)
        try:
            return await self._flights.join(("link", link), partial(self._below.resolve, asked))
        except ResolveError as error:
            return error


def _as_judged(given: Answer, judgement: Judgement) -> Answer:
    return replace(
        given,
        rcode=judgement.rcode,
        security=judgement.security,
        ede=judgement.ede,
        chain=judgement.chain,
        answer=judgement.answer,
        authority=judgement.authority,
    )


def _link(query: Query, need: Need) -> _Link:
    return Question(need.qname, need.qtype), query.avoid


async def _judgement(judging: Asking[Judgement], fetch: _Fetch) -> Judgement:
    """The judgement, once it has been told all that it needs."""
    try:
        needs = next(judging)
    except StopIteration as end:
        judgement: Judgement = end.value
        return judgement
    return await _driven(judging, needs, fetch)


async def _driven(judging: Asking[Judgement], needs: tuple[Need, ...], fetch: _Fetch) -> Judgement:
    """The same, from what it needs first."""
    try:
        while True:
            needs = judging.send(await fetch(needs))
    except StopIteration as end:
        judgement: Judgement = end.value
        return judgement
