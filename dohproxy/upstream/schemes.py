"""What each scheme of an upstream's URL stands for."""

from __future__ import annotations

from functools import partial
from typing import TypedDict

from msgspec.structs import replace

from dohproxy.config.settings import Forwarding, Upstream
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.own import OwnCertificate
from dohproxy.upstream.designated import Designated
from dohproxy.upstream.doh import Doh, authority
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.either import Either, Swift
from dohproxy.upstream.odoh import Odoh
from dohproxy.upstream.plain import Tcp, Udp
from dohproxy.upstream.upgraded import Upgraded

Opened = Dot | Doh | Odoh | Tcp | Udp | Either | Designated
"""What an upstream is asked through."""


class _Terms(TypedDict):
    checking_disabled: bool
    own: OwnCertificate | None
    complain: Complain


def open_upstream(
    upstream: Upstream,
    forwarding: Forwarding,
    *,
    checking_disabled: bool = True,
    own: OwnCertificate | None = None,
    complain: Complain = nobody,
) -> Opened:
    """Ready to be asked while its `run` runs: with CD set if `checking_disabled`, showing `own` if the server asks for it.

    What goes over QUIC goes over TCP too, at the same host and port, where QUIC does not get through. Raises BadAuthorities,
    and of Oblivious DoH MissingExtra and BadKey.
    """
    terms: _Terms = {"checking_disabled": checking_disabled, "own": own, "complain": complain}
    scheme = upstream.scheme
    if scheme == "ddr":
        return Designated(upstream, forwarding, partial(open_upstream, forwarding=forwarding, **terms), own)
    if upstream.relay is not None:
        return Odoh(upstream, forwarding, checking_disabled=checking_disabled, complain=complain)
    if scheme in ("udp", "tcp"):
        return (Udp if scheme == "udp" else Tcp)(upstream, forwarding, checking_disabled=checking_disabled)
    if scheme in ("quic", "h3"):
        return _quick(upstream, forwarding, terms)
    if upstream.upgrade:
        return _upgraded(upstream, forwarding, terms)
    return (Dot if scheme == "tls" else Doh)(upstream, forwarding, **terms)


def _quick(upstream: Upstream, forwarding: Forwarding, terms: _Terms) -> Either:
    """QUIC, and TCP beside it."""
    if upstream.scheme == "h3":
        return Either(Doh(replace(upstream, scheme="https"), forwarding, **terms), _doh3(upstream, forwarding, terms))
    from dohproxy.upstream.doq import Doq  # noqa: PLC0415 -- aioquic takes a tenth of a second to import

    return Either(Dot(replace(upstream, scheme="tls"), forwarding, **terms), Doq(upstream, forwarding, **terms))


def _upgraded(upstream: Upstream, forwarding: Forwarding, terms: _Terms) -> Upgraded:
    """HTTP/2, and HTTP/3 once the server says that it speaks it."""
    from dohproxy.upstream import doh3 as _  # noqa: F401, PLC0415 -- now, rather than amid a query

    def at(port: int) -> Swift:
        return _doh3(replace(upstream, port=port), forwarding, terms, authority(upstream))

    return Upgraded(upstream, lambda told: Doh(upstream, forwarding, on_alt_svc=told, **terms), at)


def _doh3(upstream: Upstream, forwarding: Forwarding, terms: _Terms, origin: str = "") -> Swift:
    from dohproxy.upstream.doh3 import Doh3  # noqa: PLC0415 -- aioquic takes a tenth of a second to import

    return Doh3(upstream, forwarding, origin=origin, **terms)
