"""How often a client may ask: a token bucket for each prefix of client addresses.

Who is over the limit is met with silence, but for every `slip`th query, which is answered truncated: a client whose address is
its own then asks by TCP, and one whose address is forged gains nothing.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from ipaddress import ip_address
from math import ceil

from dohproxy.config.settings import ClientLimits

_SECOND = 10**9
"""Nanoseconds."""
KEPT = 32768
"""Addresses that are known at least; twice as many at most."""


class Charge(Enum):
    """What becomes of a query."""

    PASS = "pass"
    TRUNCATE = "truncate"
    SILENCE = "silence"


_PASS = Charge.PASS  # here: an enumeration looks its members up slowly


class Prefixes:
    """What counts as one client: its address, or the network that it is in."""

    def __init__(self, ipv4: int, ipv6: int) -> None:
        self._bits = {4: ipv4, 6: ipv6}
        self.of = lru_cache(KEPT)(self._of)
        """The key of the client with this address."""

    def _of(self, host: str) -> bytes:
        address = ip_address(host.partition("%")[0])
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        dropped = address.max_prefixlen - self._bits[address.version]
        return (int(address) >> dropped).to_bytes(address.max_prefixlen // 8)


class Bucket:
    """What a client has used up."""

    __slots__ = ("over", "paid")

    def __init__(self) -> None:
        self.paid = 0
        """When its queries so far will have been paid for, at its rate: nanoseconds, as no query may be lost to rounding."""
        self.over = 0
        """Queries over the limit so far."""


class Rates:
    """The buckets of all clients that have asked of late. One that is forgotten is full again."""

    def __init__(self, limits: ClientLimits, prefixes: Prefixes) -> None:
        self._price = ceil(_SECOND / limits.queries_per_second)
        self._credit = max(limits.burst - 1, 0) * self._price
        self._slip = limits.slip
        self._prefixes = prefixes
        self._hosts: dict[str, Bucket] = {}
        self._young: dict[bytes, Bucket] = {}
        self._old: dict[bytes, Bucket] = {}

    def charge(self, host: str, now: float) -> Charge:
        """Have the client at this address pay for a query; what becomes of that. One look-up, for one that was here before."""
        bucket = self._hosts.get(host) or self._bucket(host)
        paid, at = bucket.paid, int(now * _SECOND)
        if paid <= at:
            bucket.paid = at + self._price
            return _PASS
        if paid - at <= self._credit:
            bucket.paid = paid + self._price
            return _PASS
        bucket.over += 1
        return Charge.TRUNCATE if self._slip and bucket.over % self._slip == 0 else Charge.SILENCE

    def _bucket(self, host: str) -> Bucket:
        """Find or make the client's bucket. The addresses are forgotten all at once, the clients by generations."""
        key = self._prefixes.of(host)
        bucket = self._young.get(key) or self._old.get(key) or Bucket()
        if len(self._young) >= KEPT:
            self._old, self._young = self._young, {}
            self._hosts.clear()
        if len(self._hosts) >= 2 * KEPT:
            self._hosts.clear()
        self._young[key] = self._hosts[host] = bucket
        return bucket
