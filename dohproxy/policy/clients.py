"""Which group a client is in, by its identity or its address."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from dohproxy.config.settings import Network
from dohproxy.policy.addresses import canonical

_SPIFFE, _DNS, _BELOW = "spiffe://", "dns:", "dns:*"


class NetworkIndex:
    """Networks with something that belongs to each; the most specific one has an address. Among equals the first has it."""

    def __init__(self, networks: Iterable[tuple[Network, int]]) -> None:
        self._tables: dict[tuple[int, int], dict[int, tuple[Network, int]]] = {}
        for written, owner in networks:
            network = canonical(written)
            shift = network.max_prefixlen - network.prefixlen
            table = self._tables.setdefault((network.version, shift), {})
            table.setdefault(int(network.network_address) >> shift, (written, owner))
        self._order = sorted(self._tables, key=lambda table: table[1])

    def find(self, text: str) -> tuple[Network, int] | None:
        """The network that this address is in and what belongs to it; None for others and for what is no address."""
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            return None
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        value, version = int(address), address.version
        for table in self._order:
            if table[0] == version and (found := self._tables[table].get(value >> table[1])):
                return found
        return None


class IdentityIndex:
    """Patterns of identities with something that belongs to each; the most specific one has an identity.

    A whole identity comes before any pattern with a `*`, and of these the one that says more comes first. Such a `*` is at
    the end of a SPIFFE ID, or before the rest of a DNS name (`dns:*.host.example`), and is any text but none.
    """

    def __init__(self, patterns: Iterable[tuple[str, int]]) -> None:
        self._whole: dict[str, tuple[str, int]] = {}
        self._begun: dict[str, tuple[str, int]] = {}
        self._ended: dict[str, tuple[str, int]] = {}
        for pattern, owner in patterns:
            if pattern.startswith(_SPIFFE) and pattern.endswith("*"):
                self._begun.setdefault(pattern[:-1], (pattern, owner))
            elif pattern.startswith(_BELOW):
                self._ended.setdefault(pattern.removeprefix(_BELOW), (pattern, owner))
            else:
                self._whole.setdefault(pattern, (pattern, owner))
        self._beginnings = sorted(set(map(len, self._begun)), reverse=True)
        self._endings = sorted(set(map(len, self._ended)), reverse=True)

    def find(self, identity: str) -> tuple[str, int] | None:
        """The pattern that this identity fits and what belongs to it; None for others."""
        if found := self._whole.get(identity):
            return found
        if identity.startswith(_SPIFFE):
            ways = ((self._begun, identity[:size]) for size in self._beginnings if size < len(identity))
        else:
            room = len(identity) - len(_DNS) if identity.startswith(_DNS) else 0
            ways = ((self._ended, identity[-size:]) for size in self._endings if size < room)
        return next((found for table, text in ways if (found := table.get(text))), None)
