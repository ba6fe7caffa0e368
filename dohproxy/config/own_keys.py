"""Who we are to an upstream: what may be written of our certificate there, and of a key in an HSM."""

from __future__ import annotations

from importlib.util import find_spec

from dohproxy.config import document
from dohproxy.config.pkcs11_uris import SCHEME, parse_pkcs11_uri
from dohproxy.config.report import Report

_QUIC = ("h3", "quic")


def check_own(upstream: document.Upstream, report: Report) -> None:
    """A certificate and its key, or an SVID; a key in an HSM where that can be used."""
    if (upstream.client_certificate is None) != (upstream.client_key is None):
        report.problem(upstream.at, "client_certificate and client_key go together")
    if upstream.client_svid and upstream.client_certificate is not None:
        report.problem((*upstream.at, "client_svid"), "we show either our X.509-SVID or client_certificate")
    if upstream.client_key is not None and upstream.client_key.startswith(SCHEME):
        _check_hsm(upstream, upstream.client_key, report)


def _check_hsm(upstream: document.Upstream, uri: str, report: Report) -> None:
    at = (*upstream.at, "client_key")
    try:
        parse_pkcs11_uri(uri)
    except ValueError as error:
        report.problem(at, str(error), allowed='such as "pkcs11:token=…;object=…?module-path=…&pin-source=…"')
    if upstream.url.scheme not in _QUIC:
        message = "a key in an HSM signs for QUIC alone: OpenSSL, which does TLS over TCP for us, takes keys from files"
        report.problem(at, message, allowed="this key with h3:// or quic://, or a key in a file")
    elif find_spec("pkcs11") is None:
        report.problem(at, "keys in an HSM take python-pkcs11, which is not installed", allowed="pip install 'dohproxy[hsm]'")
