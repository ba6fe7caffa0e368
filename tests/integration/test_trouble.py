"""What can go wrong around the proxy, done to real software: the right answer or the right error, and nothing hangs."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count, cycle
from pathlib import Path

import dns.message
import dns.query
import pytest
from programs import accepts, wait_until
from real_peers import Proxy, Unbound, World, ask, certificates, ede_codes, facts, upstream

QUICK = "[forwarding]\ntimeout = 3.0\ntry_timeout = 0.5\nconnect_timeout = 1.0\n"
SECURE, FAILED = ("NOERROR", True), ("SERVFAIL", False)

_fresh = count()


def fresh() -> str:
    """A name that was never asked for: nothing that is cached answers, or proves anything about it."""
    return f"n{next(_fresh)}.many.peers."


@pytest.fixture
def second(world: World, tmp_path: Path) -> Iterator[Unbound]:
    """Another resolver, for one test to hurt."""
    with Unbound(tmp_path, "second", world.nsd_port, certificate=world.certificate) as running:
        yield running


@pytest.fixture(params=["dot", "doh"])
def fragile(request: pytest.FixtureRequest, world: World, second: Unbound) -> str:
    """The other resolver as an upstream."""
    url = f"tls://127.0.0.1:{second.dot_port}"
    return upstream(url if request.param == "dot" else f"https://127.0.0.1:{second.doh_port}/dns-query", world.ca_file)


def said(port: int, name: str) -> tuple[str, bool]:
    return facts(ask(port, name))[:2]


def test_a_killed_upstream_is_told_and_found_again(world: World, second: Unbound, fragile: str, tmp_path: Path) -> None:
    with Proxy(tmp_path, world.config(fragile, more=QUICK)) as proxy:
        assert said(proxy.port, "www.rsa.peers.") == SECURE
        second.stop(signal.SIGKILL)
        begin = time.monotonic()
        answer = ask(proxy.port, fresh())
        assert facts(answer)[:2] == FAILED and ede_codes(answer)[0] in (22, 23)
        assert time.monotonic() - begin < 4
        assert said(proxy.port, "www.rsa.peers.") == SECURE  # of the cache
        second.start()
        wait_until(lambda: said(proxy.port, fresh()) == SECURE, 15, "recovery")


def test_of_two_upstreams_one_may_die(world: World, second: Unbound, fragile: str, tmp_path: Path) -> None:
    with Proxy(tmp_path, world.config(fragile, world.doh)) as proxy:
        assert said(proxy.port, fresh()) == SECURE
        second.stop(signal.SIGKILL)
        assert [said(proxy.port, fresh()) for _ in range(20)] == [SECURE] * 20


def test_of_two_upstreams_one_may_stall(world: World, second: Unbound, fragile: str, tmp_path: Path) -> None:
    with Proxy(tmp_path, world.config(fragile, world.dot, more=QUICK)) as proxy:
        assert said(proxy.port, fresh()) == SECURE
        second.send(signal.SIGSTOP)
        durations = []
        for _ in range(12):
            begin = time.monotonic()
            assert said(proxy.port, fresh()) == SECURE
            durations.append(time.monotonic() - begin)
        assert max(durations) < 3
        assert min(durations[-3:]) < 0.4, f"the stalled one is still asked first: {durations}"
        second.send(signal.SIGCONT)
        assert said(proxy.port, fresh()) == SECURE


def test_an_upstream_that_stalls_alone_costs_an_error_in_time(
    world: World, second: Unbound, fragile: str, tmp_path: Path
) -> None:
    with Proxy(tmp_path, world.config(fragile, more=QUICK)) as proxy:
        assert said(proxy.port, fresh()) == SECURE
        second.send(signal.SIGSTOP)
        begin = time.monotonic()
        answer = ask(proxy.port, fresh())
        assert facts(answer)[:2] == FAILED and ede_codes(answer)[0] in (22, 23)
        assert time.monotonic() - begin < 4.5
        second.send(signal.SIGCONT)
        wait_until(lambda: said(proxy.port, fresh()) == SECURE, 15, "recovery")


@pytest.mark.parametrize("scheme", ["tls", "https"])
def test_a_certificate_for_another_name_is_refused(world: World, tmp_path: Path, scheme: str) -> None:
    port = world.resolver.dot_port if scheme == "tls" else world.resolver.doh_port
    path = "" if scheme == "tls" else "/dns-query"
    wrong = upstream(f"{scheme}://127.0.0.1:{port}{path}", world.ca_file, "other.peers")
    with Proxy(tmp_path, world.config(wrong, more=QUICK)) as proxy:
        answer = ask(proxy.port, fresh())
    assert facts(answer)[:2] == FAILED and ede_codes(answer)[0] in (22, 23)


@pytest.mark.parametrize("transport", ["dot", "doh"])
def test_a_certificate_of_another_authority_is_refused(world: World, tmp_path: Path, transport: str) -> None:
    stranger, _ = certificates(tmp_path)
    wrong = getattr(world, transport).replace(str(world.ca_file), str(stranger))
    name = fresh()
    with Proxy(tmp_path, world.config(wrong, more=QUICK)) as proxy:
        answer = ask(proxy.port, name)
    assert facts(answer)[:2] == FAILED and ede_codes(answer)[0] in (22, 23)
    assert name not in world.resolver.log.read_text()


def test_a_full_tcp_table_makes_room_and_udp_goes_on(world: World, tmp_path: Path) -> None:
    config = world.config().replace("[listen]\n", "[listen]\ntcp_connections = 5\ntcp_connections_per_client = 5\n")
    with Proxy(tmp_path, config) as proxy:
        idle = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(20)]
        try:
            assert said(proxy.port, "www.rsa.peers.") == SECURE
            query = dns.message.make_query("www.p256.peers.", "A")
            assert dns.query.tcp(query, "127.0.0.1", 5, proxy.port).answer
            wait_until(lambda: sum(is_closed(sock) for sock in idle) >= 15, 5, "closing of idle connections")
        finally:
            for sock in idle:
                sock.close()


def is_closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


class Load:
    """Clients that ask all the time while the block runs; `said` counts what they were told."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.said: Counter[tuple[str, bool] | str] = Counter()
        self._port, self._over = port, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        for name in cycle(["www.rsa.peers.", "www.p384.peers.", *(f"n{number}.many.peers." for number in range(1000, 2000))]):
            if self._over.is_set():
                return
            try:
                self.said[said(self._port, name)] += 1
            except dns.exception.Timeout:
                self.said["timeout"] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_reloads_under_load_lose_nothing(world: World, tmp_path: Path) -> None:
    plain = world.config()
    denied = plain + '[[policy.group]]\nname = "default"\ndeny = ["www.ed25519.peers"]\n'
    with Proxy(tmp_path, plain) as proxy, Load(proxy.port) as load:
        for rejected in range(3):
            proxy.write(denied)
            proxy.send(signal.SIGHUP)
            wait_until(lambda: said(proxy.port, "www.ed25519.peers.")[0] == "NXDOMAIN", what="the new rule")
            proxy.write("[listen\nbroken")
            proxy.send(signal.SIGHUP)
            wait_until(lambda n=rejected: proxy.log.read_text().count("not reloaded") > n, what="a word on the broken file")
            assert said(proxy.port, "www.ed25519.peers.")[0] == "NXDOMAIN"
            proxy.write(plain)
            proxy.send(signal.SIGHUP)
            wait_until(lambda: said(proxy.port, "www.ed25519.peers.") == SECURE, what="the old rules")
    assert set(load.said) == {SECURE}
    assert load.said[SECURE] > 100


def counts(proxy: Proxy, what: str) -> bool:
    """Whether it says that by now; what it says comes soon after it was asked."""
    proxy.send(signal.SIGUSR1)
    return f" {what} " in proxy.log.read_text()


def test_sigterm_ends_it_in_three_seconds_with_answers_out(world: World, second: Unbound, fragile: str, tmp_path: Path) -> None:
    with Proxy(tmp_path, world.config(fragile)) as proxy:
        assert said(proxy.port, fresh()) == SECURE
        second.send(signal.SIGSTOP)
        query = dns.message.make_query(fresh(), "A", use_edns=0)
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            wire = query.to_wire()
            client.sendall(len(wire).to_bytes(2) + wire)
            wait_until(lambda: counts(proxy, "tcp_queries=1"), what="the query to be taken")
            threading.Timer(0.5, second.send, [signal.SIGCONT]).start()
            took = proxy.stop()
            client.settimeout(2)
            received = client.recv(65535)
        assert took < 3
        assert proxy.process is not None and proxy.process.returncode == 0
        assert dns.message.from_wire(received[2:]).rcode() == 0


def test_sigterm_does_not_wait_for_an_upstream_that_stalls(world: World, second: Unbound, fragile: str, tmp_path: Path) -> None:
    with Proxy(tmp_path, world.config(fragile)) as proxy:
        assert said(proxy.port, fresh()) == SECURE
        second.send(signal.SIGSTOP)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(dns.message.make_query(fresh(), "A").to_wire(), ("127.0.0.1", proxy.port))
            wait_until(lambda: counts(proxy, "udp_queries=2"), what="the query to be taken")
            assert proxy.stop() < 3


def test_it_is_ready_soon_and_gone_when_ended(world: World, tmp_path: Path) -> None:
    with Proxy(tmp_path, world.config()) as proxy:
        assert said(proxy.port, "www.rsa.peers.") == SECURE
        assert proxy.stop() < 1
        assert not accepts(proxy.port)
    again = Proxy(tmp_path, world.config(), "again")  # at a port of its own: by now the first may be somebody else's
    began = time.monotonic()
    with again:
        assert time.monotonic() - began < 5


def test_without_any_upstream_it_serves_errors_and_what_is_local(world: World, tmp_path: Path) -> None:
    nobody = upstream("tls://127.0.0.1:9", world.ca_file)
    with Proxy(tmp_path, world.config(nobody, more=QUICK)) as proxy:
        answer = ask(proxy.port, "www.rsa.peers.")
        assert facts(answer)[:2] == FAILED and ede_codes(answer) == [22]
        assert said(proxy.port, "localhost.")[0] == "NOERROR"
        assert proxy.log.read_text().count("reach") < 3
