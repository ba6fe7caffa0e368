"""An upstream that is written by its name, and found by another: two unbounds, and nobody asked in clear."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from programs import Running, free_ports, need
from real_peers import LISTEN, Proxy, ask

from dohproxy.lab.certificates import Authority

CONFIG = """\
server:
  interface: 127.0.0.1@{port}
  tls-port: {port}
  tls-service-pem: "{certificate}"
  tls-service-key: "{key}"
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/{name}.pid"
  use-syslog: no
  logfile: ""
  log-queries: yes
  do-ip6: no
  module-config: "iterator"
  local-zone: "." static
  local-data: ". NS dns.peers."
  local-data: "dns.peers. 40 A 127.0.0.1"
  local-data: "who.peers. 0 TXT {name}"
remote-control:
  control-enable: no
"""


@dataclass
class Peers:
    directory: Path
    ca_file: Path
    guide: int
    named: int


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    need("unbound")
    directory = tmp_path_factory.mktemp("bootstrap")
    authority = Authority("test authority")
    ports = free_ports(2)
    running = []
    for name, sans, port in (("guide", ("127.0.0.1",), ports[0]), ("named", ("dns.peers",), ports[1])):
        certificate, key = authority.server(*sans).write(directory, name)
        config = directory / f"{name}.conf"
        config.write_text(CONFIG.format(port=port, certificate=certificate, key=key, directory=directory, name=name))
        running.append(Running(["unbound", "-d", "-c", config], directory / f"{name}.log", [port]))
    with running[0], running[1]:
        yield Peers(directory, authority.write(directory), *ports)


def config(peers: Peers, bootstrap: str) -> str:
    """The one by its name alone serves; the other only its zone."""
    zone = f'[[zone]]\nname = "elsewhere"\nupstream = [{{ url = "tls://dns.peers:{peers.named}", bootstrap = "guide" }}]\n'
    return (
        f'{LISTEN}[[upstream]]\nurl = "tls://dns.peers:{peers.named}"\nbootstrap = "{bootstrap}"\nca_file = "{peers.ca_file}"\n'
        f'[[upstream]]\nname = "guide"\nurl = "tls://127.0.0.1:{peers.guide}"\nca_file = "{peers.ca_file}"\n'
        f'{zone}[dnssec]\nmode = "off"\n'
    )


def test_an_upstream_is_found_by_another(peers: Peers) -> None:
    with Proxy(peers.directory, config(peers, "guide"), "found") as proxy:
        answer = ask(proxy.port, "who.peers", "TXT")
        assert [str(rdata) for rrset in answer.answer for rdata in rrset] == ['"named"']
    asked = (peers.directory / "guide.log").read_text()
    assert "dns.peers. A IN" in asked
    assert "dns.peers. AAAA IN" in asked
    assert "who.peers." not in asked


def test_who_is_not_found_is_replaced(peers: Peers) -> None:
    """The system's resolver does not know the name: the next upstream answers, and the log says why."""
    with Proxy(peers.directory, config(peers, "system"), "lost") as proxy:
        answer = ask(proxy.port, "who.peers", "TXT")
        assert [str(rdata) for rrset in answer.answer for rdata in rrset] == ['"guide"']
        assert "its addresses are not to be found: the system's resolver" in proxy.log.read_text()
