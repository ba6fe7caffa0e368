"""What a configuration may say and yet hardly means: told as warnings."""

from __future__ import annotations

from ipaddress import ip_address

from dohproxy.config import designated, document
from dohproxy.config.identities import SCHEME
from dohproxy.config.listening import ENCRYPTED
from dohproxy.config.report import Report
from dohproxy.config.settings import Settings
from dohproxy.model import Mode, Name
from dohproxy.wire import names

UNDELEGATED = tuple(
    names.from_text(text)
    for text in (
        *("local", "internal", "lan", "home", "corp", "mail", "localdomain", "localhost", "intranet", "private"),
        *("domain", "test", "invalid", "example", "onion", "alt", "home.arpa", "10.in-addr.arpa", "168.192.in-addr.arpa"),
        *(f"{number}.172.in-addr.arpa" for number in range(16, 32)),
        *("254.169.in-addr.arpa", "c.f.ip6.arpa", "d.f.ip6.arpa", "8.e.f.ip6.arpa", "9.e.f.ip6.arpa", "a.e.f.ip6.arpa"),
    )
)
"""Names that the public DNS does not have, or has only to say so (RFC 6761, 6303, 8375, 9476; ICANN's `internal`)."""


def warn(written: document.Document, settings: Settings, report: Report) -> None:
    """Note every doubt in the report."""
    _anchors(written, settings, report)
    _upstreams(written, settings, report)
    _zones(written, settings, report)
    _key_log(settings, report)
    _lists(written, settings, report)
    _groups(written, report)
    _identities(written, report)
    _tls(written, settings, report)
    for doubt in designated.doubts(settings):
        report.warning(("ddr", "name"), doubt)
    _access(written, settings, report)
    _evidence(settings, report)


def _anchors(written: document.Document, settings: Settings, report: Report) -> None:
    dnssec = settings.dnssec
    validates = dnssec.mode in (Mode.VALIDATE, Mode.REQUIRE_SECURE)
    has_anchors = dnssec.anchors or any(zone.anchors for zone in settings.zones)
    if validates and dnssec.root_anchors == "none" and not has_anchors:
        report.warning(("dnssec", "root_anchors"), "there is no trust anchor at all, so that nothing can be secure")
    if written.dnssec.override_time is not None:
        report.warning(("dnssec", "override_time"), "signatures are judged at a fixed time: this is for tests")


def _upstreams(written: document.Document, settings: Settings, report: Report) -> None:
    if settings.dnssec.mode not in (Mode.VALIDATE, Mode.REQUIRE_SECURE):
        return
    for table in written.upstream:
        if not table.url.dnssec:
            report.warning((*table.at, "url"), "by its stamp this server has no DNSSEC records: then nothing validates")


def _zones(written: document.Document, settings: Settings, report: Report) -> None:
    for zone, table in zip(settings.zones, written.zone, strict=True):
        mode = zone.mode or settings.dnssec.mode
        private = any(names.is_subdomain(zone.name, name) for name in UNDELEGATED)
        if private and mode in (Mode.VALIDATE, Mode.REQUIRE_SECURE) and not zone.anchors and not _covered(zone.name, settings):
            report.warning(
                table.at,
                f"{names.to_text(zone.name)} is not in the public DNS and has no trust anchor, so that its answers are bogus"
                ' by proof of the root: give trust_anchors, or dnssec = "off"',
            )


def _covered(zone: Name, settings: Settings) -> bool:
    """Whether an anchor below the root, or a negative one, is what decides on names of the zone."""
    anchors = [anchor.zone for anchor in settings.dnssec.anchors if anchor.zone != names.ROOT]
    anchors += [anchor.name for anchor in settings.dnssec.negative_anchors]
    return any(names.is_subdomain(zone, anchor) for anchor in anchors)


def _lists(written: document.Document, settings: Settings, report: Report) -> None:
    groups = settings.policy.groups
    if any(group.lists is None for group in groups):
        return
    used = {name for group in groups for name in group.lists or ()}
    for table in written.policy.list:
        if table.name not in used:
            report.warning(table.at, f'no group uses the list "{table.name}"')


def _groups(written: document.Document, report: Report) -> None:
    for table in written.policy.group:
        if not (table.clients or table.spiffe or table.identities or table.name == "default"):
            report.warning(table.at, f'the group "{table.name}" has no clients, and so nobody is in it')


def _identities(written: document.Document, report: Report) -> None:
    """Identities that no client will ever have."""
    listens = any(getattr(written.listen, key) for key in ENCRYPTED)
    domains = {domain.name for domain in written.tls.trust_domains}
    vouched = written.tls.client_ca_file is not None
    for table in written.policy.group:
        if (table.spiffe or table.identities) and (written.tls.client_auth == "none" or not listens):
            lacks = "no encrypted listener" if not listens else 'tls.client_auth = "none"'
            report.warning(table.at, f'identities of the group "{table.name}" are never attested: there is {lacks}')
            continue
        for pattern in () if vouched else table.identities:
            report.warning(pattern.at, f"nobody vouches for {pattern.value}: there is no tls.client_ca_file")
        for pattern in () if vouched or written.spiffe.socket is not None else table.spiffe:
            if pattern.value.removeprefix(SCHEME).partition("/")[0] not in domains:
                report.warning(pattern.at, f"nobody vouches for {pattern.value}: its trust domain is none of tls.trust_domains")


def _tls(written: document.Document, settings: Settings, report: Report) -> None:
    shows = settings.tls.certificates or settings.tls.svid
    if shows and not any(getattr(written.listen, key) for key in ENCRYPTED):
        report.warning(written.tls.at, f"nobody is shown the certificate: [listen] has no {', '.join(ENCRYPTED)}")


def _access(written: document.Document, settings: Settings, report: Report) -> None:
    endpoints = (*settings.listen.udp, *settings.listen.tcp)
    if all(ip_address(endpoint.address).is_loopback for endpoint in endpoints):
        return
    for network in written.access.allow or ():
        if network.value.prefixlen == 0:
            report.warning(network.at, f"{network.value} is everyone: an open resolver is used to attack others (RFC 5358)")


def _key_log(settings: Settings, report: Report) -> None:
    if settings.forwarding.key_log is not None:
        message = "whoever reads this file can read all that we ask upstreams: this is for debugging"
        report.warning(("forwarding", "key_log"), message)


def _evidence(settings: Settings, report: Report) -> None:
    levels = {group.evidence or settings.evidence.write for group in settings.policy.groups}
    if settings.evidence.file is not None and levels == {"off"}:
        report.warning(("evidence", "file"), 'nothing is written to it: write is "off", here and in every group')
