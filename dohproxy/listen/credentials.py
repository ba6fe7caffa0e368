"""What encrypted listeners show, and by whom clients may be vouched for: the same for TLS over TCP and for QUIC."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from dohproxy.config import settings
from dohproxy.identity.own import FileCertificate, OwnCertificate
from dohproxy.identity.peers import Authorities, TrustBundles

log = logging.getLogger(__name__)


class Credentials(Struct, frozen=True):
    """Made once per configuration; what is in them may change while they are used."""

    certificates: tuple[OwnCertificate, ...]
    """By SNI the one that has the name; else the first."""
    authorities: Authorities | None = None
    """None where clients are not asked for certificates."""
    required: bool = False
    """Whether a client without a certificate is refused."""
    allow_tls12: bool = False


_NONE: Final[TrustBundles] = {}


def _no_bundles() -> TrustBundles:
    return _NONE


def credentials(
    tls: settings.Tls, svid: OwnCertificate | None = None, bundles: Callable[[], TrustBundles] = _no_bundles
) -> Credentials:
    """Those of a configuration; `svid` and `bundles` are the Workload API's. Raises BadCertificate or BadAuthorities."""
    asked = tls.client_auth != "none"
    shown: list[OwnCertificate] = [FileCertificate(one.certificate, str(one.key), log.error) for one in tls.certificates]
    if tls.svid and svid is not None:
        shown.insert(0, svid)
    authorities = Authorities(tls.client_ca_file, tls.trust_domains, bundles, log.error) if asked else None
    return Credentials(tuple(shown), authorities, tls.client_auth == "require", tls.allow_tls12)
