"""How often a client may ask: a token bucket for each prefix of client addresses.

Who is over the limit is met with silence, but for every `slip`th query, which is answered truncated: a client whose address is
its own then asks by TCP, and one whose address is forged gains nothing.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
from ipaddress import ip_address
from math import ceil

from dohproxy.config.settings import ClientLimits

_SECOND = 10**9
"""Nanoseconds."""
KEPT = 32768
"""Clients that are known at least; twice as many at most."""


class Charge(IntEnum):
    """What becomes of a query."""

    PASS = 0
    TRUNCATE = 1
    SILENCE = 2


_PASS, _TRUNCATE, _SILENCE = Charge  # here: an enumeration looks its members up slowly


class Prefixes:
    """What counts as one client: its address, or the network that it is in."""

    def __init__(self, ipv4: int, ipv6: int) -> None:
        self._bits = {4: ipv4, 6: ipv6}
        self.of = lru_cache(2 * KEPT)(self._of)
        """The key of the client with this address."""

    def _of(self, host: str) -> bytes:
        address = ip_address(host.partition("%")[0])
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        dropped = address.max_prefixlen - self._bits[address.version]
        return (int(address) >> dropped).to_bytes(address.max_prefixlen // 8)


class Bucket:
    """What a client may ask and has asked. The times are nanoseconds, as no query may be lost to rounding."""

    __slots__ = ("_credit", "_over", "_paid", "_price", "_slip")

    def __init__(self, limits: ClientLimits) -> None:
        self._price = ceil(_SECOND / limits.queries_per_second)
        self._credit = max(limits.burst - 1, 0) * self._price
        self._slip = limits.slip
        self._paid = 0
        """When its queries so far will have been paid for, at its rate."""
        self._over = 0
        """Queries over the limit so far."""

    def pay(self, at: int) -> Charge:
        """Pay for a query at this monotonic time; what becomes of it."""
        paid = self._paid
        if paid <= at:
            self._paid = at + self._price
            return _PASS
        if paid - at <= self._credit:
            self._paid = paid + self._price
            return _PASS
        self._over += 1
        return _TRUNCATE if self._slip and self._over % self._slip == 0 else _SILENCE


class Rates:
    """The buckets of all clients that have come of late. One that is forgotten is full again."""

    def __init__(self, limits: ClientLimits, prefixes: Prefixes) -> None:
        self._limits = limits
        self._prefixes = prefixes
        self._young: dict[bytes, Bucket] = {}
        self._old: dict[bytes, Bucket] = {}
        self.era = 0
        """Whoever holds a bucket is to ask for it again as soon as this is another one: who asks goes on being known."""

    def bucket(self, host: str) -> Bucket:
        """That of the client at this address."""
        key = self._prefixes.of(host)
        bucket = self._young.get(key) or self._old.get(key) or Bucket(self._limits)
        if len(self._young) >= KEPT:
            self._old, self._young = self._young, {}
            self.era += 1
        self._young[key] = bucket
        return bucket
