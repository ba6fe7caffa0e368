"""What a user may write: one Struct a table of the TOML file. docs/configuration.md explains every key."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta

from dohproxy.config import identities, settings, texts, urls
from dohproxy.config.settings import Anchor, Endpoint, LocalRecord, NamePattern, Network
from dohproxy.config.urls import Url
from dohproxy.config.written import Allowed, Placed, Shorthand, Table, Text
from dohproxy.model import Action, Mode, Name

_BLOCKING = ("nxdomain", "nodata", "refused", "sinkhole", "drop", "block")
_LIST_ACTIONS = (*_BLOCKING, "log")

Count = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
WholeSeconds = Annotated[int, Meta(ge=0)]
Octets = Annotated[int, Text(texts.octets, 'octets, or a size such as "128 MiB"', kinds=(int, str))]
WorkerCount = Annotated[int, Text(texts.workers, 'a whole number from 1 to 1024, or "auto"', kinds=(int, str))]
Moment = Annotated[datetime, Meta(tz=True), Allowed("a date and time with its offset, such as 2026-12-31T00:00:00Z")]
Address = Annotated[str, Text(texts.address, 'an IP address, such as "192.0.2.1" or "2001:db8::1"')]
EndpointText = Annotated[Endpoint, Text(texts.endpoint, 'an IP address and a port, such as "127.0.0.1:53" or "[::1]:53"')]
NetworkText = Annotated[Network, Text(texts.network, 'an IP network or address, such as "10.1.0.0/16" or "2001:db8::/32"')]
NameText = Annotated[Name, Text(texts.domain, 'a domain name, such as "corp.example."')]
UrlText = Annotated[
    Url,
    Text(
        urls.url,
        "tls://host[:port], https://host[:port][/path][{?dns}], h3://host[:port][/path], quic://host[:port], sdns://…"
        " or ddr://address[:port];"
        " in a [[zone]] with plaintext = true also udp:// and tcp://",
    ),
]
RelayText = Annotated[Url, Text(urls.relay, "https://host[:port][/path], or the sdns:// stamp of an Oblivious DoH relay")]
AnchorText = Annotated[Anchor, Text(texts.trust_anchor, 'a DS or DNSKEY record, such as "example. IN DS 12345 13 2 49FD…"')]
RecordText = Annotated[LocalRecord, Text(texts.record, 'a record, such as "printer.lan. 300 IN A 192.168.1.9"')]
PatternText = Annotated[
    NamePattern, Text(texts.name_pattern, '"name", "*.name" (what is below it) or ".name" (both), but not all names')
]
RuleText = Annotated[
    str, Text(texts.rule, '"name", "*.name" (below it), ".name" (both) or "*" (all), and perhaps types: "name TXT,A"')
]
ModeText = Annotated[Mode, Text(Mode, ", ".join(mode.value for mode in Mode), tuple(mode.value for mode in Mode))]
ListAction = Annotated[Action, Text(texts.action, ", ".join(_LIST_ACTIONS), _LIST_ACTIONS)]
DenyAction = Annotated[Action, Text(texts.action, ", ".join(_BLOCKING), _BLOCKING)]

OdohConfig = Annotated[bytes, Text(texts.base64, "the base64 of an ObliviousDoHConfigs structure (RFC 9230 6.1)")]
PinText = Annotated[bytes, Text(texts.pin, '"sha256/" and the base64 of a SHA-256 digest (RFC 7469 2.4)')]
Strategy = Literal["ordered", "fastest", "race", "spread"]
TrustDomainText = Annotated[str, Text(identities.check_trust_domain, 'a trust domain, such as "prod.example"')]
SpiffeText = Annotated[
    str,
    Text(
        identities.check_pattern,
        'a SPIFFE ID, such as "spiffe://prod.example/ns/pay/sa/web", or the beginning of some and "*" for any ending:'
        ' "spiffe://prod.example/ns/pay/*"',
    ),
]
IdentityText = Annotated[
    str,
    Text(identities.check_other_pattern, '"dns:" and a name, "dns:*." and one (what is below it), or "subject:" and a subject'),
]
EvidenceLevel = Literal["off", "failures", "all"]

_LISTEN, _FORWARDING, _DNSSEC = settings.Listen(), settings.Forwarding(), settings.Dnssec()
_EVIDENCE, _LIMITS = settings.Evidence(), settings.ClientLimits()
_CACHE, _LOG, _WORKERS = settings.Cache(), settings.Log(), settings.Workers()


class Listen(Table, frozen=True, kw_only=True):
    """`[listen]`."""

    udp: tuple[EndpointText, ...] | None = None
    tcp: tuple[EndpointText, ...] | None = None
    udp_payload_size: Annotated[int, Meta(ge=512, le=4096)] = _LISTEN.udp_payload_size
    socket_buffer: Octets = _LISTEN.socket_buffer
    tcp_idle_timeout: Seconds = _LISTEN.tcp_idle_timeout
    tcp_connections: Count = _LISTEN.tcp_connections
    tcp_connections_per_client: Count = _LISTEN.tcp_connections_per_client
    tcp_pipeline: Count = _LISTEN.tcp_pipeline
    in_flight: Count = _LISTEN.in_flight
    user: str = _LISTEN.user
    dot: tuple[EndpointText, ...] = ()
    doh: tuple[EndpointText, ...] = ()
    doh3: tuple[EndpointText, ...] = ()
    doq: tuple[EndpointText, ...] = ()
    doh_path: Annotated[str, Text(texts.path, 'a path, such as "/dns-query"')] = _LISTEN.doh_path
    doh_json: bool = _LISTEN.doh_json
    quic_connections: Count = _LISTEN.quic_connections
    quic_connections_per_client: Count = _LISTEN.quic_connections_per_client
    quic_idle_timeout: Seconds = _LISTEN.quic_idle_timeout
    proxy_protocol: tuple[NetworkText, ...] = ()


class Certificate(Table, frozen=True, kw_only=True):
    """An entry of `certificates` in `[tls]`."""

    certificate: str
    key: str


class TrustDomain(Table, frozen=True, kw_only=True):
    """An entry of `trust_domains` in `[tls]`."""

    name: TrustDomainText
    ca_file: str


class Tls(Table, frozen=True, kw_only=True):
    """`[tls]`."""

    certificate: str | None = None
    key: str | None = None
    certificates: tuple[Certificate, ...] = ()
    svid: bool = False
    client_auth: Literal["none", "request", "require"] = "none"
    client_ca_file: str | None = None
    trust_domains: tuple[TrustDomain, ...] = ()
    allow_tls12: bool = False


class Spiffe(Table, frozen=True, kw_only=True):
    """`[spiffe]`."""

    socket: str | None = None


class Access(Table, frozen=True, kw_only=True):
    """`[access]`."""

    allow: tuple[Placed[NetworkText], ...] | None = None
    action: Literal["refuse", "drop"] = "refuse"
    queries_per_second: Annotated[float, Meta(ge=0)] = _LIMITS.queries_per_second
    burst: Count | None = None
    slip: Annotated[int, Meta(ge=0)] = _LIMITS.slip
    in_flight: Annotated[int, Meta(ge=0)] = _LIMITS.in_flight
    ipv4_prefix: Annotated[int, Meta(ge=1, le=32)] = _LIMITS.ipv4_prefix
    ipv6_prefix: Annotated[int, Meta(ge=1, le=128)] = _LIMITS.ipv6_prefix


class Relay(Table, frozen=True, kw_only=True):
    """`relay` of an upstream, or just the URL."""

    url: RelayText
    tls_name: str | None = None
    ca_file: str | None = None
    addresses: tuple[Address, ...] = ()
    bootstrap: str | None = None
    pins: tuple[PinText, ...] = ()


class Upstream(Table, frozen=True, kw_only=True):
    """`[[upstream]]` and `[[zone.upstream]]`, or just the URL."""

    name: str | None = None
    url: UrlText
    tls_name: str | None = None
    ca_file: str | None = None
    addresses: tuple[Address, ...] = ()
    method: Literal["POST", "GET"] | None = None
    allow_tls12: bool = False
    client_certificate: str | None = None
    client_key: str | None = None
    client_svid: bool = False
    pins: tuple[PinText, ...] = ()
    zero_rtt: bool = False
    upgrade: bool = False
    relay: Annotated[Relay, Shorthand("url")] | None = None
    odoh_config: OdohConfig | None = None
    bootstrap: str | None = None


UpstreamOrUrl = Annotated[Upstream, Shorthand("url")]


class Forwarding(Table, frozen=True, kw_only=True):
    """`[forwarding]`."""

    timeout: Seconds = _FORWARDING.timeout
    try_timeout: Seconds = _FORWARDING.try_timeout
    connect_timeout: Seconds = _FORWARDING.connect_timeout
    idle_timeout: Seconds = _FORWARDING.idle_timeout
    connections: Count = _FORWARDING.connections
    pipeline: Annotated[int, Meta(ge=1, le=65535)] = _FORWARDING.pipeline
    strategy: Strategy = "ordered"
    race: Annotated[int, Meta(ge=2, le=16)] = _FORWARDING.race
    hedge: Annotated[float, Meta(ge=0, le=1)] = _FORWARDING.hedge
    key_log: str | None = None


class CaptivePortal(Table, frozen=True, kw_only=True):
    """`[captive_portal]`."""

    names: tuple[PatternText, ...]
    upstream: str = "dhcp"


class NegativeTrustAnchor(Table, frozen=True, kw_only=True):
    """An entry of `negative_trust_anchors`, or just the name."""

    name: NameText
    until: Moment | None = None
    reason: str = ""
    drop: bool = False


class BootClock(Table, frozen=True, kw_only=True):
    """`boot_clock` of `[dnssec]`."""

    until: Literal["synchronised"] = "synchronised"
    names: tuple[PatternText, ...]
    max_seconds: Annotated[int, Meta(ge=1, le=86400)] = 3600


class Dnssec(Table, frozen=True, kw_only=True):
    """`[dnssec]`."""

    mode: ModeText = _DNSSEC.mode
    root_anchors: Literal["builtin", "none"] = "builtin"
    trust_anchors: tuple[AnchorText, ...] = ()
    negative_trust_anchors: tuple[Annotated[NegativeTrustAnchor, Shorthand("name")], ...] = ()
    override_time: Moment | None = None
    nsec3_max_iterations: Annotated[int, Meta(ge=0, le=65535)] = _DNSSEC.nsec3_max_iterations
    signature_skew_min: WholeSeconds = _DNSSEC.signature_skew_min
    signature_skew_max: WholeSeconds = _DNSSEC.signature_skew_max
    sha1: bool = _DNSSEC.sha1
    rfc5011_state: str | None = None
    report_errors: bool = _DNSSEC.report_errors
    boot_clock: BootClock | None = None
    root_key_sentinel: bool = _DNSSEC.root_key_sentinel
    signal_anchors: bool = _DNSSEC.signal_anchors


class Zone(Table, frozen=True, kw_only=True):
    """`[[zone]]`."""

    name: NameText
    upstream: tuple[UpstreamOrUrl, ...]
    plaintext: bool = False
    dnssec: ModeText | None = None
    trust_anchors: tuple[Placed[AnchorText], ...] = ()
    strategy: Strategy | None = None


class PolicyList(Table, frozen=True, kw_only=True):
    """`[[policy.list]]`."""

    name: str
    file: str
    action: ListAction = Action.NXDOMAIN
    addresses: tuple[Address, ...] = ()


class PolicyGroup(Table, frozen=True, kw_only=True):
    """`[[policy.group]]`."""

    name: str
    clients: tuple[Placed[NetworkText], ...] = ()
    spiffe: tuple[Placed[SpiffeText], ...] = ()
    identities: tuple[Placed[IdentityText], ...] = ()
    default: Literal["allow", "deny"] = "allow"
    allow: tuple[Placed[RuleText], ...] = ()
    deny: tuple[Placed[RuleText], ...] = ()
    deny_action: DenyAction = Action.NXDOMAIN
    sinkhole: tuple[Address, ...] = ()
    lists: tuple[Placed[str], ...] | None = None
    dnssec: ModeText | None = None
    rebinding: bool = True
    rebinding_allow: tuple[Placed[RuleText], ...] = ()
    deny_addresses: tuple[NetworkText, ...] = ()
    evidence: EvidenceLevel | None = None


class Policy(Table, frozen=True, kw_only=True):
    """`[policy]`, which holds only its lists and groups."""

    list: tuple[PolicyList, ...] = ()
    group: tuple[PolicyGroup, ...] = ()


class Cache(Table, frozen=True, kw_only=True):
    """`[cache]`."""

    size: Octets = _CACHE.size
    min_ttl: WholeSeconds = _CACHE.min_ttl
    max_ttl: WholeSeconds = _CACHE.max_ttl
    max_negative_ttl: WholeSeconds = _CACHE.max_negative_ttl
    failure_ttl: Annotated[int, Meta(ge=1, le=300)] = _CACHE.failure_ttl
    stale: bool = _CACHE.stale
    stale_max: WholeSeconds = _CACHE.stale_max
    stale_after: Seconds = _CACHE.stale_after
    prefetch: bool = _CACHE.prefetch
    shared: str | None = None
    shared_size: Octets = _CACHE.shared_size


class Local(Table, frozen=True, kw_only=True):
    """`[local]`."""

    special_use_names: bool = True
    hosts: tuple[Placed[str], ...] = ()
    records: tuple[RecordText, ...] = ()


class Ddr(Table, frozen=True, kw_only=True):
    """`[ddr]`."""

    name: NameText
    addresses: tuple[Address, ...] = ()
    order: tuple[settings.Encrypted, ...] = settings.DDR_ORDER


class Log(Table, frozen=True, kw_only=True):
    """`[log]`."""

    format: Literal["text", "json"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    queries: bool = _LOG.queries
    clients: Literal["full", "short", "none"] = "full"


class Evidence(Table, frozen=True, kw_only=True):
    """`[evidence]`."""

    file: str | None = None
    write: EvidenceLevel = "off"
    max_size: Octets = _EVIDENCE.max_size


class Workers(Table, frozen=True, kw_only=True):
    """`[workers]`."""

    count: WorkerCount = _WORKERS.count


class Document(Table, frozen=True, kw_only=True):
    """The whole file."""

    listen: Listen = Listen(at=("listen",))
    tls: Tls = Tls(at=("tls",))
    spiffe: Spiffe = Spiffe(at=("spiffe",))
    access: Access = Access(at=("access",))
    upstream: tuple[UpstreamOrUrl, ...] = ()
    forwarding: Forwarding = Forwarding(at=("forwarding",))
    captive_portal: CaptivePortal | None = None
    dnssec: Dnssec = Dnssec(at=("dnssec",))
    zone: tuple[Zone, ...] = ()
    policy: Policy = Policy()
    cache: Cache = Cache(at=("cache",))
    local: Local = Local(at=("local",))
    ddr: Ddr | None = None
    log: Log = Log()
    evidence: Evidence = Evidence(at=("evidence",))
    workers: Workers = Workers()
