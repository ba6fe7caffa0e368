"""DNS over HTTPS (RFC 8484), with HTTP/3."""

from __future__ import annotations

from functools import partial

from dohproxy.config import settings
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.own import OwnCertificate
from dohproxy.model import Transport
from dohproxy.protocol.doh3_client import ALPN, Doh3Session
from dohproxy.upstream.doh import authority
from dohproxy.upstream.quic_pool import QuicPool


class Doh3(QuicPool):
    """An upstream of scheme `h3`. Raises BadAuthorities for an unusable `ca_file`; shows `own`, if any, to its server.

    `origin` is the host and port that questions are for, if the server is only an alternative for them (RFC 7838 2).
    """

    transport = Transport.DOH3

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        *,
        checking_disabled: bool = True,
        own: OwnCertificate | None = None,
        complain: Complain = nobody,
        origin: str = "",
    ) -> None:
        super().__init__(upstream, forwarding, ALPN, own, complain)
        self._new_session = partial(
            Doh3Session,
            origin or authority(upstream),
            upstream.path,
            upstream.method,
            pipeline=forwarding.pipeline,
            checking_disabled=checking_disabled,
        )

    def _session(self) -> Doh3Session:
        return self._new_session()
