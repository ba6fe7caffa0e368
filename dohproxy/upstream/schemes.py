"""What each scheme of an upstream's URL stands for."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypedDict

from msgspec.structs import replace

from dohproxy.config.settings import Forwarding, Upstream
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.own import OwnCertificate
from dohproxy.protocol.alt_svc import http3_untrusted
from dohproxy.upstream.designated import Designated
from dohproxy.upstream.doh import Doh, authority
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.either import Either, Swift
from dohproxy.upstream.odoh import Odoh
from dohproxy.upstream.plain import Tcp, Udp

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
        return Either(Doh(replace(upstream, scheme="https"), forwarding, **terms), _doh3(upstream, forwarding, terms)())
    from dohproxy.upstream.doq import Doq  # noqa: PLC0415 -- aioquic takes a tenth of a second to import

    return Either(Dot(replace(upstream, scheme="tls"), forwarding, **terms), Doq(upstream, forwarding, **terms))


def _upgraded(upstream: Upstream, forwarding: Forwarding, terms: _Terms) -> Either:
    """HTTP/2, and HTTP/3 once the server says that it speaks it, for as long as it says (RFC 7838 2.4)."""
    from dohproxy.upstream import doh3 as _  # noqa: F401, PLC0415 -- now, rather than amid a query

    offers = _Offers(upstream.host, lambda port: _doh3(replace(upstream, port=port), forwarding, terms, authority(upstream)))
    either = Either(Doh(upstream, forwarding, on_alt_svc=offers.told, **terms))
    offers.either = either
    return either


def _doh3(upstream: Upstream, forwarding: Forwarding, terms: _Terms, origin: str = "") -> Callable[[], Swift]:
    from dohproxy.upstream.doh3 import Doh3  # noqa: PLC0415 -- aioquic takes a tenth of a second to import

    return partial(Doh3, upstream, forwarding, origin=origin, **terms)


class _Offers:
    """What a server has said of other ways to reach it."""

    def __init__(self, host: str, make: Callable[[int], Callable[[], Swift]]) -> None:
        self._host, self._make = host, make
        self._port = 0
        self.either: Either | None = None
        """Whom to tell."""

    def told(self, value: bytes) -> None:
        """The server has said this, perhaps once more."""
        if self.either is None:
            return
        found = http3_untrusted(value, self._host)
        if found is None:
            self.either.offered(None, 0.0)
            return
        make = self._make(found.port) if found.port != self._port else None
        self._port = found.port
        self.either.offered(make, found.seconds)
