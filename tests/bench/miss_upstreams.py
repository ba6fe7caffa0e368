"""Who is asked where misses are measured: NSD over TLS, unbound over HTTP/2, or quic-go over QUIC and HTTP/3."""

from __future__ import annotations

from pathlib import Path

from programs import Running, execute, free_ports
from quic_go_peer import QuicGo, build

APEX = "$ORIGIN {0}.\n$TTL 86400\n@ SOA ns hostmaster 1 3600 600 864000 3600\n@ NS ns\nns A 127.0.0.1\n"
PLAIN = "plain.zz"
Certificate = tuple[Path, Path]
"""A file with the chain, and one with the key."""


class Nsd(Running):
    """Serves over TLS plain.zz, the signed sec.zz and leaf.sec.zz, and the unsigned open.sec.zz."""

    def __init__(self, directory: Path, certificate: Certificate, signed_names: int = 0) -> None:
        self.directory = directory
        (self.port,) = free_ports(1)
        (directory / PLAIN).write_text(APEX.format(PLAIN) + "* A 192.0.2.33\n")
        (directory / "open.sec.zz").write_text(APEX.format("open.sec.zz") + "* A 192.0.2.33\n")
        files = {PLAIN: PLAIN, "open.sec.zz": "open.sec.zz"}
        self.anchor = ""
        if signed_names:
            leaf = self._sign("leaf.sec.zz", "".join(f"s{n} A 192.0.2.33\n" for n in range(signed_names)))
            self.anchor = self._sign("sec.zz", f"leaf NS ns\nopen NS ns\n{leaf}\n")
            files |= {"sec.zz": "sec.zz.signed", "leaf.sec.zz": "leaf.sec.zz.signed"}
        zones = "".join(f'zone:\n  name: {zone}\n  zonefile: "{directory}/{file}"\n' for zone, file in files.items())
        config = directory / "nsd.conf"
        config.write_text(f"""server:
  server-count: 1
  ip-address: 127.0.0.1@{self.port}
  tls-service-pem: "{certificate[0]}"
  tls-service-key: "{certificate[1]}"
  tls-port: {self.port}
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  zonelistfile: "{directory}/zone.list"
  minimal-responses: yes
remote-control:
  control-enable: no
{zones}""")
        super().__init__(["nsd", "-d", "-c", config], directory / "nsd.log", [self.port])

    @property
    def url(self) -> str:
        """Where it is."""
        return f"tls://127.0.0.1:{self.port}"

    def _sign(self, zone: str, records: str) -> str:
        """Its DS."""
        directory = self.directory
        (directory / zone).write_text(APEX.format(zone) + records)
        key = execute("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", zone, cwd=directory).strip()
        execute("dnssec-signzone", "-q", "-P", "-S", "-z", "-o", zone, "-3", "-", "-H", "0", zone, cwd=directory)
        return execute("dnssec-dsfromkey", "-2", key, cwd=directory).strip()


class Unbound(Running):
    """Serves plain.zz over HTTP/2."""

    anchor = ""

    def __init__(self, directory: Path, certificate: Certificate) -> None:
        (self.port,) = free_ports(1)
        (directory / PLAIN).write_text(APEX.format(PLAIN) + "* A 192.0.2.33\n")
        config = directory / "unbound.conf"
        config.write_text(f"""server:
  num-threads: 1
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  do-ip6: no
  directory: "{directory}"
  interface: 127.0.0.1@{self.port}
  https-port: {self.port}
  http-max-streams: 2000
  http-query-buffer-size: 64m
  http-response-buffer-size: 64m
  tls-service-pem: "{certificate[0]}"
  tls-service-key: "{certificate[1]}"
  tcp-idle-timeout: 120000
  module-config: "iterator"
  local-zone: "zz." transparent
remote-control:
  control-enable: no
auth-zone:
  name: {PLAIN}
  zonefile: "{directory}/{PLAIN}"
  for-upstream: no
""")
        super().__init__(["unbound", "-d", "-c", config], directory / "unbound.log", [self.port])

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}/dns-query"


class Quic(QuicGo):
    """Serves every name over QUIC and HTTP/3."""

    anchor = ""

    def __init__(self, directory: Path, certificate: Certificate, scheme: str) -> None:
        super().__init__(build(directory), certificate, "-streams", "1000")
        self._scheme = scheme

    @property
    def url(self) -> str:
        """Where it is, once it runs."""
        return f"quic://127.0.0.1:{self.doq_port}" if self._scheme == "doq" else f"h3://127.0.0.1:{self.doh3_port}/dns-query"


Upstream = Nsd | Unbound | Quic


def upstream(transport: str, directory: Path, certificate: Certificate, signed_names: int) -> Upstream:
    """One that speaks this; it runs until the block that it opens ends."""
    if transport == "dot":
        return Nsd(directory, certificate, signed_names)
    return Unbound(directory, certificate) if transport == "doh" else Quic(directory, certificate, transport)
