"""Oblivious DNS over HTTPS (RFC 9230): questions go to a target through a relay, which cannot read them."""

from __future__ import annotations

from functools import partial

import trio
from msgspec.structs import replace

from dohproxy.config import settings
from dohproxy.errors import DohproxyError, MalformedMessage, ResolveError, UpstreamFailed
from dohproxy.identity.followed import Complain, nobody
from dohproxy.model import INTERNAL, Query, Question, Transport
from dohproxy.protocol.doh import DohSession
from dohproxy.protocol.odoh import Target, hpke_suite, parse_configs_untrusted
from dohproxy.protocol.odoh_exchange import KeyRequests, OdohRequests
from dohproxy.upstream.addresses import Addresses, Unfound
from dohproxy.upstream.bootstrap import Locate
from dohproxy.upstream.doh import authority
from dohproxy.upstream.pool import StreamPool
from dohproxy.upstream.tls import Layer, TlsClient
from dohproxy.wire.constants import NS
from dohproxy.wire.names import ROOT

LIFETIME = 86400.0
"""Seconds after which a key that works is asked for anew."""
PAUSE = 1.0
"""Seconds from asking for a key until another is asked for."""
_NOTHING = Question(ROOT, NS)


class BadKey(DohproxyError):
    """An `odoh_config` that cannot be used."""


class Odoh(StreamPool):
    """An upstream with a `relay`: the connections are those to the relay. Serves while `run` runs.

    Raises MissingExtra without pyhpke, BadKey for an unusable `odoh_config`, and BadAuthorities for an unusable `ca_file`.
    """

    transport = Transport.ODOH

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        *,
        checking_disabled: bool = True,
        complain: Complain = nobody,
    ) -> None:
        hpke_suite()
        assert upstream.relay is not None
        relay = replace(upstream.relay, name=upstream.name, any_date=upstream.any_date)
        self.keys = Keys(upstream, forwarding, complain)
        super().__init__(relay, forwarding, _OnceKeyed(relay.addresses, self.keys))
        self._requests = partial(OdohRequests, authority(relay), relay.path, authority(upstream), upstream.path, self.keys)
        self._pipeline, self._cd = forwarding.pipeline, checking_disabled
        self._tls = TlsClient(relay, forwarding, "h2", alpn_required=True, complain=complain)

    def located(self, locate: Locate) -> None:
        """How the addresses of both are found, where they are not configured."""
        super().located(locate)
        self.keys.located(locate)

    def renew(self) -> None:
        """The network is another one."""
        super().renew()
        self.keys.renew()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the connections until it is cancelled."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.keys.run)
            await super().run(task_status)

    def _session(self) -> DohSession:
        return DohSession(self._requests(), pipeline=self._pipeline, checking_disabled=self._cd)

    def _layer(self) -> Layer:
        return self._tls.layer()


class Keys:
    """The key of a target: as configured, or as the target itself tells it, whom we then connect to, but ask nothing else."""

    def __init__(self, upstream: settings.Upstream, forwarding: settings.Forwarding, complain: Complain) -> None:
        self.target: Target | None = None
        """Whom to seal for now; None while that is not known."""
        self._until = 0.0
        self._asked = -PAUSE
        self._asking: trio.Lock | None = None
        self._patience = forwarding.connect_timeout
        self._pool: _TargetPool | None = None
        if upstream.odoh_config:
            self.target = _configured(upstream)
        else:
            self._pool = _TargetPool(upstream, forwarding, complain)

    def located(self, locate: Locate) -> None:
        """How the target's addresses are found."""
        if self._pool is not None:
            self._pool.located(locate)

    def renew(self) -> None:
        """The network is another one."""
        if self._pool is not None:
            self._pool.renew()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the connections to the target until it is cancelled."""
        self._asking = trio.Lock()
        if self._pool is not None:
            await self._pool.run(task_status)
        else:
            task_status.started()

    def refused(self, target: Target) -> None:
        """The target does not know this key any more: another is asked for with the next connection."""
        if target is self.target and self._pool is not None:
            self.target = None

    async def ready(self) -> None:
        """Returns once there is a target to seal for; raises Unfound, an OSError."""
        if self._pool is None or self._is_current():
            return
        if self._asking is None:
            raise Unfound("the upstream is not running")
        async with self._asking:
            if not self._is_current():
                await self._renew(self._pool)

    def _is_current(self) -> bool:
        return self.target is not None and trio.current_time() < self._until

    async def _renew(self, pool: _TargetPool) -> None:
        now = trio.current_time()
        if self.target is None and now < self._asked + PAUSE:
            raise Unfound("the target refused the key that it told a moment ago, or told none")
        self._asked = now
        try:
            self.target = Target(parse_configs_untrusted(await pool.fetch(now + self._patience)))
            self._until = now + LIFETIME
        except (ResolveError, MalformedMessage) as error:
            if self.target is None:
                raise Unfound(f"the target's key is not to be had: {error}") from error
            self._until = now + PAUSE


class _OnceKeyed(Addresses):
    """The relay's, which is of use only once there is a key: no connection opens before."""

    def __init__(self, configured: tuple[str, ...], keys: Keys) -> None:
        super().__init__(configured)
        self._keys = keys

    async def known(self) -> tuple[str, ...]:
        """As of all addresses."""
        await self._keys.ready()
        return await super().known()


class _TargetPool(StreamPool):
    """Connections to a target, to ask it for its keys."""

    transport = Transport.DOH

    def __init__(self, upstream: settings.Upstream, forwarding: settings.Forwarding, complain: Complain) -> None:
        super().__init__(upstream, forwarding)
        self._tls = TlsClient(upstream, forwarding, "h2", alpn_required=True, complain=complain)
        self._pipeline = forwarding.pipeline

    async def fetch(self, until: float) -> bytes:
        """What the target tells; raises ResolveError."""
        exchange = self.begin(Query(_NOTHING, INTERNAL, until))
        try:
            octets = await exchange.octets(until)
        finally:
            exchange.drop()
        if octets is None:
            raise UpstreamFailed("no answer in time")
        return octets

    def _session(self) -> DohSession:
        return DohSession(KeyRequests(authority(self._upstream)), pipeline=self._pipeline)

    def _layer(self) -> Layer:
        return self._tls.layer()


def _configured(upstream: settings.Upstream) -> Target:
    try:
        return Target(parse_configs_untrusted(upstream.odoh_config))
    except MalformedMessage as error:
        raise BadKey(f"upstream {upstream.name}: odoh_config: {error}") from error
