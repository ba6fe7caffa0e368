"""Trust anchors looked after: followed as their zones roll them (RFC 5011), and compared with what the zones have."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import trio
from msgspec import Struct

from dohproxy.config.settings import Anchor
from dohproxy.dnssec import rfc5011
from dohproxy.dnssec.algorithms import supported
from dohproxy.dnssec.anchors import TrustAnchor, gathered
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.readiness import doubts
from dohproxy.dnssec.rfc5011 import TrustPoint
from dohproxy.dnssec.rfc5011_state import StateError
from dohproxy.dnssec.sighting import Seen, anchors_now, examine
from dohproxy.dnssec.signatures import Dates
from dohproxy.dnssec.validate import Limits
from dohproxy.errors import BudgetExhausted, ResolveError
from dohproxy.model import INTERNAL, Name, Query, Question, RRset, Stage
from dohproxy.resolve.state_file import StateFile
from dohproxy.resolve.trusted import Trusted
from dohproxy.wire.constants import DNSKEY
from dohproxy.wire.names import to_text

log = logging.getLogger(__name__)

TRIES = 2
"""Upstreams that are asked for keys before they count as not valid."""
POLL = 5.0
"""Seconds between looks at the clock on the wall, which may leap."""
NO_EVENTS: tuple[rfc5011.Event, ...] = ()
SETTLE = 60.0
"""Seconds after the start before zones that are not followed are looked at."""


class Look(Struct, frozen=True):
    """A zone's keys as they are now, or why they are not known."""

    zone: Name
    seen: Seen | None
    problem: str = ""


class Following:
    """Looks after the anchors of `configured`, by asking `below` for the keys of their zones.

    With a state file the zones are followed: the keys that come to be trusted join `trusted`, revoked ones leave it.
    Without, the log warns of what a person has to do. `wall` is the time that signatures, and all timers, go by.
    """

    def __init__(
        self,
        below: Stage,
        configured: Iterable[Anchor],
        state: StateFile | None,
        *,
        limits: Limits,
        wall: Callable[[], int],
        timeout: float,
    ) -> None:
        self._below, self._state, self._wall, self._timeout = below, state, wall, timeout
        self._skew, self._algorithms = (limits.skew_min, limits.skew_max), supported(limits.sha1)
        self._configured = tuple(configured)
        self.zones = tuple(dict.fromkeys(anchor.zone for anchor in self._configured))
        """The zones that have anchors."""
        self._unreadable = ""
        known = {point.zone: point for point in self._read()}
        self._points = {zone: known.get(zone, TrustPoint(zone)) for zone in self.zones}
        self._told: dict[Name, frozenset[str]] = {}
        self._save_failed = False

    def _read(self) -> tuple[TrustPoint, ...]:
        try:
            return self._state.read() if self._state else ()
        except StateError as error:
            self._unreadable = str(error)
            return ()

    # What is known

    def point(self, zone: Name) -> TrustPoint | None:
        """What RFC 5011 keeps of the zone; None if it is not followed."""
        return self._points[zone] if self._state else None

    def configured(self, zone: Name) -> TrustAnchor:
        """The zone's anchors before anything was followed."""
        return gathered(zone, self._configured)

    def anchors(self, zone: Name) -> tuple[Anchor, ...]:
        """The zone's anchors as they are now."""
        own = tuple(anchor for anchor in self._configured if anchor.zone == zone)
        return anchors_now(self._points[zone], own) if self._state else own

    def trusted(self, zone: Name) -> TrustAnchor:
        """The same, read."""
        return gathered(zone, self.anchors(zone))

    def doubts(self, look: Look) -> tuple[str, ...]:
        """What is wrong with the zone's anchors, or soon will be, and how to mend it."""
        point = self.point(look.zone)
        if look.seen is None:
            return rfc5011.warnings(point, self._wall()) if point else ()
        return doubts(self.trusted(look.zone), look.seen, self._algorithms, point, self._wall())

    def newcomers(self, look: Look) -> tuple[bytes, ...]:
        """The RDATA of the zone's key signing keys that nothing here knows."""
        known = {key.rdata for key in self._points[look.zone].keys} if self._state else set()
        found = look.seen.newcomers(self._algorithms) if look.seen else ()
        return tuple(key.rdata for key in found if key.rdata not in known)

    # Looking

    async def look(self, zone: Name) -> Look:
        """The zone's keys now. Where no trusted key validates them, another upstream is asked as well."""
        avoid: tuple[str, ...] = ()
        look = Look(zone, None, "no upstream was asked")
        for _ in range(TRIES):
            query = Query(Question(zone, DNSKEY), INTERNAL, trio.current_time() + self._timeout, cd=True, avoid=avoid)
            try:
                answer = await self._below.resolve(query)
            except ResolveError as error:
                return look if look.seen else Look(zone, None, str(error))
            if answer.upstream in avoid:
                break
            avoid = (*avoid, answer.upstream)
            rrset = next((rrset for rrset in answer.answer if (rrset.owner, rrset.rdtype) == (zone, DNSKEY)), None)
            look = self._examined(zone, rrset)
            if look.seen and not look.seen.flaw:
                break
        return look

    def _examined(self, zone: Name, rrset: RRset | None) -> Look:
        if rrset is None:
            return Look(zone, None, "it has no DNSKEY records")
        dates = Dates(self._wall(), *self._skew)
        try:
            seen = examine(
                rrset,
                self.trusted(zone),
                self.configured(zone),
                dates=dates,
                algorithms=self._algorithms,
                budget=Budget(),
            )
        except BudgetExhausted as error:
            return Look(zone, None, str(error))
        return Look(zone, seen, seen.flaw)

    # Following

    async def run(self, trusted: Trusted) -> None:
        """Follow until cancelled: probe each zone when it is due, keep what was seen, and change `trusted` by it."""
        if self._state is None:
            await trio.sleep(SETTLE)
        if self._unreadable:
            await self._put_aside()
        while True:
            for zone, point in self._points.items():
                if rfc5011.is_due(point, self._wall()):
                    await self._probe(zone, trusted)
            await trio.sleep(POLL)

    async def read_along(self, trusted: Trusted) -> None:
        """Change `trusted` by what another process keeps in the state file, until cancelled; ask nobody."""
        if self._state is None:
            return
        seen = 0, 0
        while True:
            if (version := self._state.version()) != seen:
                seen = version
                await self._take_over(trusted)
            await trio.sleep(POLL)

    async def _take_over(self, trusted: Trusted) -> None:
        for point in self._read():
            if point.zone in self._points:
                self._points[point.zone] = point
                await self._adopt(point.zone, trusted)

    async def _put_aside(self) -> None:
        assert self._state is not None
        log.error("%s: started from the configured trust anchors", self._unreadable)
        self._unreadable = ""
        try:
            log.error("the old state is kept as %s", await trio.to_thread.run_sync(self._state.put_aside))
        except OSError as error:
            log.error("%s could not be put aside: %s", self._state.path, error.strerror)

    async def _probe(self, zone: Name, trusted: Trusted) -> None:
        look, wall, before = await self.look(zone), self._wall(), self._points[zone]
        if look.seen is None:
            self._points[zone], events = rfc5011.failed(before, wall), NO_EVENTS
        else:
            self._points[zone], events = rfc5011.observe(before, look.seen.sighting, self._algorithms, wall)
        if self._state is not None:
            for event in events:
                log.warning("trust anchors of %s: %s", to_text(zone), event)
            await self._save()
            await self._adopt(zone, trusted)
        self._tell(look)

    async def _save(self) -> None:
        """Write the state; what cannot be written is kept in memory, and written the next time."""
        assert self._state is not None
        try:
            await trio.to_thread.run_sync(self._state.write, tuple(self._points.values()))
        except OSError as error:
            if not self._save_failed:
                log.error(
                    "%s cannot be written (%s): what is seen of keys is lost at the end", self._state.path, error.strerror
                )
            self._save_failed = True
        else:
            self._save_failed = False

    async def _adopt(self, zone: Name, trusted: Trusted) -> None:
        """Judge by the zone's keys as they are now; other keys than before make everything be judged anew."""
        now, before = self.anchors(zone), trusted.anchors.of(zone)
        changed = trusted.anchors.with_anchors(zone, now)
        if gathered(zone, now).tags == (before.tags if before else frozenset()):
            trusted.anchors = changed
        else:
            log.warning("trust anchors of %s: now %s", to_text(zone), _tags(gathered(zone, now)))
            await trusted.replace(changed)

    def _tell(self, look: Look) -> None:
        """Warn once of each thing that is wrong, for as long as it is."""
        found = frozenset(self.doubts(look))
        for doubt in sorted(found - self._told.get(look.zone, frozenset())):
            log.warning("trust anchors: %s", doubt)
        if self._told.get(look.zone) and not found:
            log.info("trust anchors of %s: all is well again", to_text(look.zone))
        self._told[look.zone] = found


def _tags(anchor: TrustAnchor) -> str:
    return ", ".join(map(str, sorted(anchor.tags))) or "none"
