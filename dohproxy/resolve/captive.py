"""A network that holds us captive: the names that its portal is found by are asked of its own resolver, in clear, meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio
from msgspec.structs import replace

from dohproxy.config.settings import CaptivePortal
from dohproxy.errors import NoReachableUpstream, ResolveError
from dohproxy.model import INTERNAL, Answer, Ede, Name, Query, Question, RRset, Source, Stage
from dohproxy.resolve.member import Upstream
from dohproxy.wire import names
from dohproxy.wire.constants import AAAA, EDE_OTHER, NOERROR, A

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between looks at whether upstreams can be reached."""
LOST_FOR = 2.0
"""Seconds that none could be: then a portal may be the reason."""
PATIENCE = 2.0
"""Seconds that the network's resolver has for an answer."""
PAUSE = 5.0
"""Seconds until it is asked again, if it does not answer as a portal's does."""
CAPTIVE = "asked of the network's own resolver, as a captive portal holds us"


class Captive:
    """Sends the configured names to the network's resolvers while a portal is detected, and everything else `below`.

    It is, when no encrypted upstream can be reached, or shows a certificate that counts, and yet the network's resolver
    has an address for the first of the names; until an encrypted upstream answers. `is_lost` tells whether none does,
    `resolvers` who the network's are, as upstreams that are asked in clear; `forget` is called at begin and end,
    for replies that clients were given before do not count then.

    What is answered then is as if it were local: it is not judged, has no TTL, and is allowed to be a private address.
    """

    def __init__(
        self,
        below: Stage,
        settings: CaptivePortal,
        *,
        is_lost: Callable[[], bool],
        resolvers: Callable[[], Sequence[Upstream]],
        forget: Callable[[], None],
    ) -> None:
        self._below, self._is_lost, self._resolvers, self._forget = below, is_lost, resolvers, forget
        self._itself = frozenset(pattern.name for pattern in settings.names if pattern.itself)
        self._above = frozenset(pattern.name for pattern in settings.names if pattern.below)
        self._canary = Question(settings.names[0].name, A)
        self._asked: tuple[Upstream, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether a portal is detected."""
        return bool(self._asked)

    async def resolve(self, query: Query) -> Answer:
        """The answer of the network's resolver for one of the names while a portal is detected."""
        if not self._asked or not self._is_meant(query.question.qname):
            return await self._below.resolve(query)
        answer = await _told(self._asked, query)
        return replace(
            answer,
            answer=tuple(map(_without_ttl, answer.answer)),
            authority=(),
            ede=(Ede(EDE_OTHER, CAPTIVE),),
            source=Source.LOCAL,
        )

    def _is_meant(self, qname: Name) -> bool:
        return qname in self._itself or any(name in self._above for name in names.suffixes(qname) if name != qname)

    async def run(self) -> None:
        """Look out for portals until cancelled."""
        while True:
            await self._lost_for(LOST_FOR)
            async with trio.open_nursery() as nursery:
                asked = tuple(self._resolvers())
                for resolver in asked:
                    await nursery.start(resolver.run)
                if await self._is_portal(asked):
                    await self._serve(asked)
                nursery.cancel_scope.cancel()
            if self._is_lost():
                await trio.sleep(PAUSE)

    async def _lost_for(self, seconds: float) -> None:
        since = trio.current_time()
        while trio.current_time() - since < seconds:
            await trio.sleep(POLL)
            if not self._is_lost():
                since = trio.current_time()

    async def _is_portal(self, asked: tuple[Upstream, ...]) -> bool:
        """Whether one of them has an address for the canary."""
        if not asked:
            return False
        try:
            answer = await _told(asked, Query(self._canary, INTERNAL, trio.current_time() + PATIENCE))
        except ResolveError as error:
            log.debug("no captive portal: %s", error)
            return False
        return answer.rcode == NOERROR and any(rrset.rdtype in (A, AAAA) for rrset in answer.answer)

    async def _serve(self, asked: tuple[Upstream, ...]) -> None:
        who = ", ".join(resolver.name for resolver in asked)
        count = len(self._itself | self._above)
        log.warning("a captive portal holds us: %d names are asked in clear of %s until an upstream answers", count, who)
        self._asked = asked
        self._forget()
        try:
            while self._is_lost():  # noqa: ASYNC110 -- cheaper to look than to be told
                await trio.sleep(POLL)
        finally:
            self._asked = ()
            self._forget()
        log.warning("the captive portal let us go: nothing is asked in clear any more")


async def _told(asked: tuple[Upstream, ...], query: Query) -> Answer:
    """The answer of the first that gives one; raises ResolveError."""
    failure: ResolveError = NoReachableUpstream("the network told of no resolver")
    for number, upstream in enumerate(asked, 1):
        now = trio.current_time()
        until = query.deadline if number == len(asked) else min(query.deadline, now + PATIENCE / 2)
        try:
            exchange = upstream.begin(query)
            try:
                answer = await exchange.answer(until)
            finally:
                exchange.drop()
        except ResolveError as error:
            failure = error
            continue
        if answer is not None:
            return answer
        failure = NoReachableUpstream(f"{upstream.name}: no answer in time")
    raise failure


def _without_ttl(rrset: RRset) -> RRset:
    return replace(rrset, ttl=0, signatures=())
