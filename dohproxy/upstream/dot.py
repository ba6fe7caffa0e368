"""DNS over TLS (RFC 7858, with the strict privacy profile of RFC 8310)."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable
from functools import partial

from dohproxy.config import settings
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.own import OwnCertificate
from dohproxy.model import Transport
from dohproxy.protocol.dns_stream import DnsStream
from dohproxy.upstream.pool import TlsPool
from dohproxy.upstream.tls import TlsClient


class RandomIds:
    """Message IDs that cannot be foretold (RFC 5452 9.2), drawn from the kernel by the hundred: a draw costs a system call."""

    def __init__(self) -> None:
        self._drawn = array("H")

    def __call__(self) -> int:
        """The next."""
        if not self._drawn:
            self._drawn.frombytes(os.urandom(512))
        return self._drawn.pop()


random_id: Callable[[], int] = RandomIds()


class Dot(TlsPool):
    """An upstream of scheme `tls`. Raises BadAuthorities for an unusable `ca_file`; shows `own`, if any, to its server."""

    transport = Transport.DOT

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        *,
        checking_disabled: bool = True,
        own: OwnCertificate | None = None,
        complain: Complain = nobody,
        random_id: Callable[[], int] = random_id,
    ) -> None:
        super().__init__(upstream, forwarding)
        self._new_session = partial(DnsStream, random_id, pipeline=forwarding.pipeline, checking_disabled=checking_disabled)
        self._tls = TlsClient(upstream, forwarding, "dot", own=own, complain=complain)

    def _session(self) -> DnsStream:
        return self._new_session()
