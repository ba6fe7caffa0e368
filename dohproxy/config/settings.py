"""The configuration as the program uses it: checked, complete and frozen. What a user may write is in config/document.py."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from msgspec import Struct

from dohproxy.errors import Problem
from dohproxy.model import Action, Mode, Name

Network = IPv4Network | IPv6Network


class Place(Struct, frozen=True):
    """Where in the configuration something was written; line 0 where it was not."""

    file: str = ""
    line: int = 0


class Endpoint(Struct, frozen=True):
    """An IP address as text, without brackets, and a port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Listen(Struct, frozen=True):
    """Where queries are taken, and the limits of doing so (times in seconds, sizes in octets)."""

    udp: tuple[Endpoint, ...] = (Endpoint("127.0.0.1", 5300), Endpoint("::1", 5300))
    tcp: tuple[Endpoint, ...] = (Endpoint("127.0.0.1", 5300), Endpoint("::1", 5300))
    udp_payload_size: int = 1232
    socket_buffer: int = 4 << 20
    tcp_idle_timeout: float = 10.0
    tcp_connections: int = 1000
    tcp_connections_per_client: int = 100
    tcp_pipeline: int = 100
    """Queries of one connection that may be under way at once; reading pauses beyond."""
    in_flight: int = 4096
    """Queries under way at once in all; the newest beyond that are shed."""
    user: str = ""
    """The user to become once the sockets are bound; "" stays."""
    dot: tuple[Endpoint, ...] = ()
    doh: tuple[Endpoint, ...] = ()
    """HTTP/2 and HTTP/1.1 over TLS."""
    doh3: tuple[Endpoint, ...] = ()
    doq: tuple[Endpoint, ...] = ()
    doh_path: str = "/dns-query"
    doh_json: bool = False
    """Whether `?name=…&type=…` is answered in JSON too."""
    quic_connections: int = 1000
    quic_connections_per_client: int = 100
    quic_idle_timeout: float = 30.0
    proxy_protocol: tuple[Network, ...] = ()
    """Who tells, by the PROXY protocol, for whom a connection is: the peers that all streams must come with it from."""


class Certificate(Struct, frozen=True):
    """A chain in PEM, the server's own certificate first, and its key."""

    certificate: Path
    key: Path


class TrustDomain(Struct, frozen=True):
    """Who may vouch for the identities of one SPIFFE trust domain."""

    name: str
    """Such as `prod.example`."""
    ca_file: Path


class Tls(Struct, frozen=True):
    """Of all encrypted listeners: what we show, and what clients must."""

    certificates: tuple[Certificate, ...] = ()
    """By SNI the one that has the name; else the first."""
    svid: bool = False
    """Whether the certificate is the X.509-SVID of the SPIFFE Workload API."""
    client_auth: str = "none"
    """none | request | require"""
    client_ca_file: Path | None = None
    trust_domains: tuple[TrustDomain, ...] = ()
    """SPIFFE IDs of these count only by their own authorities."""
    allow_tls12: bool = False


class Spiffe(Struct, frozen=True):
    """The SPIFFE Workload API."""

    socket: Path | None = None
    """The Unix socket of the agent."""


class ClientLimits(Struct, frozen=True):
    """What one client may ask for; a client is a prefix of addresses. 0 is no limit."""

    queries_per_second: float = 0.0
    burst: int = 1
    """Queries that may come at once."""
    slip: int = 2
    """Of queries over the limit, every so manieth is answered truncated; 0 is none."""
    in_flight: int = 0
    """Queries under way at once."""
    ipv4_prefix: int = 32
    ipv6_prefix: int = 56


class Access(Struct, frozen=True):
    """Who is served at all, and how often."""

    allow: tuple[Network, ...]
    drop: bool = False
    """Whether others get silence instead of REFUSED."""
    limits: ClientLimits = ClientLimits()


class Upstream(Struct, frozen=True):
    """One resolver that questions are forwarded to."""

    name: str
    scheme: str
    """tls | https | h3 | quic | ddr (whoever is designated there, RFC 9462) | udp | tcp"""
    host: str
    """As in the URL: a name or an IP address, without brackets."""
    port: int
    path: str = "/dns-query"
    tls_name: str = ""
    """The name, or IP address, that the certificate must be for; sent as SNI if a name."""
    ca_file: Path | None = None
    """PEM; None is the system's authorities."""
    addresses: tuple[str, ...] = ()
    """IP addresses to connect to (from `addresses`, a stamp, or the host itself); () where `bootstrap` says whom to ask."""
    method: str = "POST"
    """Of DoH: POST | GET"""
    allow_tls12: bool = False
    client_certificate: Path | None = None
    """A chain in PEM: who we are to this upstream."""
    client_key: str = ""
    """The path of its key in PEM, or a `pkcs11:` URI (RFC 7512)."""
    client_svid: bool = False
    """Whether that is the X.509-SVID of the SPIFFE Workload API instead."""
    pins: tuple[bytes, ...] = ()
    """SHA-256 digests of SubjectPublicKeyInfo (RFC 7469 2.4), of which the chain must have one; () is any."""
    tbs_pins: tuple[bytes, ...] = ()
    """SHA-256 digests of whole TBSCertificates, as DNS stamps have them: of these too the chain must have one; () is any."""
    designated_by: str = ""
    """The IP address of the resolver that told of this one, which the certificate must have too (RFC 9462 4.2); "" is none."""
    zero_rtt: bool = False
    """Whether questions may leave in the first flight of a resumed QUIC connection (RFC 9250 4.5)."""
    upgrade: bool = False
    """Whether HTTP/3 is used once the server says that it speaks it (Alt-Svc, RFC 7838)."""
    relay: Upstream | None = None
    """Of Oblivious DoH (RFC 9230): the proxy that questions go through, of scheme https."""
    odoh_config: bytes = b""
    """Of Oblivious DoH: the ObliviousDoHConfigs of the target (RFC 9230 6.1); b"" is to be asked for."""
    bootstrap: str = ""
    """Who is asked for the addresses: the name of another upstream, or `system`; "" is nobody."""
    any_date: bool = False
    """Whether certificates count outside their dates too: for a clock that is not set, and nothing that a user may write."""


class Forwarding(Struct, frozen=True):
    """Times and limits of asking upstreams (seconds)."""

    timeout: float = 5.0
    """Of one client query, over all tries."""
    try_timeout: float = 1.5
    """Of one try before another upstream is asked as well."""
    connect_timeout: float = 3.0
    idle_timeout: float = 30.0
    connections: int = 4
    """Per upstream at most."""
    pipeline: int = 256
    """Questions on one connection before another is opened."""
    strategy: str = "ordered"
    """ordered | fastest | race | spread"""
    race: int = 2
    """How many upstreams are asked at once by the strategy `race`."""
    hedge: float = 0.0
    """Of all questions, how large a share may be asked a second time, elsewhere, when the answer is late; 0 is none."""
    key_log: Path | None = None
    """Where the secrets of TLS and QUIC are written, for debugging (the format of SSLKEYLOGFILE)."""


class CaptivePortal(Struct, frozen=True):
    """Names that the network's own resolver is asked in clear while it holds us captive."""

    names: tuple[NamePattern, ...]
    upstream: str = "dhcp"
    """`dhcp`, the resolver that the network tells of, or an IP address."""


class Anchor(Struct, frozen=True):
    """A trust anchor: a DS or DNSKEY record of a zone (RFC 4033 2)."""

    zone: Name
    rdtype: int
    rdata: bytes


class NegativeAnchor(Struct, frozen=True):
    """A name at and below which nothing is validated (RFC 7646). `until` is wall time in seconds; None never ends."""

    name: Name
    until: int | None = None
    reason: str = ""
    drop: bool = False
    """Whether it ends by itself once its name validates again."""


class NamePattern(Struct, frozen=True):
    """Which names are meant: this one, those below it, or both."""

    name: Name
    itself: bool
    below: bool


class BootClock(Struct, frozen=True):
    """Names that are answered without validation until the kernel says that the clock is synchronised."""

    names: tuple[NamePattern, ...]
    max_seconds: int = 3600
    """How long at most, from the start of the proxy."""


class Dnssec(Struct, frozen=True):
    """How answers are validated. `anchors` are those of the file; the built-in ones join them when the proxy is built."""

    mode: Mode = Mode.VALIDATE
    root_anchors: str = "builtin"
    """builtin: IANA's, unless `anchors` has some for the root, which then replace them | none: only `anchors`"""
    anchors: tuple[Anchor, ...] = ()
    negative_anchors: tuple[NegativeAnchor, ...] = ()
    override_time: int | None = None
    """Wall time, in seconds since 1970, that signature dates are judged at."""
    nsec3_max_iterations: int = 50
    signature_skew_min: int = 3600
    signature_skew_max: int = 86400
    sha1: bool = True
    """Whether algorithms 5 and 7 are verified; otherwise they count as unsupported."""
    rfc5011_state: Path | None = None
    report_errors: bool = False
    """Whether zones that ask for it are told of their errors (RFC 9567)."""
    boot_clock: BootClock | None = None
    root_key_sentinel: bool = True
    """RFC 8509."""
    signal_anchors: bool = False
    """Whether the upstreams are told which keys are trusted (RFC 8145)."""


class Zone(Struct, frozen=True):
    """Names that go to upstreams of their own (split DNS), and how they are validated."""

    name: Name
    upstreams: tuple[Upstream, ...]
    mode: Mode | None = None
    """None: as everywhere else."""
    anchors: tuple[Anchor, ...] = ()
    strategy: str | None = None
    """None: as everywhere else."""


class PolicyList(Struct, frozen=True):
    """A file of names and what is done to them."""

    name: str
    file: Path
    action: Action
    addresses: tuple[str, ...] = ()
    """For SINKHOLE."""


class PolicyRule(Struct, frozen=True):
    """One rule as written in a group: `*.example.com`, `example.com`, `example.com TXT` …"""

    text: str
    place: Place


class PolicyGroup(Struct, frozen=True):
    """Clients and what they may resolve. The group "default" has everyone that no other group has."""

    name: str
    clients: tuple[Network, ...] = ()
    spiffe: tuple[str, ...] = ()
    """SPIFFE IDs, or their beginnings with a final `*`."""
    identities: tuple[str, ...] = ()
    """Other identities of certificates: `dns:host.example`, `dns:*.host.example`, `subject:CN=…`."""
    default: Action = Action.ALLOW
    """ALLOW, or the action for names that no rule allows (configured as `deny` → `deny_action`)."""
    allow: tuple[PolicyRule, ...] = ()
    deny: tuple[PolicyRule, ...] = ()
    deny_action: Action = Action.NXDOMAIN
    sinkhole: tuple[str, ...] = ()
    lists: tuple[str, ...] | None = None
    """Names of lists; None is all of them."""
    mode: Mode | None = None
    rebinding: bool = True
    """Whether private addresses in answers to public names are blocked."""
    rebinding_allow: tuple[PolicyRule, ...] = ()
    """Names that may have private addresses."""
    deny_addresses: tuple[Network, ...] = ()
    """Answers with an address in one of these are blocked."""
    place: Place = Place()
    evidence: str | None = None
    """None: as `Evidence.write`."""


class Policy(Struct, frozen=True):
    """All lists and groups; `groups` always has one named "default", the last."""

    lists: tuple[PolicyList, ...] = ()
    groups: tuple[PolicyGroup, ...] = (PolicyGroup("default", rebinding=False),)


class Cache(Struct, frozen=True):
    """Sizes in octets, times in seconds."""

    size: int = 128 << 20
    min_ttl: int = 0
    max_ttl: int = 86400
    max_negative_ttl: int = 3600
    failure_ttl: int = 5
    stale: bool = True
    stale_max: int = 86400
    """How long past its TTL an answer may be served when no upstream helps."""
    stale_after: float = 1.8
    """How long a client waits for a fresh answer before it gets a stale one (RFC 8767 5)."""
    prefetch: bool = True
    shared: Path | None = None
    """Where answers are kept for all processes, and over restarts; None is nowhere."""
    shared_size: int = 64 << 20


class LocalRecord(Struct, frozen=True):
    """A record of `[local] records`, such as `printer.lan. 300 IN A 192.168.1.9`, in wire form."""

    owner: Name
    rdtype: int
    ttl: int
    rdata: bytes


class Local(Struct, frozen=True):
    """What is answered without asking anyone."""

    special_use_names: bool = True
    hosts: tuple[Path, ...] = ()
    records: tuple[LocalRecord, ...] = ()


Encrypted = Literal["doh3", "doq", "doh", "dot"]
"""The kinds of encrypted listeners, by their keys in `[listen]`."""
DDR_ORDER: tuple[Encrypted, ...] = ("doh3", "doq", "doh", "dot")
"""Which of our encrypted listeners clients shall prefer."""


class Ddr(Struct, frozen=True):
    """What clients that know us by our address alone are told of our encrypted listeners (RFC 9462)."""

    name: Name
    """That our certificate has."""
    addresses: tuple[str, ...] = ()
    """Where we are reached; () is where we listen."""
    order: tuple[Encrypted, ...] = DDR_ORDER
    """The kinds of listeners that are told of, the preferred ones first."""


class Log(Struct, frozen=True):
    """The operational log and the query log, on standard error."""

    format: str = "text"
    """text | json"""
    level: str = "info"
    """debug | info | warning | error"""
    queries: bool = False
    clients: str = "full"
    """full | short (the last octet, or all but the /48, cleared) | none"""


class Evidence(Struct, frozen=True):
    """Where and when verdicts are written down."""

    file: Path | None = None
    write: str = "off"
    """off | failures | all: what is written for groups that do not say"""
    max_size: int = 64 << 20
    """Octets of the file at which another is begun."""


class Workers(Struct, frozen=True):
    """How many processes serve."""

    count: int = 1
    """0: as many as there are processors for us."""


class Settings(Struct, frozen=True):
    """The whole configuration."""

    listen: Listen
    access: Access
    upstreams: tuple[Upstream, ...]
    forwarding: Forwarding
    dnssec: Dnssec
    zones: tuple[Zone, ...]
    policy: Policy
    cache: Cache
    local: Local
    log: Log
    workers: Workers
    evidence: Evidence = Evidence()
    tls: Tls = Tls()
    spiffe: Spiffe = Spiffe()
    captive_portal: CaptivePortal | None = None
    ddr: Ddr | None = None
    file: str = ""
    """Where it was read; "" is the built-in default."""
    warnings: tuple[Problem, ...] = ()
    """What is allowed and yet hardly meant."""
