"""What networks do to connections over QUIC, done to real packets between namespaces; the server is quic-go's.

The figures that each test prints (pytest -rP) are those of docs/operations.md.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from networks import ELSEWHERE, FAR, Clients, Network, network
from programs import wait_until
from quic_go_peer import QuicGo, build
from real_peers import LISTEN, Proxy, ask, certificates, upstream

CALM, TROUBLE, AFTER = 1.5, 4.0, 3.0
"""Seconds of a test: before, during and after what happens."""
RECOVERY = 1.0
"""Seconds after which nobody notices any more."""


@dataclass
class Land:
    network: Network
    ca_file: Path
    server: QuicGo

    def config(self, kind: str) -> str:
        port = self.server.doq_port if kind == "quic" else self.server.doh3_port
        return LISTEN + upstream(f"{kind}://{FAR}:{port}", self.ca_file) + '[dnssec]\nmode = "off"\n'


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Land]:
    directory = tmp_path_factory.mktemp("land")
    program = build(directory)
    ca_file, certificate = certificates(directory)
    with network() as place, place.far, QuicGo(program, certificate, "-address", FAR) as server:
        place.far.__exit__()  # this thread is back where it was; the server stays
        try:
            yield Land(place, ca_file, server)
        finally:
            place.far.__enter__()


@pytest.fixture(autouse=True)
def whole(land: Land) -> Iterator[None]:
    """Each test finds the network as it should be."""
    yield
    land.network.wire.repair()
    land.network.bring_up()


@pytest.fixture
def kind() -> str:
    """Both are driven alike: it takes one to show what becomes of connections."""
    return "quic"


@contextmanager
def asked(land: Land, kind: str, tmp_path: Path) -> Iterator[tuple[Proxy, Clients]]:
    """A proxy on the near side that has answered something, and clients that go on asking it."""
    names = count()
    with land.network.near, Proxy(tmp_path, land.config(kind)) as running:
        wait_until(lambda: ask(running.port, "www.example.").rcode() == 0, what="an answer")
        with Clients(land.network.near, running.port, lambda: f"n{next(names)}.example.") as clients:
            time.sleep(CALM)
            yield running, clients


def rebind(land: Land) -> None:
    """A translator on the way gives connections other ports."""
    land.network.wire.shift += 7


def swallow(land: Land) -> None:
    """A translator, or a firewall, has forgotten the connections, and says nothing."""
    land.network.wire.forget_flows()


def move(land: Land) -> None:
    """The machine gets another address."""
    land.network.bring_up(ELSEWHERE)


@pytest.mark.parametrize("event", [rebind, swallow, move], ids=lambda event: str(event.__name__))
def test_no_client_sees_an_error(land: Land, event: Callable[[Land], None], kind: str, tmp_path: Path) -> None:
    with asked(land, kind, tmp_path) as (_, clients):
        at = time.monotonic()
        event(land)
        time.sleep(AFTER)
    during = clients.between(at - 0.1, at + RECOVERY)
    print(f"{event.__name__}, {kind}: in the second after: {during}")
    assert clients.between(0).errors == 0
    assert during.slowest < RECOVERY
    assert clients.between(at + RECOVERY).slowest < 0.4


def test_a_third_of_all_packets_lost(land: Land, kind: str, tmp_path: Path) -> None:
    with asked(land, kind, tmp_path) as (_, clients):
        at = time.monotonic()
        land.network.wire.loss = 0.3
        time.sleep(2 * TROUBLE)
        back = time.monotonic()
        land.network.wire.repair()
        time.sleep(AFTER)
    during = clients.between(at, back)
    print(f"30 % lost, {kind}: {during}")
    assert all(one.rcode is not None for one in clients.asked)
    assert during.errors <= 0.1 * len(during.asked)
    assert clients.between(back + 2 * RECOVERY).errors == 0


def test_two_seconds_of_delay(land: Land, kind: str, tmp_path: Path) -> None:
    with asked(land, kind, tmp_path) as (_, clients):
        at = time.monotonic()
        land.network.wire.delay = 1.0
        time.sleep(2 * TROUBLE)
        back = time.monotonic()
        land.network.wire.repair()
        time.sleep(AFTER)
    print(f"2 s late, {kind}: {clients.between(at, back)}; then {clients.between(back + RECOVERY)}")
    assert all(one.rcode is not None for one in clients.asked)
    assert clients.between(back + RECOVERY).errors == 0


def test_a_narrow_way(land: Land, kind: str, tmp_path: Path) -> None:
    land.network.wire.mtu = 1280
    with asked(land, kind, tmp_path) as (_, clients):
        time.sleep(1)
    print(f"MTU 1280, {kind}: {clients.between(0)}")
    assert clients.between(0).errors == 0
    assert clients.between(0).slowest < 0.4


def test_an_outage(land: Land, kind: str, tmp_path: Path) -> None:
    with asked(land, kind, tmp_path) as (running, clients):
        at = time.monotonic()
        land.network.wire.cut = True
        time.sleep(TROUBLE)
        back = time.monotonic()
        land.network.wire.repair()
        time.sleep(AFTER)
        assert ask(running.port, "www.example.").rcode() == 0
    print(f"cut, {kind}: {clients.between(at, back)}; then {clients.between(back, back + RECOVERY)}")
    assert all(one.rcode is not None for one in clients.asked)
    assert clients.between(back + RECOVERY).errors == 0
    assert clients.between(back + RECOVERY).slowest < 0.4


def test_a_server_that_stops_for_a_while(land: Land, kind: str, tmp_path: Path) -> None:
    with asked(land, kind, tmp_path) as (_, clients):
        land.server.send(signal.SIGSTOP)
        time.sleep(TROUBLE)
        back = time.monotonic()
        land.server.send(signal.SIGCONT)
        time.sleep(AFTER)
    assert clients.between(back + RECOVERY).errors == 0
    assert clients.between(back + RECOVERY).slowest < 0.4
