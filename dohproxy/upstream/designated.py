"""An upstream that is whoever a plain resolver designates, for as long as it does, and nobody before that is verified."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import trio
from msgspec.structs import replace

from dohproxy.bell import Bell
from dohproxy.config import settings
from dohproxy.contained import contained
from dohproxy.courses import Exchange
from dohproxy.errors import DohproxyError, NoReachableUpstream, ResolveError
from dohproxy.identity.own import OwnCertificate
from dohproxy.model import Query
from dohproxy.upstream.discovery import Offer, discover
from dohproxy.upstream.tls import TlsClient

SHORTEST, LONGEST = 60.0, 86400.0
"""Seconds that a designation counts, whatever its TTL."""
PAUSE = 10.0
"""Seconds until a resolver is asked again that designates nobody who is verified."""

_log = logging.getLogger("dohproxy.upstream")


class Resolver(Protocol):
    """What the designated one is asked through."""

    def begin(self, query: Query) -> Exchange:
        """Ask; raises ResolveError."""
        ...

    def renew(self) -> None:
        """The network is another one."""
        ...

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the connections until it is cancelled."""
        ...


class Designated:
    """An upstream of scheme `ddr` (RFC 9462). Serves while `run` runs, which begins by asking.

    Of those designated it is the first that is verified. Whoever it is stays, as long as no other is: each connection
    verifies anew that it may be. `open` makes what it is asked through. Raises BadAuthorities for an unusable `ca_file`.
    """

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        open: Callable[[settings.Upstream], Resolver],
        own: OwnCertificate | None = None,
    ) -> None:
        TlsClient(upstream, forwarding, "dot")  # an unusable CA file is told now
        self.name = upstream.name
        self._upstream, self._forwarding, self._open, self._own = upstream, forwarding, open, own
        self._found: settings.Upstream | None = None
        self._resolver: Resolver | None = None
        self._reason = "it was not asked yet"
        self._bell = Bell()
        self._end: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<Designated {self.name}: {self._resolver!r}>"

    def begin(self, query: Query) -> Exchange:
        """Ask. Raises ResolveError."""
        if self._resolver is None:
            raise NoReachableUpstream(f"{self.name}: {self._reason}")
        return self._resolver.begin(query)

    def renew(self) -> None:
        """The network is another one, and the resolver there may designate others."""
        self._bell.ring()
        if self._resolver is not None:
            self._resolver.renew()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Finds the designated one, and owns its connections, until cancelled."""
        async with trio.open_nursery() as nursery:
            pause = PAUSE
            with trio.move_on_after(self._forwarding.connect_timeout):
                pause = await self._look(nursery)
            task_status.started()
            while True:
                with trio.move_on_after(pause):
                    await self._bell.heard()
                pause = await self._look(nursery)

    async def _look(self, nursery: trio.Nursery) -> float:
        """Asks, and uses what is told; the seconds until that is to be done again."""
        with contained(f"asking {self._upstream.host} whom it designates"):
            try:
                offers = await discover(self._upstream, self._forwarding, self._own)
                best = next((offer for offer in offers if offer.verified), None)
                if best is not None and best.upstream is not None:
                    await self._use(best.upstream, nursery)
                    return min(max(best.ttl, SHORTEST), LONGEST)
                self._complain(_why_nobody(self._upstream.host, offers))
            except ResolveError as error:
                self._complain(f"{self._upstream.host} cannot be asked whom it designates: {error}")
            except DohproxyError as error:  # a file that became unusable
                self._complain(str(error))
        return PAUSE

    def _complain(self, reason: str) -> None:
        if reason != self._reason:
            self._reason = reason
            _log.warning("upstream %s: %s%s", self.name, reason, "; the last one stays" if self._resolver is not None else "")

    async def _use(self, found: settings.Upstream, nursery: trio.Nursery) -> None:
        """Ask that one from now on; the last may still answer what it was asked."""
        self._reason = ""
        if found == self._found:
            return
        resolver, last = self._open(replace(found, name=self.name)), self._end
        self._end = await nursery.start(_owned, resolver)
        self._found, self._resolver = found, resolver
        _log.info("upstream %s: %s designates %s, which is verified", self.name, self._upstream.host, found.name)
        if last is not None:
            last.deadline = trio.current_time() + self._forwarding.timeout


async def _owned(resolver: Resolver, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(resolver.run)
            task_status.started(scope)


def _why_nobody(host: str, offers: tuple[Offer, ...]) -> str:
    if not offers:
        return f"{host} designates nobody (RFC 9462)"
    problems = dict.fromkeys(f"{offer.alpn or 'any'}: {offer.problem}" for offer in offers)
    return f"{host} designates nobody who is verified: {'; '.join(problems)}"
