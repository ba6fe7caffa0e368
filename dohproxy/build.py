"""The composition root: the only reader of the whole configuration. What it makes is what docs/architecture.md draws."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from os import environ

import trio
from msgspec.structs import replace

from dohproxy import __version__
from dohproxy.cache.answers import AnswerStore
from dohproxy.cache.failures import FailureStore
from dohproxy.cache.proofs import ProofStore
from dohproxy.cache.shared import SharedAnswers, SharedFile
from dohproxy.clock import Clock
from dohproxy.config.settings import (
    Anchor,
    BootClock,
    Cache,
    CaptivePortal,
    Dnssec,
    Forwarding,
    NegativeAnchor,
    Settings,
    Upstream,
    Zone,
)
from dohproxy.contained import kept
from dohproxy.dnssec.anchors import AnchorSet, built_in
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import Limits, World
from dohproxy.gate import Gate
from dohproxy.identity.own import BadCertificate, FileCertificate, OwnCertificate
from dohproxy.kernel_clock import is_synchronised
from dohproxy.model import Mode, Name, Query, Question, Stage
from dohproxy.policy.compiled import cache_directory, load_lists
from dohproxy.policy.engine import Engine
from dohproxy.resolve import boot_clock
from dohproxy.resolve.cached import Cached, Stores
from dohproxy.resolve.captive import Captive
from dohproxy.resolve.chased import Chased
from dohproxy.resolve.designations import designations
from dohproxy.resolve.excepted import Excepted
from dohproxy.resolve.flights import Flights
from dohproxy.resolve.following import Following
from dohproxy.resolve.local import Local
from dohproxy.resolve.policed import Policed
from dohproxy.resolve.redirections import Redirections
from dohproxy.resolve.reporting import Reporting
from dohproxy.resolve.routed import Routed
from dohproxy.resolve.selected import Group
from dohproxy.resolve.sentinel import Sentinel, is_signal
from dohproxy.resolve.signalling import signal_daily
from dohproxy.resolve.state_file import StateFile
from dohproxy.resolve.straight import Straight
from dohproxy.resolve.trusted import Trusted
from dohproxy.resolve.upkeep import Upkeep
from dohproxy.resolve.validated import Validated
from dohproxy.resolve.witness import Recorder, Witness
from dohproxy.upstream.bootstrap import locator
from dohproxy.upstream.either import Either
from dohproxy.upstream.network import Network
from dohproxy.upstream.network_resolvers import network_resolvers
from dohproxy.upstream.plain import Udp
from dohproxy.upstream.pool import Pool
from dohproxy.upstream.schemes import Opened, open_upstream
from dohproxy.upstream.secret import secret_of_machine
from dohproxy.wire.names import ROOT, to_text
from dohproxy.workload.client import Workload

log = logging.getLogger(__name__)

_ELSEWHERE = ("192.0.2.1", "2001:db8::1")
"""Addresses that nobody has (RFC 5737, RFC 3849)."""
RELEASED = 1_795_000_000
"""Seconds since 1970: a clock that tells less is wrong, and must not make the built-in anchors look unborn."""
REPLY_SHARE = 0.45
"""Of the cache's size, for finished replies; the rest is for answers and proofs."""
PROOF_SHARE = 0.1


@dataclass(frozen=True)
class Meaning:
    """What the stages below policy are made of: as long as it is the same, so are they, through reloads."""

    upstreams: tuple[Upstream, ...]
    zones: tuple[Zone, ...]
    forwarding: Forwarding
    dnssec: Dnssec
    cache: Cache
    validates: bool
    captive_portal: CaptivePortal | None

    @classmethod
    def of(cls, settings: Settings) -> Meaning:
        """The part of the settings that no client's policy changes. Certificates and keys are followed in their files."""
        modes = [
            settings.dnssec.mode,
            *(zone.mode for zone in settings.zones),
            *(group.mode for group in settings.policy.groups),
        ]
        return cls(
            settings.upstreams,
            settings.zones,
            settings.forwarding,
            settings.dnssec,
            settings.cache,
            any(mode not in (None, Mode.OFF) for mode in modes),
            settings.captive_portal,
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of all upstreams and relays; for those that are yet to be found, where the default routes lead."""
        upstreams = (*self.upstreams, *(upstream for zone in self.zones for upstream in zone.upstreams))
        peers = [peer for upstream in upstreams for peer in (upstream, upstream.relay) if peer is not None]
        known = tuple(address for peer in peers for address in peer.addresses)
        return known + (_ELSEWHERE if any(peer.bootstrap for peer in peers) else ())


def wall_clock(dnssec: Dnssec) -> Callable[[], int]:
    """Tells the time, in seconds since 1970, that signatures are judged by."""
    if dnssec.override_time is not None:
        fixed = dnssec.override_time
        return lambda: fixed
    return lambda: int(time.time())


def anchors_of(dnssec: Dnssec, zones: Sequence[Zone], wall: int) -> tuple[Anchor, ...]:
    """All trust anchors that are configured or built in."""
    given = (*dnssec.anchors, *(anchor for zone in zones for anchor in zone.anchors))
    if dnssec.root_anchors == "builtin" and not any(anchor.zone == ROOT for anchor in given):
        given += built_in(max(wall, RELEASED))
    return given


def negative_anchors_of(dnssec: Dnssec, zones: Sequence[Zone]) -> tuple[NegativeAnchor, ...]:
    """All negative anchors. A zone that is not to be validated is one, also to aliases that lead into it."""
    unchecked = (NegativeAnchor(zone.name, reason='dnssec = "off"') for zone in zones if zone.mode is Mode.OFF)
    return (*dnssec.negative_anchors, *unchecked)


def limits_of(dnssec: Dnssec) -> Limits:
    """The validator's limits; a clock that is set by hand needs no tolerance."""
    skew = (0, 0) if dnssec.override_time is not None else (dnssec.signature_skew_min, dnssec.signature_skew_max)
    return Limits(dnssec.nsec3_max_iterations, *skew, dnssec.sha1)


class Core:
    """The stages that know no client: caches, validation, upstreams. `stage` answers while `run` does."""

    def __init__(
        self,
        meaning: Meaning,
        clock: Clock,
        forget: Callable[[], None] = lambda: None,
        recorder: Recorder | None = None,
        shared: SharedFile | None = None,
        workload: Workload | None = None,
    ) -> None:
        """Opens nothing; raises DohproxyError for what cannot be used, such as a CA file without certificates.

        `forget` is called when what clients were told rests on anchors that are none any more; `recorder` keeps evidence;
        `workload` says who we are where the configuration leaves that to it.
        """
        self.meaning = meaning
        self._recorder, self._shared, self._workload = recorder, shared, workload
        self._clock, self._forget = clock, forget
        self._wall, self._now = wall_clock(meaning.dnssec), clock.now
        self._flights = Flights()
        self._failures = FailureStore(meaning.cache.failure_ttl)
        self._groups = self._routes()
        self._undated: dict[Name, Group] = {}
        self.upkeep: Upkeep | None = None
        """What goes on beside the queries, where answers are validated."""
        self._judge: Validated | None = None
        self._boot: boot_clock.BootClock | None = None
        self.stage: Stage = self._stages()
        self._captive: Captive | None = None
        if meaning.captive_portal is not None and ROOT in self._groups:
            self.stage = self._captive = self._before_portals(meaning.captive_portal, self._groups[ROOT])

    def _routes(self, *, any_date: bool = False) -> dict[Name, Group]:
        """The upstreams of every zone, and for all other names; `any_date` does not look at the dates of certificates."""
        general = self._open(self.meaning.upstreams, {}, any_date=any_date)
        groups = {}
        for zone in self.meaning.zones:
            opened = self._open(zone.upstreams, general, any_date=any_date)
            groups[zone.name] = self._group(opened, to_text(zone.name), strategy=zone.strategy)
        if general:
            groups.setdefault(ROOT, self._group(general))
        return groups

    def _open(self, upstreams: Sequence[Upstream], general: dict[str, Opened], *, any_date: bool) -> dict[str, Opened]:
        """The upstreams ready to be asked, by name: those without addresses are found by each other, or by the `general` ones.

        They are asked with CD set if we validate: finding what is bogus is then ours (RFC 6840 5.9).
        """
        forwarding, cd = self.meaning.forwarding, self.meaning.validates
        opened: dict[str, Opened] = {}
        locate = locator(lambda name: opened.get(name) or general[name], forwarding.timeout)
        for upstream in upstreams:
            meant, own = replace(upstream, any_date=any_date), self._own(upstream)
            one = open_upstream(meant, forwarding, checking_disabled=cd, own=own, complain=log.warning)
            opened[upstream.name] = one
            if isinstance(one, Pool | Either):
                one.located(locate)
        return opened

    def _own(self, upstream: Upstream) -> OwnCertificate | None:
        """Who we are to this upstream; raises BadCertificate."""
        if upstream.client_svid:
            if self._workload is None:
                raise BadCertificate(f"{upstream.name}: the Workload API is listened to after a restart only")
            return self._workload.svid()
        if upstream.client_certificate is None:
            return None
        return FileCertificate(upstream.client_certificate, upstream.client_key, log.warning)

    def _group(self, opened: dict[str, Opened], where: str = "", *, strategy: str | None = None) -> Group:
        forwarding = replace(self.meaning.forwarding, strategy=strategy or self.meaning.forwarding.strategy)
        secret = secret_of_machine(b"spread")
        return Group(tuple(opened.values()), forwarding, where=where, secret=secret, on_return=self._take_heart)

    def _take_heart(self) -> None:
        """Upstreams can be reached again: what failed for want of them need not go on failing."""
        self._failures.clear()

    def _stages(self) -> Stage:
        cache, meaning = self.meaning.cache, self.meaning
        answers = replace(cache, size=int(cache.size * (1 - REPLY_SHARE - PROOF_SHARE)))
        kept = min(cache.max_ttl, cache.max_negative_ttl)
        proofs = ProofStore(int(cache.size * PROOF_SHARE), self._let_speak, kept) if meaning.validates else None
        proven = (lambda question: proofs.synthesize(question, self._now())) if proofs is not None else (lambda _: None)
        self._routed = Routed(self._groups, self._now)
        self._chased = Chased(self._routed, Redirections(self._now), proven)
        stage: Stage = self._chased
        stores = Stores(AnswerStore(answers, self._shared_answers()), self._failures, proofs)
        if meaning.validates:
            stage = self._validated(stage, stores)
        stage = self._cached = Cached(
            stage,
            stores,
            self._flights,
            prefetch=cache.prefetch,
            stale_after=cache.stale_after,
            timeout=meaning.forwarding.timeout,
            now=self._now,
            wall=self._wall,
        )
        if meaning.validates and meaning.dnssec.report_errors:
            stage = Reporting(stage, self._flights, timeout=meaning.forwarding.timeout, now=self._now)
        if self.upkeep is None or not meaning.dnssec.root_key_sentinel:
            return stage
        return Sentinel(stage, partial(_root_tags, self.upkeep.trusted))

    def straight(self, policed: Policed, local: Local) -> Straight:
        """The straight way through these stages, and those of this core."""
        return Straight(
            policed,
            local,
            self._cached,
            self._flights,
            self._judge,
            self._chased,
            self._routed,
            self._groups,
            self._is_elsewhere if self._captive is not None or self.upkeep is not None else None,
            self._now,
        )

    def _is_elsewhere(self, query: Query) -> bool:
        """Whether a stage that most questions have nothing to do with may want this one."""
        if self._captive is not None and self._captive.is_open:
            return True
        return self.upkeep is not None and (is_signal(query) or (self._boot is not None and self._boot.is_open))

    def _before_portals(self, settings: CaptivePortal, group: Group) -> Captive:
        told = network_resolvers if settings.upstream == "dhcp" else lambda: (settings.upstream,)
        forwarding = replace(self.meaning.forwarding, connections=1)

        def resolvers() -> list[Udp]:
            opened = [Upstream(name, "udp", name, 53, addresses=(name,)) for name in told()]
            return [Udp(upstream, forwarding, checking_disabled=False) for upstream in opened]

        return Captive(self.stage, settings, is_lost=lambda: group.is_lost, resolvers=resolvers, forget=self._forget)

    def _shared_answers(self) -> SharedAnswers | None:
        """Those that were judged by the same meaning, by whatever process."""
        if self._shared is None:
            return None
        return SharedAnswers(self._shared, f"{__version__} {self.meaning!r}".encode(), self._now, time.time)

    def _let_speak(self, zone: Name, name: Name) -> bool:
        """Whether proofs of `zone` count for `name` by the anchors in force."""
        return self.upkeep is not None and self.upkeep.trusted.anchors.let_speak(zone, name, self._wall())

    def _validated(self, below: Stage, stores: Stores) -> Stage:
        """Validation over `below`, and what keeps its anchors; `stores` has what rests on these."""
        meaning, keys = self.meaning, TrustCache()
        following = self._following()
        given = tuple(anchor for zone in following.zones for anchor in following.anchors(zone))
        anchors = AnchorSet(given, negative_anchors_of(meaning.dnssec, meaning.zones))
        trusted = Trusted(anchors, (stores.clear, keys.clear, self._forget), meaning.forwarding.timeout)
        excepted = Excepted(
            meaning.dnssec.negative_anchors,
            lambda others: self._validator(below, lambda: others, TrustCache(), None),
            wall=self._wall,
            timeout=meaning.forwarding.timeout,
        )
        witness = Witness(self._recorder) if self._recorder is not None else None
        self._judge = self._validator(below, lambda: trusted.anchors, keys, stores.proofs, witness)
        boot = self._boot = self._boot_clock(self._judge, meaning.dnssec.boot_clock) if meaning.dnssec.boot_clock else None
        signal = partial(signal_daily, Routed(self._groups, self._now), trusted, meaning.forwarding.timeout)
        self.upkeep = Upkeep(trusted, following, excepted, boot, signal if meaning.dnssec.signal_anchors else None)
        return boot or self._judge

    def _following(self) -> Following:
        dnssec = self.meaning.dnssec
        return Following(
            Routed(self._groups, self._now),
            anchors_of(dnssec, self.meaning.zones, self._wall()),
            StateFile(dnssec.rfc5011_state) if dnssec.rfc5011_state else None,
            limits=limits_of(dnssec),
            wall=self._wall,
            timeout=self.meaning.forwarding.timeout,
        )

    def _boot_clock(self, below: Stage, settings: BootClock) -> boot_clock.BootClock:
        self._undated = self._routes(any_date=True)
        unvalidated = Chased(Routed(self._undated, self._now), Redirections(self._now), lambda _: None)
        return boot_clock.BootClock(below, unvalidated, settings, is_set=is_synchronised, age=self._clock.age)

    def _validator(
        self,
        below: Stage,
        anchors: Callable[[], AnchorSet],
        keys: TrustCache,
        proofs: ProofStore | None,
        witness: Witness | None = None,
    ) -> Validated:
        """Validation by these anchors and what is known of keys."""
        limits = limits_of(self.meaning.dnssec)

        def world(fresh: bool) -> World:
            return World(anchors(), keys, limits, self._now(), self._wall(), Budget(), fresh)

        return Validated(below, world, proofs, self._flights, self._now, witness=witness, doubt=self._doubt)

    def _doubt(self, upstream: str, question: Question, why: str) -> None:
        """An upstream's answer is bogus where another one's holds."""
        zone = self._routed.zone_of(question)
        if zone is not None:
            self._groups[zone].doubt(upstream, question.qname, why)

    async def keep(self, keeps: bool, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do the upkeep until cancelled: only of the core that serves, for there is one state file (see Upkeep)."""
        if self.upkeep is None:
            task_status.started()
            await trio.sleep_forever()
        else:
            await self.upkeep.run(keeps, task_status)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the upstreams' connections and the flights, until cancelled."""
        async with trio.open_nursery() as nursery, self._flights:
            for group in (*self._groups.values(), *self._undated.values()):
                await nursery.start(group.run)
            nursery.start_soon(kept, "watching the network", Network(self.meaning.addresses, self._renew).run)
            if self._captive is not None:
                nursery.start_soon(kept, "looking out for captive portals", self._captive.run)
            task_status.started()
            await trio.sleep_forever()

    def _renew(self) -> None:
        """The network is another one."""
        for group in (*self._groups.values(), *self._undated.values()):
            group.renew()


def _root_tags(trusted: Trusted) -> frozenset[int]:
    """The key tags of the root's keys that are trusted now."""
    anchor = trusted.anchors.of(ROOT)
    return anchor.tags if anchor is not None else frozenset()


class Pipeline:
    """All stages for one configuration: policy and local answers on top of the core."""

    def __init__(self, settings: Settings, core: Core, clock: Clock) -> None:
        """May take seconds where long lists are to be compiled; raises ConfigError."""
        zones = frozenset(zone.name for zone in settings.zones)
        modes = {zone.name: zone.mode for zone in settings.zones if zone.mode is not None}
        self.engine = Engine(settings.policy, load_lists(settings.policy, cache_directory(environ)))
        self.gate = Gate(settings.access, self.engine)
        told = designations(settings.ddr, settings.listen) if settings.ddr else ()
        records = replace(settings.local, records=(*settings.local.records, *told))
        local = Local(core.stage, records, clock.now, zones)
        policed = Policed(local, self.engine, mode=settings.dnssec.mode, modes=modes, zones=zones, now=clock.now)
        self.stage: Stage = policed
        self.straight = core.straight(policed, local)


def workload_of(settings: Settings) -> Workload | None:
    """Who says who we are, if the configuration leaves that to anybody."""
    return None if settings.spiffe.socket is None else Workload(settings.spiffe.socket)


def rehearsed(settings: Settings, recorder: Recorder | None = None, workload: Workload | None = None) -> tuple[Core, Pipeline]:
    """All that a service with these settings is made of, opened for nobody; raises ConfigError."""
    clock = Clock()
    core = Core(Meaning.of(settings), clock, recorder=recorder, workload=workload or workload_of(settings))
    return core, Pipeline(settings, core, clock)


@asynccontextmanager
async def resolver(settings: Settings, recorder: Recorder | None = None) -> AsyncIterator[Pipeline]:
    """The stages alone, for a question or two from the command line; raises ConfigError."""
    workload = workload_of(settings)
    core, pipeline = rehearsed(settings, recorder, workload)
    async with trio.open_nursery() as nursery:
        if workload is not None:
            await nursery.start(workload.run)
        await nursery.start(core.run)
        yield pipeline
        nursery.cancel_scope.cancel()
