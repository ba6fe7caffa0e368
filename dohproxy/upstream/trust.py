"""Whether a server's certificate is the one that it should be, where the TLS engine does not say: QUIC's."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from ipaddress import ip_address

from aioquic.tls import AlertDescription
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto
from service_identity import VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from service_identity.exceptions import CertificateError

from dohproxy.config import settings
from dohproxy.identity.authorities import FileAuthorities
from dohproxy.identity.designation import is_designated
from dohproxy.identity.followed import Complain, nobody
from dohproxy.identity.pins import certificate_matches, pins_of
from dohproxy.protocol.quic_tls import Refused
from dohproxy.upstream.tls import NO_CHECK_TIME

_SERVER_PURPOSES = frozenset({ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})


class Trust:
    """Verifies a server as TlsClient does: its name or address in the subject alternative names, its purpose, its chain.

    Where something is pinned, some certificate of the chain must match as well (RFC 7469 2.6). The CA file may change while
    we run; what could not be used is told to `complain`. Raises BadAuthorities for one that is unusable at first.
    """

    def __init__(self, upstream: settings.Upstream, complain: Complain = nobody) -> None:
        self.name = (upstream.tls_name or upstream.host).removesuffix(".")
        self._is_address = _is_address(self.name)
        self._pins, self._tbs_pins = upstream.pins, upstream.tbs_pins
        self._designated_by = upstream.designated_by
        self._flags = NO_CHECK_TIME if upstream.any_date else 0
        self._authorities = None if upstream.ca_file is None else FileAuthorities(upstream.ca_file, complain)
        self._terms: tuple[object, ...] = ()
        self._store: crypto.X509Store | None = None

    def terms(self) -> tuple[object, ...]:
        """By what servers are judged now: the same object while that stays the same."""
        authorities = None if self._authorities is None else self._authorities.current()
        if self._store is None or self._terms[0] is not authorities:
            self._terms, self._store = (authorities, self._pins, self._tbs_pins), _store(authorities, self._flags)
        return self._terms

    def verify(self, certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> None:
        """Judges what the server has shown. Raises Refused."""
        try:
            self._verify_purpose(certificate)
            self._verify_name(certificate)
            chain = self._chain(certificate, others)
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, crypto.Error) as error:
            raise Refused(AlertDescription.bad_certificate, f"it cannot be read ({error})") from error
        encoded = [one.public_bytes(Encoding.DER) for one in chain]
        if not certificate_matches(self._pins, self._tbs_pins, encoded):
            raise Refused(AlertDescription.bad_certificate, f"none of its chain is pinned; it has {pins_of(encoded)}")
        if self._designated_by and not is_designated(encoded[0], self._designated_by):
            raise Refused(AlertDescription.bad_certificate, f"it is not for {self._designated_by}, which designated it, too")

    def _verify_purpose(self, certificate: x509.Certificate) -> None:
        """RFC 5280 4.2.1.12."""
        try:
            purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            return
        if _SERVER_PURPOSES.isdisjoint(purposes):
            raise Refused(AlertDescription.unsupported_certificate, "it is not for servers")

    def _verify_name(self, certificate: x509.Certificate) -> None:
        """RFC 8310 8.1, RFC 9525 6."""
        check = verify_certificate_ip_address if self._is_address else verify_certificate_hostname
        try:
            check(certificate, self.name)
        except (CertificateError, VerificationError) as error:
            raise Refused(AlertDescription.bad_certificate, f"it is not for {self.name}") from error

    def _chain(self, certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> list[x509.Certificate]:
        """From the server's certificate to an authority that is trusted (RFC 5280 6)."""
        self.terms()
        assert self._store is not None
        given = [crypto.X509.from_cryptography(one) for one in others]
        context = crypto.X509StoreContext(self._store, crypto.X509.from_cryptography(certificate), given)
        try:
            return [one.to_cryptography() for one in context.get_verified_chain()]
        except crypto.X509StoreContextError as error:
            raise Refused(AlertDescription.unknown_ca, str(error)) from error


def _store(authorities: Sequence[bytes] | None, flags: int) -> crypto.X509Store:
    """Certificates in DER that are trusted; None is the system's."""
    store = crypto.X509Store()
    store.set_flags(flags)
    if authorities is None:
        system = ssl.get_default_verify_paths()
        store.load_locations(system.cafile, system.capath)
        return store
    for der in authorities:
        store.add_cert(crypto.X509.from_cryptography(x509.load_der_x509_certificate(der)))
    return store


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
