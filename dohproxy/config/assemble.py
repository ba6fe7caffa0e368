"""From what a user wrote to what the program uses: defaults filled in, and checked across keys, tables and files."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec

from dohproxy.config import document, settings
from dohproxy.config.files import Files
from dohproxy.config.groups import policy
from dohproxy.config.report import Report
from dohproxy.config.settings import Endpoint, Network, Settings
from dohproxy.config.texts import is_address
from dohproxy.config.written import Placed, Table
from dohproxy.wire import names

PRIVATE_NETWORKS = tuple(
    ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Who is served where `[access] allow` is not written: loopback, private (RFC 1918, RFC 4193) and link-local addresses."""


def assemble(written: document.Document, base: Path, report: Report) -> Settings:
    """The settings; `base` is where relative paths start. Problems go into the report, and the result is then of no use."""
    files = Files(base, report)
    return Settings(
        listen=_listen(written.listen, report),
        access=_access(written.access),
        upstreams=_upstreams(written, files, report),
        forwarding=settings.Forwarding(**_fields(written.forwarding)),
        dnssec=_dnssec(written.dnssec, files, report),
        zones=_zones(written.zone, files, report),
        policy=policy(written.policy, files, report),
        cache=_cache(written.cache, report),
        local=settings.Local(
            written.local.special_use_names,
            tuple(files.readable(file.value, file.at) for file in written.local.hosts),
            written.local.records,
        ),
        log=settings.Log(**_fields(written.log)),
        workers=settings.Workers(**_fields(written.workers)),
        evidence=_evidence(written, files, report),
        file=report.file,
    )


def _fields(table: Table) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(table).items() if name != "at"}


def _values(placed: Iterable[Placed[Network]]) -> tuple[Network, ...]:
    return tuple(one.value for one in placed)


def _listen(written: document.Listen, report: Report) -> settings.Listen:
    usual = settings.Listen()
    udp = written.udp if written.udp is not None else written.tcp if written.tcp is not None else usual.udp
    tcp = written.tcp if written.tcp is not None else udp
    if not udp and not tcp:
        report.problem(written.at, "there is no address to listen on")
    for key, endpoints in (("udp", udp), ("tcp", tcp)):
        _check_distinct(endpoints, (*written.at, key), report)
    return settings.Listen(**_fields(written) | {"udp": udp, "tcp": tcp})


def _check_distinct(endpoints: tuple[Endpoint, ...], at: tuple[str | int, ...], report: Report) -> None:
    for number, endpoint in enumerate(endpoints):
        if endpoint.port and endpoint in endpoints[:number]:
            report.problem((*at, number), f"{endpoint} is there twice")


def _access(written: document.Access) -> settings.Access:
    limits = settings.ClientLimits(
        written.queries_per_second,
        written.burst or max(1, round(written.queries_per_second)),
        written.slip,
        written.in_flight,
        written.ipv4_prefix,
        written.ipv6_prefix,
    )
    allow = PRIVATE_NETWORKS if written.allow is None else _values(written.allow)
    return settings.Access(allow, written.action == "drop", limits)


def _cache(written: document.Cache, report: Report) -> settings.Cache:
    if written.min_ttl > written.max_ttl:
        report.problem((*written.at, "min_ttl"), f"{written.min_ttl} is more than max_ttl, {written.max_ttl}")
    return settings.Cache(**_fields(written))


def _dnssec(written: document.Dnssec, files: Files, report: Report) -> settings.Dnssec:
    if written.signature_skew_min > written.signature_skew_max:
        message = f"{written.signature_skew_min} is more than signature_skew_max, {written.signature_skew_max}"
        report.problem((*written.at, "signature_skew_min"), message)
    state, boot = written.rfc5011_state, written.boot_clock
    return settings.Dnssec(
        mode=written.mode,
        root_anchors=written.root_anchors,
        anchors=written.trust_anchors,
        negative_anchors=tuple(
            settings.NegativeAnchor(one.name, _seconds(one.until), one.reason, one.drop)
            for one in written.negative_trust_anchors
        ),
        override_time=_seconds(written.override_time),
        nsec3_max_iterations=written.nsec3_max_iterations,
        signature_skew_min=written.signature_skew_min,
        signature_skew_max=written.signature_skew_max,
        sha1=written.sha1,
        rfc5011_state=None if state is None else files.writable(state, (*written.at, "rfc5011_state")),
        report_errors=written.report_errors,
        boot_clock=None if boot is None else settings.BootClock(boot.names, boot.max_seconds),
        root_key_sentinel=written.root_key_sentinel,
        signal_anchors=written.signal_anchors,
    )


def _evidence(written: document.Document, files: Files, report: Report) -> settings.Evidence:
    """Where verdicts are written down; a level without a file is a mistake wherever it stands."""
    table = written.evidence
    if table.file is None:
        if table.write != "off":
            report.problem((*table.at, "write"), "there is no file to write to", allowed='file = "evidence.jsonl" beside it')
        for group in written.policy.group:
            if group.evidence not in (None, "off"):
                report.problem((*group.at, "evidence"), "there is no file to write to", allowed="[evidence] file")
        return settings.Evidence(max_size=table.max_size)
    return settings.Evidence(files.writable(table.file, (*table.at, "file")), table.write, table.max_size)


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())


def _zones(written: tuple[document.Zone, ...], files: Files, report: Report) -> tuple[settings.Zone, ...]:
    seen: set[bytes] = set()
    for zone in written:
        if zone.name in seen:
            report.problem((*zone.at, "name"), f"the zone {names.to_text(zone.name)} is there twice")
        seen.add(zone.name)
        for anchor in zone.trust_anchors:
            if not names.is_subdomain(anchor.value.zone, zone.name):
                message = f"{names.to_text(anchor.value.zone)} does not lie in the zone {names.to_text(zone.name)}"
                report.problem(anchor.at, message, allowed="anchors of other zones belong into dnssec.trust_anchors")
    return tuple(
        settings.Zone(
            zone.name,
            _group(zone.upstream, zone.at, files, report, plaintext=zone.plaintext, in_zone=True),
            zone.dnssec,
            tuple(anchor.value for anchor in zone.trust_anchors),
        )
        for zone in written
    )


def _upstreams(written: document.Document, files: Files, report: Report) -> tuple[settings.Upstream, ...]:
    if not written.upstream and any(zone.name == names.ROOT for zone in written.zone):
        return ()
    return _group(written.upstream, (), files, report, plaintext=False, in_zone=False)


def _group(
    written: tuple[document.Upstream, ...],
    at: tuple[str | int, ...],
    files: Files,
    report: Report,
    *,
    plaintext: bool,
    in_zone: bool,
) -> tuple[settings.Upstream, ...]:
    """The upstreams of one table, of which there must be one and no two with one name."""
    if not written and not report.has_problem((*at, "upstream")):
        report.problem((*at, "upstream"), "there is no upstream to ask", allowed="[[upstream]], or a [[zone]] with the name .")
    seen: set[str] = set()
    for upstream in written:
        name = upstream.name or upstream.url.text
        if name in seen:
            report.problem((*upstream.at, "name" if upstream.name else "url"), f'a second upstream has the name "{name}"')
        seen.add(name)
        if upstream.url.scheme in ("udp", "tcp"):
            _check_plaintext(upstream, report, plaintext=plaintext, in_zone=in_zone)
        else:
            _check_tls(upstream, report)
    return tuple(_upstream(upstream, files, report) for upstream in written)


def _check_plaintext(upstream: document.Upstream, report: Report, *, plaintext: bool, in_zone: bool) -> None:
    if not plaintext:
        why = (
            "which needs plaintext = true in its [[zone]]" if in_zone else "which only a [[zone]] with plaintext = true may do"
        )
        allowed = "" if in_zone else "tls://… or https://…"
        report.problem((*upstream.at, "url"), f'"{upstream.url.text}" sends questions in clear, {why}', allowed=allowed)
    for key in ("tls_name", "ca_file", "method"):
        if getattr(upstream, key) is not None:
            report.problem((*upstream.at, key), f"this means nothing for {upstream.url.scheme}://")


def _check_tls(upstream: document.Upstream, report: Report) -> None:
    if upstream.method and upstream.url.scheme != "https":
        report.problem((*upstream.at, "method"), f"this means nothing for {upstream.url.scheme}://")
    if upstream.tls_name is not None and not is_address(upstream.tls_name):
        try:
            names.from_text(upstream.tls_name)
        except ValueError as error:
            report.problem((*upstream.at, "tls_name"), str(error), allowed="a domain name or an IP address")


def _upstream(written: document.Upstream, files: Files, report: Report) -> settings.Upstream:
    url, addresses = written.url, written.addresses
    if not addresses and is_address(url.host):
        addresses = (url.host,)
    if not addresses:
        message = f"{url.host} is a name, and nothing is asked in clear to find its address"
        report.problem((*written.at, "url"), message, allowed='its addresses too, as in addresses = ["192.0.2.1"]')
    encrypted = url.scheme in ("tls", "https")
    return settings.Upstream(
        name=written.name or url.text,
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        path=url.path,
        tls_name=(written.tls_name or url.host) if encrypted else "",
        ca_file=None if written.ca_file is None else files.certificates(written.ca_file, (*written.at, "ca_file")),
        addresses=addresses,
        method=written.method or "POST",
        allow_tls12=written.allow_tls12,
    )
