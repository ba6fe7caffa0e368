"""DNS over dedicated QUIC connections (RFC 9250)."""

from __future__ import annotations

from dohproxy.config import settings
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.own import OwnCertificate
from dohproxy.model import Transport
from dohproxy.protocol.doq import ALPN
from dohproxy.protocol.doq_client import DoqSession
from dohproxy.upstream.quic_pool import QuicPool


class Doq(QuicPool):
    """An upstream of scheme `quic`. Raises BadAuthorities for an unusable `ca_file`; shows `own`, if any, to its server."""

    transport = Transport.DOQ

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        *,
        checking_disabled: bool = True,
        own: OwnCertificate | None = None,
        complain: Complain = nobody,
    ) -> None:
        super().__init__(upstream, forwarding, ALPN, own, complain)
        self._pipeline, self._cd = forwarding.pipeline, checking_disabled

    def _session(self) -> DoqSession:
        return DoqSession(pipeline=self._pipeline, checking_disabled=self._cd)
