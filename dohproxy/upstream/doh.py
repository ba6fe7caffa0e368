"""DNS over HTTPS (RFC 8484), with HTTP/2."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from dohproxy.config import settings
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.own import OwnCertificate
from dohproxy.model import Transport
from dohproxy.protocol.doh import DohSession
from dohproxy.protocol.doh_exchange import Requests
from dohproxy.upstream.pool import TlsPool
from dohproxy.upstream.tls import TlsClient

_HTTPS = 443


class Doh(TlsPool):
    """An upstream of scheme `https`. Raises BadAuthorities for an unusable `ca_file`; shows `own`, if any, to its server."""

    transport = Transport.DOH

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        *,
        checking_disabled: bool = True,
        own: OwnCertificate | None = None,
        complain: Complain = nobody,
        on_alt_svc: Callable[[bytes], None] | None = None,
    ) -> None:
        super().__init__(upstream, forwarding)
        self._new_session = partial(
            DohSession,
            Requests(authority(upstream), upstream.path, upstream.method),
            pipeline=forwarding.pipeline,
            checking_disabled=checking_disabled,
            on_alt_svc=on_alt_svc,
        )
        self._tls = TlsClient(upstream, forwarding, "h2", alpn_required=True, own=own, complain=complain)

    def _session(self) -> DohSession:
        return self._new_session()


def authority(upstream: settings.Upstream) -> str:
    """The host and port of the URL (RFC 3986 3.2)."""
    host = f"[{upstream.host}]" if ":" in upstream.host else upstream.host
    return host if upstream.port == _HTTPS else f"{host}:{upstream.port}"
