"""An upstream that is asked by HTTP/2 until its server says that it speaks HTTP/3, and then by that where it gets through."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from math import inf

import trio

from dohproxy.config import settings
from dohproxy.contained import contained
from dohproxy.errors import DohproxyError, MalformedMessage, ResolveError
from dohproxy.model import INTERNAL, Answer, Query, Question
from dohproxy.protocol.alt_svc import Alternative, http3_untrusted
from dohproxy.upstream.either import BothWays, Either, Swift
from dohproxy.upstream.exchange import Exchange
from dohproxy.upstream.pool import Pool
from dohproxy.wire.constants import HTTPS
from dohproxy.wire.names import ROOT, from_text
from dohproxy.wire.svcb import Service, parse_service_untrusted

SHORTEST, LONGEST = 60.0, 86400.0
"""Seconds that a record counts, or that there is none, whatever its TTL."""
PAUSE = 3600.0
"""Seconds until a server without such a record is asked again."""
_PATIENCE = 5.0
_SHARE = 0.9
"""Of the time that a record counts: then it is asked for anew, so that what it says need not end."""
_HTTPS = 443

_log = logging.getLogger("dohproxy.upstream")


class Upgraded(Either):
    """The server says so with its answers (Alt-Svc, RFC 7838), or by an HTTPS record of its own name (RFC 9460 9).

    It is itself asked for that, beside the first question of others, and as often as the TTL says; who speaks by Alt-Svc is not
    asked. Either leads to a port of the same host, for as long as it counts, and verifies it as any other: no DNSSEC is needed.
    """

    def __init__(
        self,
        upstream: settings.Upstream,
        sure: Callable[[Callable[[bytes], None]], Pool],
        swift: Callable[[int], Swift],
    ) -> None:
        """`sure` makes the way by HTTP/2, which tells what Alt-Svc said; `swift` that by HTTP/3 to a port."""
        super().__init__(sure(self._told))
        self._host, self._own_port, self._make = upstream.host, upstream.port, swift
        self._port = 0
        self._swap_at = -inf
        """From when on there may be another way."""
        self._question, self._ask_at = _question(upstream.host, upstream.port), -inf

    def begin(self, query: Query) -> Exchange | BothWays:
        """Ask, by the way that is open. Raises ResolveError."""
        if self._question is not None and self._nursery is not None and trio.current_time() >= self._ask_at:
            self._ask_at = inf
            self._nursery.start_soon(self._ask, self._question)
        return super().begin(query)

    def _told(self, value: bytes) -> None:
        """The server has said this by Alt-Svc, perhaps once more."""
        self._ask_at = trio.current_time() + LONGEST
        found = http3_untrusted(value, self._host)
        if found is None:
            self.offered(None, 0.0)
        else:
            self._use(found)

    def _use(self, found: Alternative) -> None:
        """For as long as it says; one way makes room for another once in a while only, whatever the server says."""
        if found.port == self._port and self.swift is not None:
            return self.offered(None, found.seconds)
        now = trio.current_time()
        if now < self._swap_at:
            return None
        self._swap_at = now + SHORTEST
        try:
            self.offered(partial(self._make, found.port), found.seconds)
        except DohproxyError as error:
            _log.warning("upstream %s cannot be asked by HTTP/3: %s", self.name, error)
        else:
            self._port = found.port
        return None

    async def _ask(self, question: Question) -> None:
        pause = SHORTEST
        with contained(f"asking {self.name} whether it speaks HTTP/3"):
            pause = await self._heed(question)
        if self._ask_at == inf:  # else it has spoken by Alt-Svc meanwhile
            self._ask_at = trio.current_time() + pause

    async def _heed(self, question: Question) -> float:
        """Ask for the record, by whichever way, and do as it says; the seconds until it is asked for again."""
        try:
            answer = await self.resolve(Query(question, INTERNAL, trio.current_time() + _PATIENCE))
            found = _http3_in(answer, question.qname, self._host, self._own_port)
        except (ResolveError, MalformedMessage):
            return SHORTEST
        if found is None:
            return PAUSE
        if self._ask_at == inf:
            self._use(found)
        return _SHARE * found.seconds


def _question(host: str, port: int) -> Question | None:
    """For the record (RFC 9460 9.1); None for an address, and a name that is too long for it."""
    try:
        ip_address(host)
    except ValueError:
        with suppress(ValueError):
            return Question(from_text(host if port == _HTTPS else f"_{port}._https.{host}").lower(), HTTPS)
    return None


def _http3_in(answer: Answer, asked: bytes, host: str, port: int) -> Alternative | None:
    """The preferred way over HTTP/3 to the same host, whose record has the name `asked`; None where there is none.

    Raises MalformedMessage (RFC 9460 2.2).
    """
    told = [rrset for rrset in answer.answer if rrset.rdtype == HTTPS]
    services = [(rrset.owner, parse_service_untrusted(rdata)) for rrset in told for rdata in rrset.rdatas]
    own = from_text(host).lower()
    usable = [one for owner, one in services if _is_http3(one, (ROOT, own) if owner.lower() == asked else (own,))]
    if not usable:
        return None
    best = min(usable, key=lambda service: service.priority)
    ttl = float(min(rrset.ttl for rrset in told))
    return Alternative(best.port or port, min(max(ttl, SHORTEST), LONGEST))


def _is_http3(service: Service, hosts: tuple[bytes, ...]) -> bool:
    """Aliases, other hosts than these, and records that need what is not known here are of no use.

    A target that is the root stands for the record's owner (RFC 9460 2.5.2).
    """
    return service.priority > 0 and service.target in hosts and not service.unknown and "h3" in service.alpn
