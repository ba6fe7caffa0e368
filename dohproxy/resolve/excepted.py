"""Negative trust anchors while they last: told, ended in time, and checked in case they are not needed any more (RFC 7646)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import trio

from dohproxy.config.settings import NegativeAnchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.errors import ResolveError
from dohproxy.model import INTERNAL, Query, Question, Security, Stage
from dohproxy.resolve.trusted import Trusted
from dohproxy.wire.constants import NOERROR, NXDOMAIN, SOA
from dohproxy.wire.names import to_text

log = logging.getLogger(__name__)

POLL = 5.0
"""Seconds between looks at the clock on the wall, which may leap."""
FIRST, CHECK = 300.0, 3600.0
"""Seconds from the start to the first check whether a name validates again, and from one check to the next."""


class Excepted:
    """Looks after the negative anchors that were configured.

    `validator` makes the stage that validates by other anchors than those in force; `wall` is the time that they end by.
    """

    def __init__(
        self,
        negative: Iterable[NegativeAnchor],
        validator: Callable[[AnchorSet], Stage],
        *,
        wall: Callable[[], int],
        timeout: float,
    ) -> None:
        self._validator, self._wall, self._timeout = validator, wall, timeout
        self._active = {anchor.name: anchor for anchor in negative}
        self._needless: set[bytes] = set()

    async def run(self, trusted: Trusted) -> None:
        """End each in time, and check them now and then, until cancelled."""
        for anchor in tuple(self._active.values()):
            self._tell_start(anchor)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_in_time, trusted)
            nursery.start_soon(self._check_often, trusted)

    def _tell_start(self, anchor: NegativeAnchor) -> None:
        if self._is_over(anchor):
            log.warning("%s: it is over, and may go from the configuration", _text(anchor))
            del self._active[anchor.name]
            return
        log.warning("%s: nothing is validated at and below it", _text(anchor))

    def _is_over(self, anchor: NegativeAnchor) -> bool:
        return anchor.until is not None and self._wall() >= anchor.until

    async def _end_in_time(self, trusted: Trusted) -> None:
        while self._active:
            for anchor in [anchor for anchor in self._active.values() if self._is_over(anchor)]:
                log.warning("%s: it is over, and its name is validated again", _text(anchor))
                await self._end(anchor, trusted)
            await trio.sleep(POLL)

    async def _end(self, anchor: NegativeAnchor, trusted: Trusted) -> None:
        if self._active.pop(anchor.name, None) is not None:
            await trusted.replace(trusted.anchors.without_negative(anchor.name))

    async def _check_often(self, trusted: Trusted) -> None:
        await trio.sleep(FIRST)
        while self._active:
            for anchor in tuple(self._active.values()):
                await self._check(anchor, trusted)
            await trio.sleep(CHECK)

    async def _check(self, anchor: NegativeAnchor, trusted: Trusted) -> None:
        security = await self._verdict(anchor, trusted.anchors)
        if security is None:
            self._needless.discard(anchor.name)
        elif anchor.drop:
            log.warning("%s: the name validates again (%s), and so it is dropped", _text(anchor), security.value)
            await self._end(anchor, trusted)
        elif anchor.name not in self._needless:
            self._needless.add(anchor.name)
            log.warning("%s: the name validates again (%s): remove it", _text(anchor), security.value)

    async def _verdict(self, anchor: NegativeAnchor, anchors: AnchorSet) -> Security | None:
        """What its name is without any of the negative anchors; None if it does not validate, or does not resolve."""
        stage = self._validator(anchors.without_negative(*self._active))
        try:
            answer = await stage.resolve(Query(Question(anchor.name, SOA), INTERNAL, trio.current_time() + self._timeout))
        except ResolveError:
            return None
        good = answer.rcode in (NOERROR, NXDOMAIN) and answer.security in (Security.SECURE, Security.INSECURE)
        return answer.security if good else None


def _text(anchor: NegativeAnchor) -> str:
    reason = f" ({anchor.reason})" if anchor.reason else ""
    return f"negative trust anchor {to_text(anchor.name)}{reason}"
