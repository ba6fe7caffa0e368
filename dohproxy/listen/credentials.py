"""What encrypted listeners show, and by whom clients may be vouched for: the same for TLS over TCP and for QUIC."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from dohproxy.config import settings
from dohproxy.identity.own import FileCertificate, OwnCertificate
from dohproxy.identity.peers import Authorities, Bundle, TrustBundles, Unverified

log = logging.getLogger(__name__)

LOOK: Final = 60.0
"""Seconds between two looks at the certificate of a client that stays, at most: clocks are set, and authorities change."""


class Credentials(Struct, frozen=True):
    """Made once per configuration; what is in them may change while they are used."""

    certificates: tuple[OwnCertificate, ...]
    """By SNI the one that has the name; else the first."""
    authorities: Authorities | None = None
    """None where clients are not asked for certificates."""
    required: bool = False
    """Whether a client without a certificate is refused."""
    allow_tls12: bool = False

    def bundle(self) -> Bundle | None:
        """Who may vouch for clients now, the same object while nothing changed; None if they are not asked."""
        return self.authorities.current() if self.authorities is not None else None

    def holds(self, chain_der: Sequence[bytes], wall: float) -> float:
        """After how many seconds to ask again whether who has shown these certificates is who it was; 0 if it is not.

        For their dates, or as nobody vouches for them any more. `wall` is in seconds since 1970.
        """
        bundle = self.bundle()
        if bundle is None:
            return 0.0
        try:
            return min(bundle.vouch(chain_der, int(wall)).end + 1 - wall, LOOK)
        except Unverified as error:
            log.debug("a client's connection ends: %s", error)
            return 0.0


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
