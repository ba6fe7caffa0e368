"""Which group a client is in, by its address."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from dohproxy.config.settings import Network
from dohproxy.policy.addresses import canonical


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
