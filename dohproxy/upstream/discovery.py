"""Whom a plain resolver designates to be asked in its place, encrypted, and whether they prove to be that (RFC 9462)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

import trio
from msgspec import Struct
from msgspec.structs import replace

from dohproxy.config import settings
from dohproxy.config.urls import Url, url
from dohproxy.errors import MalformedMessage, ResolveError, UpstreamFailed
from dohproxy.identity.own import OwnCertificate
from dohproxy.model import INTERNAL, Query, Question
from dohproxy.policy.addresses import is_private
from dohproxy.upstream.bootstrap import ask_upstream
from dohproxy.upstream.doh import Doh
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.plain import Udp
from dohproxy.upstream.pool import Pool
from dohproxy.wire.constants import NOERROR, NS, NXDOMAIN, SVCB
from dohproxy.wire.names import ROOT, from_text, to_text
from dohproxy.wire.svcb import Service, parse_service_untrusted
from dohproxy.wire.text import rcode_to_text

DESIGNATION = from_text("_dns.resolver.arpa")
_PROBE = Question(ROOT, NS)
_SCHEMES = {"dot": "tls", "doq": "quic", "h2": "https", "h3": "h3"}
_OF_HTTP = ("https", "h3")


class Offer(Struct, frozen=True):
    """One way in which a designated resolver may be asked, and whether that holds."""

    service: Service
    alpn: str
    """As in the record; "" where it names none."""
    upstream: settings.Upstream | None = None
    """How it would be asked; None where `problem` says why it cannot be."""
    problem: str = ""
    """Why it is not verified."""
    verified_as: str = ""
    """What its certificate was verified for, beside the address of who designated it: its name, or just that address."""
    ttl: float = 0.0
    """Seconds that it counts, verified or not."""
    opportunistic: bool = False
    """Whether it is not verified and is at the same, private address: RFC 9462 4.3 lets it be used against onlookers."""

    @property
    def verified(self) -> bool:
        """Whether it has proven to be designated (RFC 9462 4.2)."""
        return bool(self.verified_as)


async def discover(
    resolver: settings.Upstream, forwarding: settings.Forwarding, own: OwnCertificate | None = None
) -> tuple[Offer, ...]:
    """All offers of the plain resolver at `resolver.host`, in its order of preference, each of them tried out.

    `resolver` also says who may vouch for them, and how else they are to be connected to; `own` is what we show them. Raises
    ResolveError if it cannot be asked, or tells nonsense, and BadAuthorities for an unusable CA file.
    """
    plain = Udp(
        replace(resolver, name=resolver.host, scheme="udp", addresses=(resolver.host,)), forwarding, checking_disabled=False
    )
    _pool(replace(resolver, scheme="tls"), forwarding, own)  # an unusable CA file is told before anything is asked
    outcome: list[Offer] | ResolveError
    async with trio.open_nursery() as nursery:
        await nursery.start(plain.run)
        try:
            outcome = await _told(plain, resolver, forwarding)
        except ResolveError as error:
            outcome = error  # raised outside, for a nursery would wrap it
        nursery.cancel_scope.cancel()
    if isinstance(outcome, ResolveError):
        raise outcome
    async with trio.open_nursery() as nursery:
        for place, offer in enumerate(outcome):
            if offer.upstream is not None:
                nursery.start_soon(_settle, outcome, place, forwarding, own)
    return tuple(outcome)


async def _told(plain: Udp, resolver: settings.Upstream, forwarding: settings.Forwarding) -> list[Offer]:
    """What the resolver offers, by UDP, and by TCP where that is too small."""
    services, ttl = await _designations(plain, forwarding)
    template = replace(resolver, designated_by=resolver.host)
    found = [offer for service in services for offer in [*await _offers(plain, service, template, forwarding)]]
    return [replace(offer, ttl=ttl) for offer in found]


async def _designations(plain: Udp, forwarding: settings.Forwarding) -> tuple[list[Service], float]:
    """What the resolver says of itself, the most preferred first, and for how many seconds; [] if nothing.

    One malformed record spoils all (RFC 9460 2.2). Raises ResolveError.
    """
    answer = await plain.resolve(Query(Question(DESIGNATION, SVCB), INTERNAL, trio.current_time() + forwarding.timeout))
    if answer.rcode not in (NOERROR, NXDOMAIN):
        raise UpstreamFailed(f"{rcode_to_text(answer.rcode)} from {plain.name}")
    told = [rrset for rrset in answer.answer if rrset.rdtype == SVCB]
    try:
        services = [parse_service_untrusted(rdata) for rrset in told for rdata in rrset.rdatas]
    except MalformedMessage as error:
        raise UpstreamFailed(f"{plain.name}: {error}") from error
    return sorted(services, key=lambda service: service.priority), float(min((rrset.ttl for rrset in told), default=0))


async def _offers(
    plain: Udp, service: Service, template: settings.Upstream, forwarding: settings.Forwarding
) -> Iterable[Offer]:
    if problem := _unusable(service):
        return [Offer(service, "", problem=problem)]
    addresses = service.hints
    if not addresses:
        try:
            found = await ask_upstream(plain, service.target, trio.current_time() + forwarding.timeout)
        except ResolveError as error:
            return [Offer(service, "", problem=f"its address is not to be found: {error}")]
        addresses = found.addresses
    if not addresses:
        return [Offer(service, "", problem="its target has no address")]
    return _ways(service, replace(template, addresses=addresses))


def _unusable(service: Service) -> str:
    """Why the record is of no use as a whole; "" if it is."""
    if service.priority == 0:
        return "it is an alias, which is not followed"
    if service.target == ROOT:
        return "it names no target"
    if service.unknown:
        return f"it needs what is not known here: {', '.join(f'key{key}' for key in service.unknown)} (RFC 9460 8)"
    return "" if service.alpn else "it names no protocol"


def _ways(service: Service, template: settings.Upstream) -> Iterator[Offer]:
    for alpn in service.alpn:
        scheme = _SCHEMES.get(alpn)
        if scheme is None:
            yield Offer(service, alpn, problem="this protocol is not spoken here")
            continue
        try:
            where = _url(scheme, service)
        except ValueError as error:
            yield Offer(service, alpn, problem=str(error))
            continue
        upstream = replace(template, name=where.text, scheme=scheme, host=where.host, port=where.port, path=where.path)
        yield Offer(service, alpn, upstream)


def _url(scheme: str, service: Service) -> Url:
    """Raises ValueError where there is none."""
    path = service.dohpath if scheme in _OF_HTTP else ""
    if scheme in _OF_HTTP and not (path.startswith("/") and path.endswith(("{?dns}", "{&dns}"))):
        raise ValueError("it has no path of DNS over HTTPS (RFC 9461 5)")
    port = f":{service.port}" if service.port else ""
    return url(f"{scheme}://{to_text(service.target).removesuffix('.')}{port}{path}")


async def _settle(offers: list[Offer], place: int, forwarding: settings.Forwarding, own: OwnCertificate | None) -> None:
    """Puts what came of trying an offer into its place. It may be known by its name, or just as that address (RFC 9462 4.2)."""
    offer = offers[place]
    assert offer.upstream is not None
    address = offer.upstream.designated_by
    problems: dict[str, str] = {}
    async with trio.open_nursery() as nursery:
        for tls_name in (offer.upstream.host, address):
            nursery.start_soon(_try, replace(offer.upstream, tls_name=tls_name), forwarding, own, problems)
    for tls_name in (offer.upstream.host, address):
        if not problems[tls_name]:
            offers[place] = replace(offer, upstream=replace(offer.upstream, tls_name=tls_name), verified_as=tls_name)
            return
    same = address in offer.upstream.addresses and is_private(ip_address(address).packed)
    offers[place] = replace(offer, problem=problems[offer.upstream.host], opportunistic=same)


async def _try(
    upstream: settings.Upstream, forwarding: settings.Forwarding, own: OwnCertificate | None, problems: dict[str, str]
) -> None:
    """Connect, and ask something; what goes wrong is noted under the name that the certificate was to be for."""
    problems[upstream.tls_name] = ""
    pool = _pool(upstream, forwarding, own)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        try:
            await pool.resolve(Query(_PROBE, INTERNAL, trio.current_time() + forwarding.timeout))
        except ResolveError as error:
            problems[upstream.tls_name] = str(error)
        nursery.cancel_scope.cancel()


def _pool(upstream: settings.Upstream, forwarding: settings.Forwarding, own: OwnCertificate | None) -> Pool:
    """Over this transport alone."""
    if upstream.scheme in ("tls", "https"):
        return (Dot if upstream.scheme == "tls" else Doh)(upstream, forwarding, own=own)
    from dohproxy.upstream.doh3 import Doh3  # noqa: PLC0415 -- aioquic takes a tenth of a second to import
    from dohproxy.upstream.doq import Doq  # noqa: PLC0415

    return (Doq if upstream.scheme == "quic" else Doh3)(upstream, forwarding, own=own)
