from __future__ import annotations

import socket

import pytest
import trio
from dns_peers import Bench, Certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> Bench:
    return Bench(nursery, certificates)


@pytest.fixture
def unused_port() -> int:
    """A port of loopback where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
