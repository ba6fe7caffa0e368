"""What networks do to connections, done to real packets between namespaces: clients hardly notice, and it is over soon.

The figures that each test prints (pytest -rP) are those of docs/operations.md.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from networks import ELSEWHERE, FAR, NEAR, Clients, Network, network
from programs import free_ports, wait_until
from real_peers import LISTEN, Proxy, Unbound, ask, certificates, dnssec, facts, nsd, upstream
from signed_zones import SignedZones

CALM, TROUBLE, AFTER = 1.5, 3.0, 2.5
"""Seconds of a test: before, during and after what happens."""
RECOVERY = 1.0
"""Seconds after which nobody notices any more."""
TRY_TIMEOUT = 1.5
"""The proxy's `forwarding.try_timeout`."""


class FarUnbound(Unbound):
    """A resolver that the near side can reach."""

    def __init__(
        self, place: Network, directory: Path, name: str, nsd_port: int, certificate: tuple[Path, Path] | None
    ) -> None:
        super().__init__(directory, name, nsd_port, certificate=certificate)
        config = directory / f"{name}.conf"
        text = config.read_text().replace("interface: 127.0.0.1@", "interface: 0.0.0.0@")
        if certificate is None:
            text, self.ports = text.replace(f"@{self.plain_port}", "@53"), [53]
        config.write_text(text.replace("127.0.0.0/8 allow", "0.0.0.0/0 allow"))
        self._place = place

    def start(self) -> float:
        with self._place.far:
            return super().start()


@dataclass
class Land:
    """Two sides, and those who serve on the far one."""

    network: Network
    directory: Path
    ca_file: Path
    anchor: str
    first: FarUnbound
    second: FarUnbound
    plain: FarUnbound
    """The network's own resolver, in clear."""

    def upstream(self, unbound: FarUnbound, kind: str = "dot") -> str:
        url = f"tls://{FAR}:{unbound.dot_port}" if kind == "dot" else f"https://{FAR}:{unbound.doh_port}/dns-query"
        return upstream(url, self.ca_file)

    def questions(self) -> int:
        """How many have come to the resolvers so far, of those that clients ask."""
        return sum(unbound.log.read_text().count(".many.peers. A IN") for unbound in (self.first, self.second))

    def config(self, *upstreams: str, more: str = "") -> str:
        return LISTEN + "".join(upstreams) + dnssec(self.anchor) + more


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Land]:
    directory = tmp_path_factory.mktemp("land")
    with ExitStack() as stack:
        place = stack.enter_context(network())
        zones = SignedZones(directory)
        ca_file, certificate = certificates(directory)
        (port,) = free_ports(1)
        with place.far:
            stack.enter_context(nsd(directory, zones, port))
        first = stack.enter_context(FarUnbound(place, directory, "first", port, certificate))
        second = stack.enter_context(FarUnbound(place, directory, "second", port, certificate))
        plain = stack.enter_context(FarUnbound(place, directory, "plain", port, None))
        yield Land(place, directory, ca_file, zones.anchor, first, second, plain)


@pytest.fixture(autouse=True)
def whole(land: Land) -> Iterator[None]:
    """Each test finds the network as it should be."""
    yield
    land.first.send(signal.SIGCONT)
    land.network.wire.repair()
    land.network.bring_up()


@contextmanager
def proxy(land: Land, config: str, tmp_path: Path) -> Iterator[Proxy]:
    """A proxy on the near side that has answered something."""
    with land.network.near, Proxy(tmp_path, config) as running:
        wait_until(lambda: facts(ask(running.port, "www.rsa.peers."))[:2] == ("NOERROR", True), what="an answer")
        yield running


def clients(land: Land, running: Proxy, rate: float = 25.0) -> Clients:
    names = count()
    return Clients(land.network.near, running.port, lambda: f"n{next(names)}.many.peers.", rate)


@pytest.fixture(params=["dot", "doh"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Log = Callable[..., None]


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Log:
    def print_with_name(what: str, figures: object) -> None:
        print(f"{request.node.name}: {what}: {figures}")

    return print_with_name


# Connections that end, or are of no use any more


def reset(land: Land) -> None:
    """The server's side of each connection is destroyed, and tells so by RST."""
    land.network.far.run(f"ss -K sport = {land.first.dot_port}")
    land.network.far.run(f"ss -K sport = {land.first.doh_port}")


def rebind(land: Land) -> None:
    """A translator on the way gives connections other ports."""
    land.network.wire.shift += 7


def swallow(land: Land) -> None:
    """A translator, or a firewall, has forgotten the connections, and says nothing."""
    land.network.wire.forget_flows()


def move(land: Land) -> None:
    """The machine gets another address."""
    land.network.bring_up(ELSEWHERE)


@pytest.mark.parametrize("event", [reset, rebind, swallow, move], ids=lambda event: str(event.__name__))
def test_no_client_sees_an_error(land: Land, event: Callable[[Land], None], kind: str, tmp_path: Path, told: Log) -> None:
    config, before = land.config(land.upstream(land.first, kind)), land.questions()
    with proxy(land, config, tmp_path) as running, clients(land, running) as asking:
        time.sleep(CALM)
        at = time.monotonic()
        event(land)
        time.sleep(AFTER)
    during = asking.between(at - 0.1, at + RECOVERY)
    told("in the second after", f"{during}, asked again in all {land.questions() - before - len(asking.asked)}")
    assert asking.between(0).errors == 0
    assert during.slowest < RECOVERY
    assert asking.between(at + RECOVERY).slowest < 0.4


# Networks that are gone for a while


def cut(land: Land) -> Callable[[], None]:
    """Nothing arrives."""
    land.network.wire.cut = True
    return land.network.wire.repair


def down(land: Land) -> Callable[[], None]:
    """There is no network at all."""
    land.network.take_down()
    return land.network.bring_up


def elsewhere(land: Land) -> Callable[[], None]:
    """No network, and then another one."""
    land.network.take_down()
    return lambda: land.network.bring_up(ELSEWHERE)


@pytest.mark.parametrize("event", [cut, down, elsewhere], ids=lambda event: str(event.__name__))
def test_errors_are_quick_and_end_with_the_outage(
    land: Land, event: Callable[[Land], Callable[[], None]], kind: str, tmp_path: Path, told: Log
) -> None:
    config = land.config(land.upstream(land.first, kind))
    with proxy(land, config, tmp_path) as running, clients(land, running) as asking:
        time.sleep(CALM)
        at, end = time.monotonic(), event(land)
        time.sleep(2 * TROUBLE)
        back = time.monotonic()
        end()
        time.sleep(AFTER)
        assert facts(ask(running.port, "www.rsa.peers."))[0] == "NOERROR"
    told("during the outage", asking.between(at, back))
    told("in the second after", asking.between(back, back + RECOVERY))
    told("later", asking.between(back + RECOVERY))
    assert asking.between(0, at - 0.5).errors == 0
    assert all(one.rcode is not None for one in asking.asked)
    assert asking.between(at, back).errors > 0
    assert asking.between(back + RECOVERY).errors == 0
    assert asking.between(back + RECOVERY).slowest < 0.4
    late = asking.between(back - 1.5, back)
    assert late.slowest < 2.5


# Networks that are bad


def test_a_third_of_all_packets_lost(land: Land, kind: str, tmp_path: Path, told: Log) -> None:
    config = land.config(land.upstream(land.first, kind))
    with proxy(land, config, tmp_path) as running, clients(land, running) as asking:
        time.sleep(CALM)
        at = time.monotonic()
        land.network.wire.loss = 0.3
        time.sleep(2 * TROUBLE)
        back = time.monotonic()
        land.network.wire.repair()
        time.sleep(AFTER + RECOVERY)
    during = asking.between(at, back)
    told("30 % lost", during)
    told("in the second after", asking.between(back, back + RECOVERY))
    assert all(one.rcode is not None for one in asking.asked)
    assert during.errors <= 0.1 * len(during.asked)
    assert asking.between(back + 2 * RECOVERY).errors == 0


def test_two_seconds_of_delay(land: Land, kind: str, tmp_path: Path, told: Log) -> None:
    config = land.config(land.upstream(land.first, kind))
    with proxy(land, config, tmp_path) as running, clients(land, running) as asking:
        time.sleep(CALM)
        at = time.monotonic()
        land.network.wire.delay = 1.0
        time.sleep(2 * TROUBLE)
        back = time.monotonic()
        land.network.wire.repair()
        time.sleep(AFTER + RECOVERY)
    told("2 s late", asking.between(at, back))
    told("in the second after", asking.between(back, back + RECOVERY))
    assert all(one.rcode is not None for one in asking.asked)
    assert asking.between(at, back).errors <= 0.5 * len(asking.between(at, back).asked)  # a third, where TCP takes it badly
    assert asking.between(back + RECOVERY).errors == 0


def test_a_narrow_way(land: Land, kind: str, tmp_path: Path, told: Log) -> None:
    with proxy(land, land.config(land.upstream(land.first, kind)), tmp_path) as running:
        land.network.wire.mtu = 1280
        begin = time.monotonic()
        large = ask(running.port, "large.p256.peers.", "TXT")
        told("an answer of 4 KiB", f"{(time.monotonic() - begin) * 1000:.0f} ms")
        assert facts(large)[:2] == ("NOERROR", True)
        assert time.monotonic() - begin < RECOVERY
        assert len(large.to_wire()) > 3000


# One of two


@pytest.mark.parametrize("strategy", ["ordered", "fastest", "race", "spread"])
def test_one_of_two_is_killed_in_mid_load(land: Land, strategy: str, tmp_path: Path, told: Log) -> None:
    both, before = (land.upstream(land.first, "dot"), land.upstream(land.second, "doh")), land.questions()
    config = land.config(*both, more=f'[forwarding]\nstrategy = "{strategy}"\n')
    try:
        with proxy(land, config, tmp_path) as running:
            land.network.wire.delay = 0.02  # so that there are always some under way
            with clients(land, running, rate=300) as asking:
                time.sleep(CALM)
                at = time.monotonic()
                land.first.stop(signal.SIGKILL)
                time.sleep(AFTER)
    finally:
        if land.first.process is not None and land.first.process.poll() is not None:
            land.first.start()
    again = land.questions() - before - len(asking.asked)
    told("in the second after", f"{asking.between(at - 0.1, at + RECOVERY)}, asked again in all {again}")
    assert asking.between(0).errors == 0
    assert asking.between(at - 0.1).slowest < 0.5


def test_one_of_two_falls_silent_in_mid_load(land: Land, kind: str, tmp_path: Path, told: Log) -> None:
    config = land.config(land.upstream(land.first, kind), land.upstream(land.second, kind))
    before = land.questions()
    with proxy(land, config, tmp_path) as running, clients(land, running) as asking:
        time.sleep(CALM)
        at = time.monotonic()
        land.first.send(signal.SIGSTOP)
        time.sleep(AFTER)
        land.first.send(signal.SIGCONT)
    again = land.questions() - before - len(asking.asked)
    told("in the second after", f"{asking.between(at - 0.1, at + RECOVERY)}, asked again in all {again}")
    first = asking.between(at - 0.1, at + RECOVERY)
    assert asking.between(0).errors == 0
    assert first.slowest < TRY_TIMEOUT + 0.5
    assert sum((one.took or 0) >= RECOVERY for one in first.asked) <= 2, "but those after which something else was still said"
    assert asking.between(at + 1.5).slowest < 0.4


def test_a_captive_portal(land: Land, kind: str, tmp_path: Path) -> None:
    portal = f'[captive_portal]\nnames = ["www.insecure.peers"]\nupstream = "{FAR}"\n'
    with proxy(land, land.config(land.upstream(land.first, kind), more=portal), tmp_path) as running:
        assert facts(ask(running.port, "www.insecure.peers."))[0] == "NOERROR"
        land.first.send(signal.SIGSTOP)
        wait_until(lambda: facts(ask(running.port, "n1.many.peers."))[0] == "SERVFAIL", 10, "an outage")
        wait_until(lambda: "a captive portal holds us" in running.log.read_text(), 30, "detection")
        told = ask(running.port, "www.insecure.peers.")
        assert facts(told)[:2] == ("NOERROR", False) and told.answer[0].ttl == 0
        assert facts(ask(running.port, "n2.many.peers."))[0] == "SERVFAIL"
        land.first.send(signal.SIGCONT)
        wait_until(lambda: "let us go" in running.log.read_text(), 10, "the end")
        assert facts(ask(running.port, "www.rsa.peers."))[:2] == ("NOERROR", True)
    asked = [line.split()[-3] for line in land.plain.log.read_text().splitlines() if f"info: {NEAR} " in line]
    assert set(asked) == {"www.insecure.peers."}


def test_the_network_is_as_it_was(land: Land) -> None:
    assert NEAR in land.network.near.run("ip -4 addr")
