"""DNSSEC: every answer judged before anyone sees it (RFC 4035 5). The rules are in dohproxy.dnssec; here is the asking."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio
from msgspec.structs import replace

from dohproxy.cache.proofs import ProofStore
from dohproxy.dnssec.validate import Judgement, Need, World, validate
from dohproxy.errors import ResolveError
from dohproxy.model import INTERNAL, Answer, Query, Question, Security, Stage
from dohproxy.resolve.flights import Flights

Fetched = Answer | ResolveError


class Validated:
    """Judges what the stages below find, and says why.

    A verdict is a property of the answer: what is done with it is decided above, by the asking client's mode. An answer
    that fails is asked for once more, elsewhere, before it is called bogus: an upstream may have stripped its signatures.
    `world` makes what a judgement reads: anchors, trusted keys, limits, and the time of now; told True, it does not dwell
    on zones that were found bogus a moment ago.
    """

    def __init__(
        self,
        below: Stage,
        world: Callable[[bool], World],
        proofs: ProofStore | None,
        flights: Flights,
        now: Callable[[], float],
    ) -> None:
        self._below, self._world, self._proofs, self._flights, self._now = below, world, proofs, flights, now

    async def resolve(self, query: Query) -> Answer:
        """The answer with its verdict; unjudged if the query disables checking."""
        answer = await self._below.resolve(query)
        if query.cd:
            return answer
        judged = await self._judged(query, answer, self._world(False))
        if judged.security in (Security.BOGUS, Security.INDETERMINATE) and (other := await self._elsewhere(query, answer)):
            judged = other
        if judged.security is Security.SECURE and self._proofs is not None:
            self._proofs.learn(judged, self._now())
        return judged

    async def _elsewhere(self, query: Query, failed: Answer) -> Answer | None:
        """The same from another upstream, chain and all, if there is one and what it says holds."""
        again = replace(query, avoid=(*query.avoid, failed.upstream))
        try:
            answer = await self._below.resolve(again)
        except ResolveError:
            return None
        if answer.upstream == failed.upstream:
            return None
        judged = await self._judged(again, answer, self._world(True))
        return judged if judged.security in (Security.SECURE, Security.INSECURE) else None

    async def _judged(self, query: Query, answer: Answer, world: World) -> Answer:
        judging = validate(query.question, answer, world)
        try:
            needs = next(judging)
            while True:
                needs = judging.send(await self._fetch_all(query, needs))
        except StopIteration as end:
            judgement: Judgement = end.value
        return replace(
            answer,
            rcode=judgement.rcode,
            security=judgement.security,
            ede=judgement.ede,
            chain=judgement.chain,
            answer=judgement.answer,
            authority=judgement.authority,
        )

    async def _fetch_all(self, query: Query, needs: tuple[Need, ...]) -> tuple[Fetched, ...]:
        if len(needs) == 1:
            return (await self._fetch(query, needs[0]),)
        fetched: dict[Need, Fetched] = {}

        async def fetch(need: Need) -> None:
            fetched[need] = await self._fetch(query, need)

        async with trio.open_nursery() as nursery:
            for need in needs:
                nursery.start_soon(fetch, need)
        return tuple(fetched[need] for need in needs)

    async def _fetch(self, query: Query, need: Need) -> Fetched:
        """One link of the chain, shared with every other question that needs it now; none is asked for that is denied at hand.

        Nothing at hand is relied on in a second try: the first may have failed by it.
        """
        question = Question(need.qname, need.qtype)
        if self._proofs is not None and not query.avoid and (made := self._proofs.synthesize(question, self._now())):
            return made
        asked = Query(question, INTERNAL, query.deadline, cd=True, avoid=query.avoid)
        try:
            return await self._flights.join(("link", question, query.avoid), partial(self._below.resolve, asked))
        except ResolveError as error:
            return error
