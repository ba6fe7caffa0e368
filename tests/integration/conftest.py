"""Real software around the proxy: nsd has the zones, unbound resolves for us by DoT and DoH, another unbound judges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs import Running, free_ports
from real_peers import LISTEN, Proxy, Unbound, certificates, dnssec, nsd, upstream
from signed_zones import SignedZones


@dataclass
class World:
    """All that serves beside the proxy."""

    directory: Path
    zones: SignedZones
    nsd: Running
    nsd_port: int
    resolver: Unbound
    """Asked by the proxy; does not validate."""
    judge: Unbound
    """Validates; asked by the tests."""
    ca_file: Path
    certificate: tuple[Path, Path]

    @property
    def dot(self) -> str:
        return upstream(f"tls://127.0.0.1:{self.resolver.dot_port}", self.ca_file)

    @property
    def doh(self) -> str:
        return upstream(f"https://127.0.0.1:{self.resolver.doh_port}/dns-query", self.ca_file)

    def config(self, *upstreams: str, more: str = "") -> str:
        """A whole configuration, PORT standing for the port."""
        return LISTEN + "".join(upstreams or (self.dot,)) + dnssec(self.zones.anchor) + more


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("peers")
    zones = SignedZones(directory)
    ca_file, certificate = certificates(directory)
    (nsd_port,) = free_ports(1)
    resolver = Unbound(directory, "resolver", nsd_port, certificate=certificate)
    judge = Unbound(directory, "judge", nsd_port, anchor=zones.anchor)
    with nsd(directory, zones, nsd_port) as authoritative, resolver, judge:
        yield World(directory, zones, authoritative, nsd_port, resolver, judge, ca_file, certificate)


@pytest.fixture(scope="session", params=["dot", "doh"])
def proxy(request: pytest.FixtureRequest, world: World) -> Iterator[Proxy]:
    """A proxy that stays the same for many questions, by each transport."""
    with Proxy(world.directory, world.config(getattr(world, request.param)), request.param) as running:
        yield running
