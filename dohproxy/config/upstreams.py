"""The upstreams and the zones that have some of their own: what each scheme takes, and where it connects to."""

from __future__ import annotations

from pathlib import Path as PathOfFile

from dohproxy.config import document, settings
from dohproxy.config.bootstraps import check_bootstraps
from dohproxy.config.files import Files
from dohproxy.config.lines import Path
from dohproxy.config.own_keys import check_own
from dohproxy.config.report import Report
from dohproxy.config.texts import is_address
from dohproxy.wire import names

_OF_HTTP = ("method", "upgrade", "relay", "odoh_config")
_HTTP = ("https", "h3")
_QUIC = ("h3", "quic")
_TOLD_BY_DDR = ("tls_name", "addresses", "bootstrap")
_IN_CLEAR = ("udp", "tcp")
_OF_TLS = (
    *("tls_name", "ca_file", "client_certificate", "client_key", "client_svid", "pins"),
    *("method", "relay", "odoh_config", "bootstrap"),
)


def zones(written: document.Document, files: Files, report: Report) -> tuple[settings.Zone, ...]:
    """The zones with upstreams of their own."""
    seen: set[bytes] = set()
    general = () if any(zone.name == names.ROOT for zone in written.zone) else written.upstream
    for zone in written.zone:
        check_bootstraps(zone.upstream, general, report)
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
            zone.strategy,
        )
        for zone in written.zone
    )


def upstreams(written: document.Document, files: Files, report: Report) -> tuple[settings.Upstream, ...]:
    """Those of all other names."""
    if not written.upstream and any(zone.name == names.ROOT for zone in written.zone):
        return ()
    check_bootstraps(written.upstream, (), report)
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
        if upstream.url.scheme in _IN_CLEAR:
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
    for key in _OF_TLS:
        if getattr(upstream, key):
            report.problem((*upstream.at, key), f"this means nothing for {upstream.url.scheme}://")


def _check_tls(upstream: document.Upstream, report: Report) -> None:
    scheme = upstream.url.scheme
    strange = [key for key in _OF_HTTP if getattr(upstream, key) and scheme not in _HTTP]
    strange += ["zero_rtt"] if upstream.zero_rtt and scheme not in _QUIC else []
    strange += ["allow_tls12"] if upstream.allow_tls12 and scheme in _QUIC else []
    if scheme == "ddr":
        strange += [key for key in _TOLD_BY_DDR if getattr(upstream, key)]
    for key in strange:
        report.problem((*upstream.at, key), f"this means nothing for {scheme}://")
    _check_oblivious(upstream, report)
    check_own(upstream, report)
    if upstream.tls_name is not None and not is_address(upstream.tls_name):
        try:
            names.from_text(upstream.tls_name)
        except ValueError as error:
            report.problem((*upstream.at, "tls_name"), str(error), allowed="a domain name or an IP address")


def _check_oblivious(upstream: document.Upstream, report: Report) -> None:
    """A relay takes HTTP/2, and POST (RFC 9230 4.1)."""
    if upstream.relay is None:
        if upstream.url.role == "target":
            message = f'"{upstream.url.text}" is an Oblivious DoH target, which is asked through a relay'
            report.problem((*upstream.at, "url"), message, allowed='relay = "https://…" or an sdns:// stamp beside it')
        if upstream.odoh_config is not None:
            report.problem((*upstream.at, "odoh_config"), "this means nothing without relay")
        return
    for key in ("method", "upgrade", "client_certificate", "client_svid"):
        if getattr(upstream, key):
            report.problem((*upstream.at, key), "this means nothing through a relay")
    if upstream.url.scheme == "h3":
        report.problem((*upstream.at, "url"), "through a relay the target is https://")
    if "?" in upstream.url.path:
        report.problem((*upstream.at, "url"), "a target's URL has no query (RFC 9230 4.1)")
    if upstream.relay.url.host == upstream.url.host:
        report.problem((*upstream.at, "relay"), "a relay that is the target sees who asks what: it must be somebody else's")


def _upstream(written: document.Upstream, files: Files, report: Report) -> settings.Upstream:
    url = written.url
    encrypted = url.scheme not in _IN_CLEAR
    has_config = written.relay is not None and written.odoh_config is not None
    return settings.Upstream(
        name=written.name or url.text,
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        path=url.path,
        tls_name=(written.tls_name or url.host) if encrypted and url.scheme != "ddr" else "",
        ca_file=_certificates(written.ca_file, (*written.at, "ca_file"), files),
        addresses=() if has_config else _addresses(written, written.bootstrap, report),
        method=written.method or "POST",
        allow_tls12=written.allow_tls12,
        client_certificate=_certificates(written.client_certificate, (*written.at, "client_certificate"), files),
        client_key=_key(written.client_key, (*written.at, "client_key"), files),
        client_svid=written.client_svid,
        pins=written.pins,
        tbs_pins=url.tbs_pins,
        zero_rtt=written.zero_rtt,
        upgrade=written.upgrade,
        relay=None if written.relay is None else _relay(written.relay, written.bootstrap, files, report),
        odoh_config=written.odoh_config or b"",
        bootstrap=written.bootstrap or "",
    )


def _relay(written: document.Relay, bootstrap: str | None, files: Files, report: Report) -> settings.Upstream:
    """The relay, found as the target is where it does not say how itself."""
    url = written.url
    addresses = _addresses(written, written.bootstrap or bootstrap, report)
    return settings.Upstream(
        name=url.text,
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        path=url.path,
        tls_name=written.tls_name or url.host,
        ca_file=_certificates(written.ca_file, (*written.at, "ca_file"), files),
        addresses=addresses,
        pins=written.pins,
        tbs_pins=url.tbs_pins,
        bootstrap="" if addresses else written.bootstrap or bootstrap or "",
    )


def _addresses(written: document.Upstream | document.Relay, bootstrap: str | None, report: Report) -> tuple[str, ...]:
    """Where to connect; () where somebody is to be asked for it."""
    url = written.url
    addresses = written.addresses or url.addresses or ((url.host,) if is_address(url.host) else ())
    if addresses and written.bootstrap is not None:
        report.problem((*written.at, "bootstrap"), "there is nothing to ask for: the addresses are known already")
    if not addresses and bootstrap is None:
        message = f"{url.host} is a name, and nothing is asked in clear to find its address"
        allowed = 'its addresses too, as in addresses = ["192.0.2.1"], or bootstrap'
        report.problem((*written.at, "url"), message, allowed=allowed)
    return addresses


def _certificates(text: str | None, at: Path, files: Files) -> PathOfFile | None:
    return None if text is None else files.certificates(text, at)


def _key(text: str | None, at: Path, files: Files) -> str:
    """The path of a key, or a `pkcs11:` URI as it is."""
    if text is None or text.startswith("pkcs11:"):
        return text or ""
    return str(files.readable(text, at))
