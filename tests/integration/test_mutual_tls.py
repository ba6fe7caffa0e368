"""Upstreams of other hands that demand who we are: nginx and stunnel before unbound, by files and by an X.509-SVID."""

from __future__ import annotations

import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import dns.exception
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from demanding import Nginx, Resolver, Stunnel
from programs import wait_until
from real_peers import Proxy, World, ask, facts, upstream
from spiffe_agents import der_of, svid, svids

from dohproxy.lab.certificates import Authority, Credentials

WEB = "spiffe://prod.example/ns/dns/sa/proxy"
SHORT = "[forwarding]\nidle_timeout = 1.0\n"
NEW = ("NXDOMAIN", False)
"""What is said of names that nothing at hand says anything of: every question for one goes upstream."""
_fresh = count()


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Path]:
    authority = Authority("clients")
    return authority, authority.write(tmp_path_factory.mktemp("clients"), "clients")


@pytest.fixture(scope="module")
def resolver(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Resolver]:
    with Resolver(tmp_path_factory.mktemp("resolver"), world.nsd_port) as running:
        yield running


@pytest.fixture
def nginx(world: World, resolver: Resolver, clients: tuple[Authority, Path], tmp_path: Path) -> Iterator[Nginx]:
    with Nginx(tmp_path, resolver, world.certificate, clients[1]) as running:
        yield running


@pytest.fixture
def stunnel(world: World, resolver: Resolver, clients: tuple[Authority, Path], tmp_path: Path) -> Iterator[Stunnel]:
    with Stunnel(tmp_path, resolver, world.certificate, clients[1]) as running:
        yield running


class Load:
    """Clients that ask for what nobody has cached, until the block ends; `said` counts what they were told."""

    def __init__(self, port: int, clients: int = 3) -> None:
        self.said: Counter[tuple[str, bool] | str] = Counter()
        self._port, self._over = port, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.said[facts(ask(self._port, f"n{next(_fresh)}.unsigned.peers."))[:2]] += 1
            except dns.exception.Timeout:
                self.said["timeout"] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self) -> None:
        before = self.said.total()
        wait_until(lambda: self.said.total() > before + 20, 20, "an answer")


def url_of(nginx: Nginx, kind: str) -> str:
    return f"tls://127.0.0.1:{nginx.dot_port}" if kind == "dot" else f"https://127.0.0.1:{nginx.doh_port}/dns-query"


def shown(world: World, url: str, own: str) -> str:
    return upstream(url, world.ca_file) + own


def files(directory: Path, credentials: Credentials) -> str:
    certificate, key = credentials.write(directory, "own")
    return f'client_certificate = "{certificate}"\nclient_key = "{key}"\n'


def ask_once(port: int) -> None:
    assert facts(ask(port, f"n{next(_fresh)}.unsigned.peers."))[:2] == NEW


@pytest.mark.parametrize("kind", ["dot", "doh"])
def test_files_replaced_in_mid_load_cost_no_query_and_no_connection(
    world: World, nginx: Nginx, clients: tuple[Authority, Path], tmp_path: Path, kind: str
) -> None:
    own = files(tmp_path, clients[0].client("before", WEB))
    config = world.config(shown(world, url_of(nginx, kind), own), more=SHORT)
    with Proxy(tmp_path, config) as proxy:
        with Load(proxy.port) as load:
            files(tmp_path, clients[0].client("after", WEB))
            load.goes_on()
            assert nginx.seen == []  # no connection is over
        assert set(load.said) == {NEW}
        wait_until(lambda: len(nginx.seen) > 0, what="an idle connection's end")
        over = len(nginx.seen)
        ask_once(proxy.port)
        wait_until(lambda: len(nginx.seen) > over, what="the end of the next")
        ask_once(proxy.port)
        wait_until(lambda: len(nginx.seen) > over + 1, what="the end of the one after")
    told = [(client["name"], client["resumed"]) for client in nginx.seen]
    assert told[:over] == [("CN=before", ".")] * over
    assert told[over:] == [("CN=after", "."), ("CN=after", "r")]


def test_an_svid_rotated_in_mid_load(world: World, nginx: Nginx, clients: tuple[Authority, Path], tmp_path: Path) -> None:
    from spiffe_grpc import Server  # skips the test where gRPC is not installed

    def rotate(name: str) -> None:
        server.svids.put(svids(svid(WEB, clients[0].client(name, WEB), der_of(clients[0]))))

    server = Server(tmp_path / "agent.sock")
    try:
        rotate("first")
        spiffe = f'[spiffe]\nsocket = "{tmp_path / "agent.sock"}"\n'
        config = world.config(shown(world, url_of(nginx, "dot"), "client_svid = true\n"), more=SHORT + spiffe)
        with Proxy(tmp_path, config) as proxy:
            with Load(proxy.port) as load:
                rotate("second")
                wait_until(lambda: proxy.log.read_text().count(f"says that we are {WEB}") == 2, what="the rotation")
                load.goes_on()
                assert nginx.seen == []
            assert set(load.said) == {NEW}
            wait_until(lambda: len(nginx.seen) > 0, what="an idle connection's end")
            over = len(nginx.seen)
            ask_once(proxy.port)
            wait_until(lambda: len(nginx.seen) > over, what="the end of the next")
    finally:
        server.stop()
    assert [client["name"] for client in nginx.seen] == ["CN=first"] * over + ["CN=second"]


def refusal(world: World, port: int, own: str, directory: Path) -> str:
    config = world.config(shown(world, f"tls://127.0.0.1:{port}", own))
    with Proxy(directory, config) as proxy:
        answer = ask(proxy.port, "www.rsa.peers.")
        assert answer.rcode() == 2
        return " ".join(str(option) for option in answer.options) + proxy.log.read_text()


def test_a_server_that_refuses_us_is_told_of(
    world: World, stunnel: Stunnel, clients: tuple[Authority, Path], tmp_path: Path
) -> None:
    stranger = files(tmp_path, Authority("strangers").client("stranger", WEB))
    assert "the server refuses our certificate: unknown ca" in refusal(world, stunnel.port, stranger, tmp_path)
    assert "the server wants a certificate of us, and none is configured" in refusal(world, stunnel.port, "", tmp_path)
    good = files(tmp_path, clients[0].client("good", WEB))
    with Proxy(tmp_path, world.config(shown(world, f"tls://127.0.0.1:{stunnel.port}", good))) as proxy:
        ask_once(proxy.port)


@pytest.mark.parametrize("kind", ["dot", "doh"])
def test_a_pin(world: World, nginx: Nginx, clients: tuple[Authority, Path], tmp_path: Path, kind: str) -> None:
    key = x509.load_pem_x509_certificate(world.certificate[0].read_bytes()).public_key()
    digest = sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    own = files(tmp_path, clients[0].client("good", WEB))
    for pin, rcode in ((digest, "NOERROR"), (bytes(32), "SERVFAIL")):
        pinned = f'{own}pins = ["sha256/{b64encode(pin).decode()}"]\n'
        with Proxy(tmp_path, world.config(shown(world, url_of(nginx, kind), pinned))) as proxy:
            answer = ask(proxy.port, "www.rsa.peers.")
            assert facts(answer)[0] == rcode
            if rcode == "SERVFAIL":
                assert f"sha256/{b64encode(digest).decode()}" in str(answer)
