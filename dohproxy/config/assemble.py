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
from dohproxy.config.listening import listen, tls
from dohproxy.config.report import Report
from dohproxy.config.settings import Network, Settings
from dohproxy.config.texts import is_address
from dohproxy.config.upstreams import upstreams, zones
from dohproxy.config.written import Placed, Table

PRIVATE_NETWORKS = tuple(
    ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Who is served where `[access] allow` is not written: loopback, private (RFC 1918, RFC 4193) and link-local addresses."""

LEAST_SHARED = 1 << 20


def assemble(written: document.Document, base: Path, report: Report) -> Settings:
    """The settings; `base` is where relative paths start. Problems go into the report, and the result is then of no use."""
    files = Files(base, report)
    return Settings(
        listen=listen(written.listen, report),
        tls=tls(written, files, report),
        spiffe=_spiffe(written.spiffe, files),
        access=_access(written.access),
        upstreams=upstreams(written, files, report),
        forwarding=_forwarding(written.forwarding, files),
        captive_portal=_captive_portal(written.captive_portal, report),
        dnssec=_dnssec(written.dnssec, files, report),
        zones=zones(written, files, report),
        policy=policy(written.policy, files, report),
        cache=_cache(written.cache, files, report),
        local=settings.Local(
            written.local.special_use_names,
            tuple(files.readable(file.value, file.at) for file in written.local.hosts),
            written.local.records,
        ),
        ddr=_ddr(written, report),
        log=settings.Log(**_fields(written.log)),
        workers=settings.Workers(**_fields(written.workers)),
        evidence=_evidence(written, files, report),
        file=report.file,
    )


def _fields(table: Table) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(table).items() if name != "at"}


def _values(placed: Iterable[Placed[Network]]) -> tuple[Network, ...]:
    return tuple(one.value for one in placed)


def _forwarding(written: document.Forwarding, files: Files) -> settings.Forwarding:
    key_log = None if written.key_log is None else files.writable(written.key_log, (*written.at, "key_log"))
    return settings.Forwarding(**_fields(written) | {"key_log": key_log})


def _spiffe(written: document.Spiffe, files: Files) -> settings.Spiffe:
    """The socket may be written as SPIFFE_ENDPOINT_SOCKET has it (SPIFFE Workload Endpoint 4)."""
    if written.socket is None:
        return settings.Spiffe()
    return settings.Spiffe(files.named(written.socket.removeprefix("unix:").replace("///", "/", 1)))


def _captive_portal(written: document.CaptivePortal | None, report: Report) -> settings.CaptivePortal | None:
    if written is None:
        return None
    if not written.names:
        report.problem((*written.at, "names"), "there is no name to find a portal by")
    if written.upstream != "dhcp" and not is_address(written.upstream):
        report.problem((*written.at, "upstream"), f'"{written.upstream}" is no address', allowed='an IP address, or "dhcp"')
    return settings.CaptivePortal(written.names, written.upstream)


def _ddr(written: document.Document, report: Report) -> settings.Ddr | None:
    """What is told of encrypted listeners: without one, it could only be that there is none."""
    if written.ddr is None:
        return None
    if not any(getattr(written.listen, kind) for kind in written.ddr.order):
        kinds = ", ".join(written.ddr.order) or "any kind"
        report.problem(written.ddr.at, f"there is no listener of {kinds} to tell of", allowed="encrypted listeners in [listen]")
    return settings.Ddr(written.ddr.name, written.ddr.addresses, written.ddr.order)


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


def _cache(written: document.Cache, files: Files, report: Report) -> settings.Cache:
    if written.min_ttl > written.max_ttl:
        report.problem((*written.at, "min_ttl"), f"{written.min_ttl} is more than max_ttl, {written.max_ttl}")
    if written.shared_size < LEAST_SHARED:
        report.problem((*written.at, "shared_size"), f"{written.shared_size} octets are too few", allowed="1 MiB or more")
    shared = None if written.shared is None else files.writable(written.shared, (*written.at, "shared"))
    return settings.Cache(**_fields(written) | {"shared": shared})


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
