"""What an eavesdropper sees: a packet capture of every interface while the proxy is asked."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from programs import SEARCH, execute, need, wait_until
from real_peers import Proxy, World, ask, facts, upstream

LABELS = [f"secret{number}" for number in range(8)]


@contextmanager
def capture(file: Path, expression: str) -> Iterator[subprocess.Popen[str]]:
    """Writes the packets that fit the expression into the file, whole and at once."""
    need("tcpdump")
    command = ["tcpdump", "-i", "any", "-n", "-U", "-s", "0", "-w", str(file), expression]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PATH": SEARCH}) as tcpdump:
        assert tcpdump.stderr is not None
        said = ""
        while "listening on" not in said:
            line = tcpdump.stderr.readline()
            if not line and "CI" in os.environ:
                pytest.fail(f"packets cannot be captured: {said}")
            if not line:
                pytest.skip(f"packets cannot be captured here: {said}")
            said += line
        yield tcpdump
        tcpdump.send_signal(signal.SIGINT)
        tcpdump.communicate(timeout=10)


def ask_all(proxy: Proxy) -> list[tuple[str, bool]]:
    return [facts(ask(proxy.port, f"{label}.wild.p256.peers."))[:2] for label in LABELS]


@pytest.mark.parametrize("transport", ["dot", "doh"])
def test_no_name_leaves_in_clear(world: World, tmp_path: Path, transport: str) -> None:
    seen, own = tmp_path / "seen.pcap", tmp_path / "own.pcap"
    with Proxy(tmp_path, world.config(getattr(world, transport))) as proxy:
        others = f"not port {proxy.port} and not port {world.nsd_port}"  # its clients, and the resolver's own questions
        resolver = world.resolver.dot_port if transport == "dot" else world.resolver.doh_port
        with capture(seen, others), capture(own, f"port {proxy.port}"):
            assert ask_all(proxy) == [("NOERROR", True)] * len(LABELS)
            wait_until(lambda: packets(seen, f"port {resolver}") > 4, what="capture of the encrypted connection")
            wait_until(lambda: all(label in content(own) for label in LABELS), what="capture of the clients")
    assert not [label for label in LABELS if label in content(seen)]


def test_nothing_is_asked_in_clear_when_the_upstream_is_gone(world: World, tmp_path: Path) -> None:
    seen = tmp_path / "seen.pcap"
    gone = upstream("tls://127.0.0.1:9", world.ca_file) + upstream("https://127.0.0.1:9/dns-query", world.ca_file)
    with (
        Proxy(tmp_path, world.config(gone, more="[forwarding]\ntimeout = 2.0\n")) as proxy,
        capture(seen, f"not port {proxy.port}"),
    ):
        assert set(ask_all(proxy)) == {("SERVFAIL", False)}
        wait_until(lambda: packets(seen, "port 9") > 0, what="capture of what is tried")
    assert not [label for label in LABELS if label in content(seen)]


def content(file: Path) -> str:
    return file.read_bytes().decode("latin-1")


def packets(file: Path, expression: str) -> int:
    return len(execute("tcpdump", "-n", "-r", file, expression).splitlines())
