"""Who is served at all, and in which policy group."""

from __future__ import annotations

from ipaddress import ip_address

from dohproxy.config.settings import Access
from dohproxy.model import Attested, Peer
from dohproxy.policy.addresses import AddressSet
from dohproxy.policy.engine import Engine


class Gate:
    """The access list, which goes by addresses alone, and the policy's own view of who a client is."""

    def __init__(self, access: Access, engine: Engine) -> None:
        self._served, self._engine = AddressSet(access.allow), engine

    def admit(self, peer: Peer) -> str | None:
        """The name of the policy group that this client is in; None if its address is not served, whoever it is."""
        host, identity = peer if isinstance(peer, Attested) else (peer, "")
        address = ip_address(host.partition("%")[0])
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return self._engine.group_of(host, identity).name if address.packed in self._served else None
