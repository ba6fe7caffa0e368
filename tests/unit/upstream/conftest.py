from __future__ import annotations

import pytest
import trio
from dns_peers import Bench, Certificates
from programs import free_ports


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> Bench:
    return Bench(nursery, certificates)


@pytest.fixture
def unused_port() -> int:
    """A port of loopback where nobody listens, be it over TCP or UDP."""
    return free_ports(1)[0]
