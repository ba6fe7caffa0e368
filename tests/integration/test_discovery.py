"""`dohproxy discover` against unbound, which designates itself (RFC 9462)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs import Running, free_ports, need
from real_peers import LISTEN, Proxy, ask, facts

from dohproxy.config.load import parse
from dohproxy.lab.certificates import Authority

CONFIG = """\
server:
  interface: 127.0.0.1@{plain}
  interface: 127.0.0.1@{dot}
  tls-port: {dot}
  interface: 127.0.0.1@{doh}
  https-port: {doh}
  tls-service-pem: "{certificate}"
  tls-service-key: "{key}"
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/unbound.pid"
  use-syslog: no
  logfile: ""
  do-ip6: no
  module-config: "iterator"
  local-zone: "." static
  local-data: ". NS dns.peers."
  local-data: 'dns.peers. A 127.0.0.1'
  local-zone: "resolver.arpa." static
  local-data: '_dns.resolver.arpa. SVCB 1 dns.peers. alpn="dot" port={dot} ipv4hint=127.0.0.1'
  local-data: '_dns.resolver.arpa. TYPE64 {doh_record}'
  local-data: '_dns.resolver.arpa. SVCB 3 . alpn="dot"'
remote-control:
  control-enable: no
"""


def doh_record(port: int) -> str:
    """`2 dns.peers. alpn=h2 port=… dohpath=/dns-query{?dns}` as any server takes it (RFC 3597 5)."""
    path = b"/dns-query{?dns}"
    rdata = b"\0\2\3dns\5peers\0" + b"\0\1\0\3\2h2" + b"\0\3\0\2" + port.to_bytes(2) + b"\0\7" + len(path).to_bytes(2) + path
    return rf"\# {len(rdata)} {rdata.hex()}"


@dataclass
class Designating:
    plain: int
    dot: int
    doh: int
    ca_file: Path

    def discover(self, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dohproxy", "discover", "127.0.0.1", "--port", str(self.plain)]
        return subprocess.run([*command, *more], capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(scope="module", params=["127.0.0.1", "127.0.0.9"])
def resolver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Designating, bool]]:
    """unbound, and whether its certificate is for the address that it is asked at."""
    need("unbound")
    directory = tmp_path_factory.mktemp("designating")
    authority = Authority("test authority")
    certificate, key = authority.server("dns.peers", request.param).write(directory, "server")
    plain, dot, doh = free_ports(3)
    config = directory / "unbound.conf"
    config.write_text(
        CONFIG.format(
            plain=plain, dot=dot, doh=doh, certificate=certificate, key=key, directory=directory, doh_record=doh_record(doh)
        )
    )
    with Running(["unbound", "-d", "-c", config], directory / "unbound.log", [plain, dot, doh]):
        yield Designating(plain, dot, doh, authority.write(directory)), request.param == "127.0.0.1"


def test_what_is_verified_can_be_pasted(resolver: tuple[Designating, bool]) -> None:
    peer, is_designated = resolver
    done = peer.discover("--ca-file", str(peer.ca_file))
    assert done.returncode == (0 if is_designated else 1), done.stderr
    _, _, pasted = done.stdout.partition("[[upstream]]")
    if not is_designated:
        assert "not for 127.0.0.1 too" in done.stdout
        assert not pasted
        return
    settings = parse("[[upstream]]" + pasted, "pasted.toml", peer.ca_file.parent)
    assert [(one.scheme, one.host, one.port, one.addresses) for one in settings.upstreams] == [
        ("tls", "dns.peers", peer.dot, ("127.0.0.1",)),
        ("https", "dns.peers", peer.doh, ("127.0.0.1",)),
    ]


def test_whoever_is_designated_is_asked(resolver: tuple[Designating, bool], tmp_path: Path) -> None:
    peer, is_designated = resolver
    config = f'{LISTEN}[[upstream]]\nurl = "ddr://127.0.0.1:{peer.plain}"\nca_file = "{peer.ca_file}"\n[dnssec]\nmode = "off"\n'
    with Proxy(tmp_path, config) as proxy:
        answer = ask(proxy.port, "dns.peers")
        log = proxy.log.read_text()
    if is_designated:
        assert facts(answer) == ("NOERROR", False, frozenset({("dns.peers.", "A", "127.0.0.1")}))
        assert f"designates tls://dns.peers:{peer.dot}, which is verified" in log
    else:
        assert facts(answer)[0] == "SERVFAIL"
        assert "designates nobody who is verified" in log


def test_for_machines(resolver: tuple[Designating, bool]) -> None:
    peer, is_designated = resolver
    done = peer.discover("--ca-file", str(peer.ca_file), "--json")
    told = json.loads(done.stdout)
    assert told["resolver"] == "127.0.0.1"
    assert [(one["alpn"], one["verified"]) for one in told["designations"]] == [
        ("dot", is_designated),
        ("h2", is_designated),
        ("", False),
    ]


def test_nothing_is_verified_by_authorities_that_do_not_know_it(resolver: tuple[Designating, bool]) -> None:
    peer, _ = resolver
    done = peer.discover()
    assert done.returncode == 1
    assert done.stdout.count("its certificate is refused") == 2
    assert "RFC 9462 4.3" in done.stdout
    assert "[[upstream]]" not in done.stdout
