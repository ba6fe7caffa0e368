"""Who tells where an upstream is: another upstream, or the system's resolver, for this one name."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from typing import Protocol

import trio

from dohproxy.config import settings
from dohproxy.config.bootstraps import SYSTEM
from dohproxy.courses import Exchange
from dohproxy.errors import Disconnected, NotReady, ResolveError, UpstreamFailed
from dohproxy.model import INTERNAL, Answer, Name, Query, Question
from dohproxy.upstream.addresses import Find, Found
from dohproxy.wire.constants import AAAA, NOERROR, NXDOMAIN, A
from dohproxy.wire.names import from_text
from dohproxy.wire.text import rcode_to_text

SYSTEM_TTL = 300.0
"""Seconds: the system's resolver does not tell how long its answers count."""
_NOT_YET = 0.1
"""Seconds until whoever is asked may have begun to serve."""
_SIZES = {A: 4, AAAA: 16}

Locate = Callable[[settings.Upstream], Find]
"""How an upstream with a `bootstrap` is found."""


class Asked(Protocol):
    """Whom to ask."""

    @property
    def name(self) -> str:
        """As configured."""
        ...

    def begin(self, query: Query) -> Exchange:
        """Ask, without waiting; raises ResolveError."""
        ...


def locator(known: Callable[[str], Asked], timeout: float) -> Locate:
    """Finds upstreams by others, which are `known` by name once they are to be asked; `timeout` is in seconds."""

    def locate(upstream: settings.Upstream) -> Find:
        if upstream.bootstrap == SYSTEM:
            return partial(ask_system, upstream.host, upstream.port)
        return partial(_ask_known, known, upstream.bootstrap, from_text(upstream.host), timeout)

    return locate


async def ask_system(host: str, port: int) -> Found:
    """As the system resolves the name of a host, in its order; raises OSError."""
    resolve = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    try:
        found = await trio.to_thread.run_sync(resolve, abandon_on_cancel=True)
    except socket.gaierror as error:
        raise OSError(f"the system's resolver: {error.strerror}") from error
    except UnicodeError as error:
        raise OSError(f"the system's resolver: {error}") from error
    return Found(tuple(dict.fromkeys(str(address[0]) for *_, address in found)), SYSTEM_TTL)


async def _ask_known(known: Callable[[str], Asked], name: str, host: Name, patience: float) -> Found:
    while True:
        try:
            return await ask_upstream(known(name), host, trio.current_time() + patience)
        except NotReady:
            await trio.sleep(_NOT_YET)


async def ask_upstream(asked: Asked, host: Name, deadline: float) -> Found:
    """The A and AAAA records of a host by one upstream, until that monotonic time; raises ResolveError."""
    try:
        answers = await _ask_both(asked, host, deadline)
    except Disconnected:  # a connection that was closed just then
        answers = await _ask_both(asked, host, deadline)
    ttls = [rrset.ttl for answer in answers for rrset in answer.answer]
    addresses = (address for rdtype in (AAAA, A) for address in _addresses(answers, rdtype))
    return Found(tuple(addresses), float(min(ttls, default=0)))


async def _ask_both(asked: Asked, host: Name, deadline: float) -> list[Answer]:
    """At once. It is enough if one is answered: many are bad at the other."""
    exchanges: list[Exchange] = []
    try:
        for rdtype in (AAAA, A):
            exchanges.append(asked.begin(Query(Question(host, rdtype), INTERNAL, deadline)))  # noqa: PERF401 -- the first is dropped where the second fails
        outcomes = [await _outcome(exchange, asked.name, deadline) for exchange in exchanges]
    finally:
        for exchange in exchanges:
            exchange.drop()
    answers = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    if not answers:
        raise next(outcome for outcome in outcomes if isinstance(outcome, ResolveError))
    return answers


async def _outcome(exchange: Exchange, name: str, deadline: float) -> Answer | ResolveError:
    try:
        answer = await exchange.answer(deadline)
    except ResolveError as error:
        return error
    if answer is None:
        return UpstreamFailed(f"{name}: no answer in time")
    if answer.rcode not in (NOERROR, NXDOMAIN):
        return UpstreamFailed(f"{rcode_to_text(answer.rcode)} from {name}")
    return answer


def _addresses(answers: list[Answer], rdtype: int) -> Iterator[str]:
    for answer in answers:
        for rrset in answer.answer:
            if rrset.rdtype == rdtype:
                yield from (str(ip_address(rdata)) for rdata in rrset.rdatas if len(rdata) == _SIZES[rdtype])
