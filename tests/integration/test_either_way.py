"""QUIC and TCP at one port, between two proxies as they are run: whatever passes is used, and nobody sees an error."""

from __future__ import annotations

import re
import signal
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import dns.message
import pytest
from networks import FAR, Clients, Network, network
from programs import execute, free_ports, need, wait_until
from real_peers import LISTEN, Proxy, ask, upstream

from dohproxy.lab.certificates import Authority

NAME = "far.test"
QUIC_AGAIN = 8.0
"""Seconds after which QUIC is used again at the latest: a try takes three seconds, and the pauses are one and two at first."""
_TAIL = """
[dnssec]
mode = "off"
"""
_SERVING = """\
dot = ["{address}:{dns}"]
doq = ["{address}:{dns}"]
doh = ["{address}:{http}"]
doh3 = ["{address}:{http}"]
[tls]
certificate = "far.pem"
key = "far.key"
[local]
records = [{records}]
[[upstream]]
url = "tls://127.0.0.1:1"
tls_name = "nobody.test"
"""
_COUNTED = re.compile(r"\b(dot|doh|doq|doh3)_queries=(\d+)")


class Far(Proxy):
    """The proxy that is asked: DNS over TLS and QUIC at one port, over HTTP/2 and HTTP/3 at another."""

    def __init__(self, directory: Path, address: str, place: Network | None = None) -> None:
        authority = Authority("far")
        self.ca_file = authority.write(directory)
        authority.server(NAME, address).write(directory, "far")
        self.dns, self.http = free_ports(2)
        records = ", ".join(f'"n{number}.peers. 0 IN A 192.0.2.7"' for number in range(600))
        serving = _SERVING.format(address=address, dns=self.dns, http=self.http, records=records)
        super().__init__(directory, LISTEN + serving + _TAIL, "far")
        self._address, self._place = address, place

    def start(self) -> float:
        if self._place is None:
            return super().start()
        with self._place.far:
            return super().start()

    def asked_by(self, scheme: str, more: str = "") -> str:
        """Of a proxy that asks this one."""
        rest = f":{self.dns}" if scheme == "quic" else f":{self.http}/dns-query"
        return LISTEN + upstream(f"{scheme}://{self._address}{rest}", self.ca_file, NAME) + more + _TAIL

    def counts(self) -> dict[str, int]:
        """The queries that came so far, by how they came; those that never came are not told of."""
        before = self.log.read_text().count("counters:")
        self.send(signal.SIGUSR1)
        wait_until(lambda: self.log.read_text().count("counters:") > before, what="counters")
        line = self.log.read_text().rpartition("counters:")[2].splitlines()[0]
        return {"dot": 0, "doh": 0, "doq": 0, "doh3": 0} | {way: int(number) for way, number in _COUNTED.findall(line)}

    def comes_by(self, way: str, near: Proxy, name: str) -> bool:
        """Whether a question to the near proxy comes here by this way."""
        before = self.counts()[way]
        assert ask(near.port, name).rcode() == 0
        return self.counts()[way] > before

    def is_asked_by(self, way: str) -> bool:
        """Whether questions come by this way now."""
        before = self.counts()[way]
        time.sleep(0.2)
        return self.counts()[way] > before + 1


# A firewall that swallows UDP


@pytest.fixture(scope="module")
def land(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Network, Far]]:
    with network() as place, Far(tmp_path_factory.mktemp("far"), FAR, place) as far:
        yield place, far


@pytest.fixture
def names() -> Iterator[str]:
    """That nobody has asked for yet."""
    return (f"n{number}.peers." for number in count())


@contextmanager
def near(land: tuple[Network, Far], scheme: str, directory: Path) -> Iterator[Proxy]:
    place, far = land
    try:
        with place.near, Proxy(directory, far.asked_by(scheme), "near") as running:
            yield running
    finally:
        place.wire.repair()


WAYS = pytest.mark.parametrize(("scheme", "swift", "sure"), [("quic", "doq", "dot"), ("h3", "doh3", "doh")])


@WAYS
def test_udp_is_swallowed_for_a_while(
    land: tuple[Network, Far], scheme: str, swift: str, sure: str, names: Iterator[str], tmp_path: Path
) -> None:
    place, far = land
    with near(land, scheme, tmp_path) as running:
        wait_until(lambda: far.comes_by(swift, running, next(names)), what="QUIC")
        with Clients(place.near, running.port, lambda: next(names)) as clients:
            time.sleep(0.5)
            at, place.wire.no_udp = time.monotonic(), True
            time.sleep(1.5)
            back, place.wire.no_udp = time.monotonic(), False
            wait_until(lambda: far.is_asked_by(swift), QUIC_AGAIN, "the return to QUIC")
            print(f"{scheme}: {time.monotonic() - back:.1f} s until QUIC was used again")
            before = far.counts()
            time.sleep(0.5)
        after = far.counts()
    print(f"{scheme}: in the first second {clients.between(at - 0.1, at + 1)}; later {clients.between(at + 1, back)}")
    assert clients.between(0).errors == 0
    assert clients.between(at - 0.1, at + 1).slowest < 1.0
    assert clients.between(at + 1).slowest < 0.3
    assert after[swift] > before[swift] and after[sure] == before[sure]


@WAYS
def test_udp_never_passes(
    land: tuple[Network, Far], scheme: str, swift: str, sure: str, names: Iterator[str], tmp_path: Path
) -> None:
    place, far = land
    place.wire.no_udp = True
    before = far.counts()
    with near(land, scheme, tmp_path) as running, Clients(place.near, running.port, lambda: next(names)) as clients:
        time.sleep(1)
    after = far.counts()
    assert clients.asked and clients.between(0).errors == 0
    assert clients.between(0).slowest < 0.6
    assert clients.between(clients.asked[0].at + 0.6).slowest < 0.1
    assert after[sure] > before[sure] and after[swift] == before[swift]


# What is told of HTTP/3 (RFC 7838)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with Far(tmp_path_factory.mktemp("local"), "127.0.0.1") as far:
        yield far


@pytest.mark.parametrize("version", ["--http2", "--http1.1"])
def test_curl_is_told_of_http3(local: Far, version: str) -> None:
    need("curl")
    query = urlsafe_b64encode(dns.message.make_query("n1.peers", "A", id=0).to_wire()).rstrip(b"=").decode()
    url = f"https://127.0.0.1:{local.http}/dns-query?dns={query}"
    head = execute("curl", "-sS", version, "--cacert", str(local.ca_file), "-o", "/dev/null", "-D", "-", url)
    assert f'alt-svc: h3=":{local.http}"; ma=86400' in head.splitlines()


def test_our_upstream_takes_the_hint(local: Far, names: Iterator[str], tmp_path: Path) -> None:
    before = local.counts()
    with Proxy(tmp_path, local.asked_by("https", "upgrade = true\n"), "near") as running:
        wait_until(lambda: local.comes_by("doh3", running, next(names)), 5, "HTTP/3")
        settled = local.counts()
        for _ in range(20):
            assert ask(running.port, next(names)).rcode() == 0
        after = local.counts()
    assert settled["doh"] > before["doh"]
    assert (after["doh3"] - settled["doh3"], after["doh"]) == (20, settled["doh"])
