"""Where queries are taken, and what encrypted listeners show and ask for."""

from __future__ import annotations

import msgspec

from dohproxy.config import document, settings
from dohproxy.config.files import Files
from dohproxy.config.lines import Path
from dohproxy.config.report import Report
from dohproxy.config.settings import Endpoint

ENCRYPTED = ("dot", "doh", "doh3", "doq")
_BY_UDP = ("udp", "doh3", "doq")


def listen(written: document.Listen, report: Report) -> settings.Listen:
    """The endpoints and limits. Plain DNS on the usual ports is served only where nothing at all is written of endpoints."""
    usual = settings.Listen()
    encrypted = any(getattr(written, key) for key in ENCRYPTED)
    if written.udp is None and written.tcp is None:
        udp, tcp = ((), ()) if encrypted else (usual.udp, usual.tcp)
    else:
        udp = written.udp if written.udp is not None else written.tcp or ()
        tcp = written.tcp if written.tcp is not None else udp
    if not udp and not tcp and not encrypted:
        report.problem(written.at, "there is no address to listen on")
    fields = {name: value for name, value in msgspec.structs.asdict(written).items() if name != "at"}
    made = settings.Listen(**fields | {"udp": udp, "tcp": tcp})
    _check_distinct(made, written.at, report)
    return made


def _check_distinct(made: settings.Listen, at: Path, report: Report) -> None:
    """No two listeners may have one endpoint, as far as they share a protocol below."""
    taken: dict[tuple[bool, Endpoint], str] = {}
    for key in ("udp", "tcp", *ENCRYPTED):
        for number, endpoint in enumerate(getattr(made, key)):
            other = taken.setdefault((key in _BY_UDP, endpoint), key) if endpoint.port else ""
            if other and (other != key or endpoint in getattr(made, key)[:number]):
                report.problem((*at, key, number), f"{endpoint} is there twice" + (f": {other} has it" if other != key else ""))


def tls(written: document.Document, files: Files, report: Report) -> settings.Tls:
    """What encrypted listeners show and ask for: there are none without a certificate, nor questions without judges."""
    table = written.tls
    made = settings.Tls(
        certificates=_certificates(table, files, report),
        svid=table.svid,
        client_auth=table.client_auth,
        client_ca_file=None
        if table.client_ca_file is None
        else files.certificates(table.client_ca_file, (*table.at, "client_ca_file")),
        trust_domains=tuple(
            settings.TrustDomain(one.name, files.certificates(one.ca_file, (*one.at, "ca_file"))) for one in table.trust_domains
        ),
        allow_tls12=table.allow_tls12,
    )
    for key in ENCRYPTED:
        if getattr(written.listen, key) and not made.certificates and not made.svid:
            report.problem((*written.listen.at, key), "there is no certificate to show", allowed="certificate and key in [tls]")
    upstreams = (*written.upstream, *(upstream for zone in written.zone for upstream in zone.upstream))
    if (made.svid or any(upstream.client_svid for upstream in upstreams)) and written.spiffe.socket is None:
        report.problem(table.at, "an SVID comes from the Workload API", allowed="socket in [spiffe]")
    if made.client_auth != "none" and made.client_ca_file is None and not made.trust_domains and written.spiffe.socket is None:
        allowed = "client_ca_file, trust_domains, or socket in [spiffe]"
        report.problem((*table.at, "client_auth"), "there is nothing to verify clients with", allowed=allowed)
    return made


def _certificates(table: document.Tls, files: Files, report: Report) -> tuple[settings.Certificate, ...]:
    if (table.certificate is None) != (table.key is None):
        report.problem(table.at, "certificate and key go together")
    elif table.certificate is not None and table.key is not None:
        first = document.Certificate(certificate=table.certificate, key=table.key, at=table.at)
        return tuple(_certificate(one, files) for one in (first, *table.certificates))
    return tuple(_certificate(one, files) for one in table.certificates)


def _certificate(written: document.Certificate, files: Files) -> settings.Certificate:
    return settings.Certificate(
        files.certificates(written.certificate, (*written.at, "certificate")), files.readable(written.key, (*written.at, "key"))
    )
