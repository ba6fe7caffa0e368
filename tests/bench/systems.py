"""What is measured: the system under test, its peers, and the upstreams behind them; each with its configuration.

All do the same work: one thread or worker, a verified TLS upstream, room for all names of a scenario in the cache.
"""

import base64
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import data

TLS_NAME = "up.bench.zz"
PORTS = {"udp": 20053, "dot": 20853, "doh": 20443, "h3": 20444, "doq": 20784}  # of the upstreams
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])


@dataclass(frozen=True)
class Job:
    """What one system is started for."""

    work: Path  # the directory that setup.sh filled
    run: Path  # an empty directory of its own
    port: int
    upstream: str  # dot, doh, doq or h3
    validate: bool = False
    block: bool = False  # with the list of a million names
    inbound: str = "udp"  # what is served beside UDP and TCP: dot or doh

    @property
    def ca(self) -> Path:
        return self.work / "pki" / "ca.pem"

    @property
    def anchor(self) -> str:
        """The DS record of the signed zones' parent, as `sec.zz. DS ...`."""
        return (self.work / "zones" / "sec.zz.ds").read_text().strip().replace(" IN ", " ")

    def pki(self, file: str) -> Path:
        return self.work / "pki" / file

    def write(self, name: str, text: str) -> Path:
        path = self.run / name
        path.write_text(text)
        return path


def inbound(kind: str, port: int) -> int:
    """Where a system that serves plain DNS on `port` serves this."""
    return port + {"udp": 0, "tcp": 0, "dot": 200, "doh": 400}[kind]


Prepare = Callable[[str, Job], list[str]]  # (binary, job): writes the configuration, answers the command


@dataclass(frozen=True)
class System:
    name: str
    binary: str
    upstreams: tuple[str, ...]  # the ones it can use; the first is its choice where it can't use the one asked for
    validates: bool
    blocks: bool
    prepare: Prepare
    serves: tuple[str, ...] = ("udp", "tcp", "dot", "doh")  # to clients

    @property
    def path(self) -> str | None:
        return shutil.which(self.binary, path=SYSTEM_PATH)

    def upstream_for(self, asked: str) -> str:
        return asked if asked in self.upstreams else self.upstreams[0]


# ---- the system under test ----


def write_sut_config(job: Job, extra: str = "") -> Path:
    """dohproxy's configuration."""
    url = {
        "dot": f"tls://127.0.0.1:{PORTS['dot']}",
        "doh": f"https://127.0.0.1:{PORTS['doh']}/dns-query",
        "h3": f"h3://127.0.0.1:{PORTS['h3']}/dns-query",
        "doq": f"quic://127.0.0.1:{PORTS['doq']}",
    }[job.upstream]
    blocklist = (
        f"""
[[policy.list]]
name = "big"
file = "{data.blocklist(job.work, "{}")}"
action = "block"
"""
        if job.block
        else ""
    )
    encrypted = job.inbound in ("dot", "doh")
    listener = f'{job.inbound} = ["127.0.0.1:{inbound(job.inbound, job.port)}"]' if encrypted else ""
    tls = f'[tls]\ncertificate = "{job.pki("server.pem")}"\nkey = "{job.pki("server.key")}"' if encrypted else ""
    return job.write(
        "dohproxy.toml",
        f"""[listen]
udp = ["127.0.0.1:{job.port}"]
tcp = ["127.0.0.1:{job.port}"]
tcp_connections_per_client = 1000
{listener}

{tls}

[[upstream]]
url = "{url}"
tls_name = "{TLS_NAME}"
ca_file = "{job.ca}"

[dnssec]
mode = "{"validate" if job.validate else "off"}"
trust_anchors = ["{job.anchor}"]

{"" if "[workers]" in extra else "[workers]"}
{"" if "[workers]" in extra else "count = 1"}
{blocklist}{extra}""",
    )


def dohproxy(name: str, command: str, extra: str = "") -> System:
    """The system under test, or an earlier build of it; {config} in the command stands for its configuration."""

    def prepare(_: str, job: Job) -> list[str]:
        return shlex.split(command.replace("{config}", shlex.quote(str(write_sut_config(job, extra)))))

    return System(name, shlex.split(command)[0], ("dot", "doh", "doq", "h3"), True, True, prepare)


# ---- peers ----


UNBOUND = """server:
  num-threads: 1
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  do-ip6: no
"""


def unbound(binary: str, job: Job) -> list[str]:
    blocked = data.blocklist(job.work, 'local-zone: "{}" always_nxdomain') if job.block else None
    config = job.write(
        "unbound.conf",
        f"""{UNBOUND}
  directory: "{job.run}"
  interface: 127.0.0.1@{job.port}
  {f"interface: 127.0.0.1@{inbound(job.inbound, job.port)}" if job.inbound in ("dot", "doh") else ""}
  {f"tls-port: {inbound('dot', job.port)}" if job.inbound == "dot" else ""}
  {f"https-port: {inbound('doh', job.port)}" if job.inbound == "doh" else ""}
  tls-service-pem: "{job.pki("server.pem")}"
  tls-service-key: "{job.pki("server.key")}"
  incoming-num-tcp: 1000
  do-not-query-localhost: no
  module-config: "{"validator iterator" if job.validate else "iterator"}"
  {f'trust-anchor: "{job.anchor}"' if job.validate else ""}
  tls-cert-bundle: "{job.ca}"
  msg-cache-size: 256m
  rrset-cache-size: 512m
  msg-cache-slabs: 1
  rrset-cache-slabs: 1
  so-rcvbuf: 4m
  so-sndbuf: 4m
  outgoing-range: 8192
  num-queries-per-thread: 4096
  outgoing-num-tcp: 64
  {f'include: "{blocked}"' if blocked else ""}
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{PORTS["dot"]}#{TLS_NAME}
  forward-tls-upstream: yes
""",
    )
    return [binary, "-d", "-c", str(config)]


def kresd(binary: str, job: Job) -> list[str]:
    (job.run / "rundir").mkdir()
    config = job.write(
        "kresd.conf",
        f"""net.listen('127.0.0.1', {job.port}, {{kind = 'dns'}})
modules.unload('ta_update') modules.unload('ta_signal_query') modules.unload('priming')
modules.unload('detect_time_skew') modules.unload('detect_time_jump')
cache.open(600 * MB, 'lmdb://{job.run}/cache')
trust_anchors.remove('.')
{f"trust_anchors.add([[{job.anchor}]])" if job.validate else ""}
policy.add(policy.all(policy.TLS_FORWARD({{
  {{'127.0.0.1@{PORTS["dot"]}', hostname = '{TLS_NAME}', ca_file = '{job.ca}'}}}})))
log_level('crit')
""",
    )
    return [binary, "-n", "-c", str(config), str(job.run / "rundir")]


def _dnsdist_listener(job: Job) -> str:
    certificate, key = job.pki("server.pem"), job.pki("server.key")
    made = f"'127.0.0.1:{inbound(job.inbound, job.port)}', '{certificate}', '{key}'"
    return {"dot": f"addTLSLocal({made})", "doh": f"addDOHLocal({made}, '/dns-query')"}.get(job.inbound, "")


def dnsdist(binary: str, job: Job) -> list[str]:
    doh = ", dohPath='/dns-query'" if job.upstream == "doh" else ""
    config = job.write(
        "dnsdist.conf",
        f"""setLocal('127.0.0.1:{job.port}')
{_dnsdist_listener(job)}
newServer({{address='127.0.0.1:{PORTS[job.upstream]}', tls='openssl', subjectName='{TLS_NAME}',
  caStore='{job.ca}', validateCertificates=true, healthCheckMode='up'{doh}}})
getPool(''):setCache(newPacketCache(200000, {{maxTTL=86400}}))
setSecurityPollSuffix('')
""",
    )
    return [binary, "--supervised", "--disable-syslog", "-C", str(config)]


def dnscrypt_proxy(binary: str, job: Job) -> list[str]:
    host, path = f"{TLS_NAME}:{PORTS['doh']}", "/dns-query"
    stamp = b"\2" + bytes(8) + b"".join(bytes([len(s)]) + s.encode() for s in ("127.0.0.1", "", host, path))
    names = f"[blocked_names]\nblocked_names_file = '{data.blocklist(job.work, '{}')}'" if job.block else ""
    config = job.write(
        "dnscrypt-proxy.toml",
        f"""server_names = ['bench']
listen_addresses = ['127.0.0.1:{job.port}']
max_clients = 5000
require_dnssec = false
require_nolog = false
require_nofilter = false
log_level = 4
ignore_system_dns = true
netprobe_timeout = 0
bootstrap_resolvers = ['127.0.0.1:{PORTS["udp"]}']
blocked_query_response = 'refused'
cache = true
cache_size = 200000
cache_max_ttl = 86400
{names}
[static.'bench']
stamp = 'sdns://{base64.urlsafe_b64encode(stamp).decode().rstrip("=")}'
""",
    )
    return ["env", f"SSL_CERT_FILE={job.ca}", "GOMAXPROCS=1", binary, "-config", str(config)]


def peers(dnscrypt_binary: str) -> dict[str, System]:
    found = [
        System("unbound", "unbound", ("dot",), True, True, unbound),
        System("kresd", "kresd", ("dot",), True, False, kresd, ("udp", "tcp")),
        System("dnscrypt-proxy", dnscrypt_binary, ("doh",), False, True, dnscrypt_proxy, ("udp", "tcp")),
        System("dnsdist", "dnsdist", ("dot", "doh"), False, False, dnsdist),
    ]
    return {system.name: system for system in found}


# ---- upstreams ----


def served_zones(job: Job) -> dict[str, Path]:
    """The zones of the upstreams; the signed ones, which take seconds to load, only if needed."""
    zones = {zone: zone for zone in ("plain.zz", "ads.zz")}
    if job.validate:
        zones |= {"open.sec.zz": "open.sec.zz", "sec.zz": "sec.zz.signed", "leaf.sec.zz": "leaf.sec.zz.signed"}
    return {zone: job.work / "zones" / file for zone, file in zones.items()}


def nsd(binary: str, job: Job) -> list[str]:
    """DNS and DoT; it also answers for the QUIC upstream."""
    zones = "".join(f'zone:\n  name: {zone}\n  zonefile: "{file}"\n' for zone, file in served_zones(job).items())
    config = job.write(
        "nsd.conf",
        f"""server:
  server-count: 1
  ip-address: 127.0.0.1@{PORTS["udp"]}
  ip-address: 127.0.0.1@{PORTS["dot"]}
  tls-service-key: "{job.work}/pki/server.key"
  tls-service-pem: "{job.work}/pki/server.pem"
  tls-port: {PORTS["dot"]}
  tcp-count: 2000
  tcp-timeout: 120
  username: ""
  chroot: ""
  zonesdir: "{job.run}"
  database: ""
  pidfile: "{job.run}/nsd.pid"
  xfrdfile: "{job.run}/xfrd.state"
  zonelistfile: "{job.run}/zone.list"
  rrl-ratelimit: 0
  minimal-responses: yes
remote-control:
  control-enable: no
{zones}""",
    )
    return [binary, "-d", "-c", str(config)]


def unbound_doh(binary: str, job: Job) -> list[str]:
    """DoH over HTTP/2, from the same zones."""
    zones = "".join(
        f'auth-zone:\n  name: {zone}\n  zonefile: "{file}"\n  for-upstream: no\n' for zone, file in served_zones(job).items()
    )
    config = job.write(
        "unbound.conf",
        f"""{UNBOUND}
  directory: "{job.run}"
  interface: 127.0.0.1@{PORTS["doh"]}
  interface: 127.0.0.1@{job.port}
  https-port: {PORTS["doh"]}
  http-max-streams: 2000
  http-query-buffer-size: 64m
  http-response-buffer-size: 64m
  tls-service-key: "{job.work}/pki/server.key"
  tls-service-pem: "{job.work}/pki/server.pem"
  incoming-num-tcp: 500
  tcp-idle-timeout: 120000
  module-config: "iterator"
  local-zone: "." static
  local-data: ". 86400 NS ns.plain.zz."
  local-zone: "zz." transparent
{zones}""",
    )
    return [binary, "-d", "-c", str(config)]


def quic(binary: str, job: Job) -> list[str]:
    """DoQ and DoH over HTTP/3, on quic-go: it makes up its answers, but for those that are to be validated."""
    ports = ["-doq", str(PORTS["doq"]), "-h3", str(PORTS["h3"]), "-plain", str(job.port)]
    zones = ["-forward", f"127.0.0.1:{PORTS['udp']}"] if job.validate else []
    pki = ["-certificate", str(job.pki("server.pem")), "-key", str(job.pki("server.key"))]
    return [binary, *pki, *ports, *zones, "-streams", "1000"]
