"""nsd and unbound as the tests run them, and dohproxy beside them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.query
from dns.message import Message
from programs import Running, free_ports, need
from signed_zones import ZONES, SignedZones, Zone

from dohproxy.lab.certificates import Authority

TLS_NAME = "unbound.peers"


def nsd(directory: Path, zones: SignedZones, port: int) -> Running:
    """An authoritative server of all zones."""
    need("nsd")
    served = "\n".join(f'zone:\n  name: "{zone.origin}"\n  zonefile: "{zones.file(zone.origin)}"' for zone in zones.zones)
    config = directory / "nsd.conf"
    config.write_text(f"""\
server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  zonelistfile: "{directory}/zone.list"
  verbosity: 1
  hide-version: yes
remote-control:
  control-enable: no
{served}
""")
    return Running(["nsd", "-d", "-c", config], directory / "nsd.log", [port])


class Unbound(Running):
    """A resolver that finds all zones at nsd: validating and asked in clear, or neither."""

    def __init__(
        self,
        directory: Path,
        name: str,
        nsd_port: int,
        *,
        anchor: str = "",
        certificate: tuple[Path, Path] | None = None,
        zones: tuple[Zone, ...] = ZONES,
        more: str = "",
    ) -> None:
        """`more` is for its `server:`, where DOH stands for the port of DNS over HTTPS."""
        need("unbound")
        self.plain_port, self.dot_port, self.doh_port = free_ports(3)
        if certificate is None:
            serving, ports = f"  interface: 127.0.0.1@{self.plain_port}\n", [self.plain_port]
        else:
            serving, ports = self._encrypted(*certificate), [self.dot_port, self.doh_port]
        config = directory / f"{name}.conf"
        modules = "validator iterator" if anchor else "iterator"
        anchors = f'  trust-anchor: "{anchor}"\n' if anchor else ""
        stubs = "".join(f'stub-zone:\n  name: "{zone.origin}"\n  stub-addr: 127.0.0.1@{nsd_port}\n' for zone in zones)
        config.write_text(
            f'server:\n  module-config: "{modules}"\n{anchors}{serving}{_UNBOUND.format(directory=directory, name=name)}'
            f"{more.replace('DOH', str(self.doh_port))}"
            f"remote-control:\n  control-enable: no\n{stubs}"
        )
        super().__init__(["unbound", "-d", "-c", config], directory / f"{name}.log", ports)

    def _encrypted(self, certificate: Path, key: Path) -> str:
        return (
            f"  interface: 127.0.0.1@{self.dot_port}\n  tls-port: {self.dot_port}\n"
            f"  interface: 127.0.0.1@{self.doh_port}\n  https-port: {self.doh_port}\n"
            f'  tls-service-pem: "{certificate}"\n  tls-service-key: "{key}"\n'
        )


_UNBOUND = """\
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/{name}.pid"
  use-syslog: no
  logfile: ""
  verbosity: 1
  log-queries: yes
  num-threads: 1
  do-ip6: no
  do-not-query-localhost: no
  access-control: 127.0.0.0/8 allow
  trust-anchor-signaling: no
  root-key-sentinel: no
  minimal-responses: no
  tcp-idle-timeout: 30000
"""


class Proxy(Running):
    """dohproxy, run from the tree that is tested, with a configuration that may change."""

    def __init__(self, directory: Path, config: str, name: str = "dohproxy") -> None:
        (self.port,) = free_ports(1)
        self.config = directory / f"{name}.toml"
        self.write(config)
        super().__init__(
            [sys.executable, "-m", "dohproxy", "run", "--config", self.config], directory / f"{name}.log", [self.port]
        )

    def _ready(self) -> bool:
        return super()._ready() and " ready" in self.log.read_text()

    def write(self, config: str) -> None:
        """Replaces the configuration file, PORT standing for the port to listen on."""
        self.config.write_text(config.replace("PORT", str(self.port)))


LISTEN = '[listen]\nudp = ["127.0.0.1:PORT"]\ntcp = ["127.0.0.1:PORT"]\n'


def upstream(url: str, ca_file: Path, tls_name: str = TLS_NAME) -> str:
    """An `[[upstream]]`."""
    return f'[[upstream]]\nurl = "{url}"\ntls_name = "{tls_name}"\nca_file = "{ca_file}"\n'


def dnssec(anchor: str, more: str = "") -> str:
    """`[dnssec]` with this root alone."""
    return f'[dnssec]\nroot_anchors = "none"\ntrust_anchors = ["{anchor}"]\n{more}'


@dataclass
class World:
    """All that serves beside the proxy."""

    directory: Path
    zones: SignedZones
    nsd: Running
    nsd_port: int
    resolver: Unbound
    """Asked by the proxy; does not validate."""
    judge: Unbound
    """Validates; asked by the tests."""
    ca_file: Path
    certificate: tuple[Path, Path]

    @property
    def dot(self) -> str:
        return upstream(f"tls://127.0.0.1:{self.resolver.dot_port}", self.ca_file)

    @property
    def doh(self) -> str:
        return upstream(f"https://127.0.0.1:{self.resolver.doh_port}/dns-query", self.ca_file)

    def config(self, *upstreams: str, more: str = "") -> str:
        """A whole configuration, PORT standing for the port."""
        return LISTEN + "".join(upstreams or (self.dot,)) + dnssec(self.zones.anchor) + more


def certificates(directory: Path) -> tuple[Path, tuple[Path, Path]]:
    """The authority's certificate, and a server's certificate and key."""
    authority = Authority("test authority")
    return authority.write(directory), authority.server(TLS_NAME, "127.0.0.1").write(directory, "unbound")


def ask(port: int, name: str, rdtype: str = "A", *, do: bool = False, cd: bool = False, timeout: float = 15) -> Message:
    """The answer of 127.0.0.1, by UDP or, if that is too small, by TCP."""
    query = dns.message.make_query(name, rdtype, use_edns=0, want_dnssec=do, payload=1232)
    query.flags |= dns.flags.AD | (dns.flags.CD if cd else 0)
    answer, _ = dns.query.udp_with_fallback(query, "127.0.0.1", timeout, port)
    return answer


def facts(message: Message) -> tuple[str, bool, frozenset[tuple[str, str, str]]]:
    """What two resolvers have to agree on: rcode, AD, and the answer section without its TTLs."""
    records = {
        (str(rrset.name).lower(), rrset.rdtype.name, str(rdata).lower() if rrset.rdtype.name != "TXT" else str(rdata))
        for rrset in message.answer
        for rdata in rrset
    }
    return dns.rcode.to_text(message.rcode()), bool(message.flags & dns.flags.AD), frozenset(records)


def ede_codes(message: Message) -> list[int]:
    """The codes of its extended errors, in their order."""
    return [int(option.code) for option in message.options if isinstance(option, dns.edns.EDEOption)]
