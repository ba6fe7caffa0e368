"""Real software around the proxy: nsd has the zones, unbound resolves for us by DoT and DoH, another unbound judges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from programs import free_ports
from real_peers import Proxy, Unbound, World, certificates, nsd
from signed_zones import SignedZones


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
