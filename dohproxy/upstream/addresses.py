"""Where an upstream is: its addresses as configured, or as others tell when they are needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from itertools import chain, zip_longest

import trio
from msgspec import Struct

from dohproxy.errors import ResolveError

SHORTEST, LONGEST = 30.0, 86400.0
"""Seconds that what was found counts, whatever its TTL."""
PAUSE = 10.0
"""Seconds from failing to find addresses anew until that is tried again, while others are known."""
PATIENCE = 2.0
"""Seconds that finding them anew may take, while others are known."""


class Found(Struct, frozen=True):
    """Addresses, those of the better family first, and for how many seconds they count."""

    addresses: tuple[str, ...]
    ttl: float


Find = Callable[[], Awaitable[Found]]
"""Asks somebody; raises ResolveError or OSError."""


class Unfound(ConnectionError):
    """Nobody could tell the addresses."""


class Addresses:
    """The addresses of one upstream. Who is to be asked for them, if anyone, is told by `found_by`."""

    def __init__(self, configured: tuple[str, ...]) -> None:
        self._known = configured
        self._last = ""
        self._until = 0.0
        self._find: Find | None = None
        self._asking: trio.Lock | None = None

    def __repr__(self) -> str:
        return f"<Addresses {', '.join(self._known) or 'unknown'}>"

    def found_by(self, find: Find) -> None:
        """Ask so from now on, when they are needed and what is known is past its time."""
        self._find, self._asking = find, trio.Lock()

    async def known(self) -> tuple[str, ...]:
        """To connect to, in the order to try. Waits while nobody has told yet, the caller's deadline permitting.

        Those past their time go on to count while no others are found. Raises Unfound, an OSError.
        """
        if self._find is None or self._asking is None or self._are_current():
            return self._in_order()
        async with self._asking:  # one asks, the others wait for what it finds
            if not self._are_current():
                await self._renew(self._find)
        return self._in_order()

    def worked(self, address: str) -> None:
        """A connection to this one came to be: the next one is tried there first."""
        self._last = address

    def _in_order(self) -> tuple[str, ...]:
        """The one that worked last, then by turns of either family, as otherwise told (RFC 8305 4)."""
        if len(self._known) < 2:
            return self._known
        last = [address for address in self._known if self._last and ip_address(address) == ip_address(self._last)]
        others = [address for address in self._known if address not in last]
        is_six = ":" in (last or others)[0]
        alike, unlike = ([address for address in others if (":" in address) is family] for family in (is_six, not is_six))
        pairs = zip_longest(unlike, alike) if last else zip_longest(alike, unlike)
        return (*last, *filter(None, chain.from_iterable(pairs)))

    def _are_current(self) -> bool:
        return bool(self._known) and trio.current_time() < self._until

    async def _renew(self, find: Find) -> None:
        reason = "no answer in time"
        with trio.move_on_after(PATIENCE if self._known else float("inf")):
            try:
                found = await find()
            except (ResolveError, OSError) as error:
                reason = str(error)
            else:
                if found.addresses:
                    self._known = found.addresses
                    self._until = trio.current_time() + min(max(found.ttl, SHORTEST), LONGEST)
                    return
                reason = "there are none"
        if not self._known:
            raise Unfound(f"its addresses are not to be found: {reason}")
        self._until = trio.current_time() + PAUSE
