"""Who a client is, by its certificate: the name that it goes by, and whose word counts for it.

A certificate with a SPIFFE ID is an X509-SVID and kept to that standard's rules; any other goes by its first DNS name, or else
by its subject. SPIFFE IDs of a trust domain that we have authorities of count by those alone; everything else counts by the
authorities for clients in general, and by nobody else's (X509-SVID 5, RFC 5280 6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain
from operator import is_
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID
from msgspec import Struct

from dohproxy.config.identities import DNS_NAME, SCHEME, trust_domain_of
from dohproxy.config.settings import TrustDomain
from dohproxy.errors import DohproxyError
from dohproxy.identity.authorities import BadAuthorities
from dohproxy.identity.der import UNREADABLE
from dohproxy.identity.followed import Complain, Followed, nobody

BAD_CERTIFICATE: Final = 42
UNSUPPORTED_CERTIFICATE: Final = 43
CERTIFICATE_EXPIRED: Final = 45
UNKNOWN_CA: Final = 48
CERTIFICATE_REQUIRED: Final = 116
"""TLS alerts (RFC 8446 6.2)."""

MAX_DEPTH: Final = 4
"""Certificates between a client's and an authority's, at most; each may have been signed by each, and all is tried."""
MAX_KNOWN: Final = 16384
"""Certificates whose verdict is remembered."""
MAX_CHAINS: Final = 4096
"""Certificates of which it is remembered what they were verified by."""
_CLIENT_PURPOSES = frozenset({ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE})
_UNREADABLE = (*UNREADABLE, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)
_E = TypeVar("_E", bound=x509.ExtensionType)
_V = TypeVar("_V")

Certificates = tuple[x509.Certificate, ...]
TrustBundles = Mapping[str, Sequence[bytes]]
"""The authorities, certificates in DER, of each trust domain by its name."""
Chains = dict[bytes, Certificates]
"""What certificates, by their SHA-256, were verified by when they were shown with others."""


class BadIdentity(DohproxyError):
    """A certificate that names nobody, or must not be used by a client."""

    def __init__(self, reason: str, alert: int = BAD_CERTIFICATE) -> None:
        super().__init__(reason)
        self.alert = alert


class Unverified(DohproxyError):
    """A client's certificate that does not count, and the TLS alert to refuse it with."""

    def __init__(self, reason: str, alert: int) -> None:
        super().__init__(reason)
        self.alert = alert


# The name


def identity_of(leaf_der: bytes) -> str:
    """Whom a client's certificate names: a SPIFFE ID, `dns:…` or `subject:…`, as in model.Attested.

    Says nothing of whether the certificate is genuine. Raises BadIdentity for one that names nobody, that is no client's, or
    that has a SPIFFE ID and yet is no X509-SVID.
    """
    try:
        return _identity(x509.load_der_x509_certificate(leaf_der))
    except _UNREADABLE as error:
        raise BadIdentity(f"the certificate cannot be read: {error}") from error


def _identity(leaf: x509.Certificate) -> str:
    names = _extension(leaf, x509.SubjectAlternativeName) or ()
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    is_svid = any(uri.lower().startswith("spiffe:") for uri in uris)
    _check_use(leaf, is_svid=is_svid)
    if is_svid:
        return _spiffe_id(uris)
    for name in names:
        if isinstance(name, x509.DNSName):
            return f"dns:{_dns_name(name.value)}"
    if not leaf.subject.rdns:
        raise BadIdentity("the certificate names nobody: it has neither a subject nor a name for one")
    return f"subject:{leaf.subject.rfc4514_string()}"


def _spiffe_id(uris: Sequence[str]) -> str:
    if len(uris) != 1:
        raise BadIdentity(f"an X509-SVID has exactly one URI, and not {len(uris)}")
    try:
        trust_domain_of(uris[0])
    except ValueError as error:
        raise BadIdentity(f"no SPIFFE ID: {error}") from error
    return uris[0]


def _dns_name(text: str) -> str:
    name = text.lower().removesuffix(".")
    if not DNS_NAME.fullmatch(name):
        raise BadIdentity("the certificate's DNS name is none")
    return name


def _check_use(leaf: x509.Certificate, *, is_svid: bool) -> None:
    """The certificate is a client's own: no authority's, and for signing handshakes (RFC 5280 4.2.1.3, 9, 12; X509-SVID 4)."""
    if leaf.version is not x509.Version.v3:
        raise BadIdentity("it is of X.509's first version, which says nothing of its use", UNSUPPORTED_CERTIFICATE)
    basic, usage = _extension(leaf, x509.BasicConstraints), _extension(leaf, x509.KeyUsage)
    purposes = _extension(leaf, x509.ExtendedKeyUsage)
    if basic is not None and basic.ca:
        raise BadIdentity("it is an authority's certificate, and not a client's")
    if usage is None and is_svid:
        raise BadIdentity("an X509-SVID says what its key is for, and this has no key usage")
    if usage is not None and (usage.key_cert_sign or usage.crl_sign):
        raise BadIdentity("its key is for signing certificates, and so not a client's")
    if usage is not None and not usage.digital_signature:
        raise BadIdentity("its key is not for signatures", UNSUPPORTED_CERTIFICATE)
    if purposes is not None and _CLIENT_PURPOSES.isdisjoint(purposes):
        raise BadIdentity("it is not for clients: the extended key usage lacks clientAuth", UNSUPPORTED_CERTIFICATE)


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


# The proof


class Vouched(Struct, frozen=True, gc=False):
    """Whom a certificate was found to name, and from when until when (seconds since 1970, both included) that holds."""

    identity: str
    begin: float
    end: float


class Bundle:
    """The authorities of one moment, and what they vouch for."""

    def __init__(self, general: Certificates, domains: Mapping[str, Certificates], chains: Chains | None = None) -> None:
        """`general` vouch for all clients but those with SPIFFE IDs of `domains`, each of which has its own.

        `chains` are those of the bundles before this one, and are added to.
        """
        self._general = _store(general)
        self._domains = {name: _store(authorities) for name, authorities in domains.items()}
        self._known: dict[bytes, Vouched] = {}
        self._chains: Chains = {} if chains is None else chains
        every = dict.fromkeys(chain(general, *domains.values()))
        self.pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in every)
        """All authorities: for those who first verify a chain by any, and then have it identified here."""

    def identify(self, chain_der: Sequence[bytes], wall: int) -> str:
        """Who the client is that has shown these certificates, its own first, at this wall time. Raises Unverified."""
        return self.vouch(chain_der, wall).identity

    def vouch(self, chain_der: Sequence[bytes], wall: int) -> Vouched:
        """The same, and how long it holds.

        About 200 µs of CPU; 2 where the same certificate was seen before. Its further certificates may then be missing, as they
        are after a resumption: also where the authorities have changed since, who judge it by those that it had. Raises
        Unverified.
        """
        if not chain_der:
            raise Unverified("the client has shown no certificate", CERTIFICATE_REQUIRED)
        fingerprint = sha256(chain_der[0]).digest()
        known = self._known.get(fingerprint)
        if known is None or not known.begin <= wall <= known.end:
            known = self._judge(chain_der, wall, fingerprint)
            _keep(self._known, fingerprint, known, MAX_KNOWN)
        return known

    identify_verified = identify
    """The same, for who has verified the chain by `pem`: which says nothing yet of whose authority it is that vouches."""

    def _judge(self, chain_der: Sequence[bytes], wall: int, fingerprint: bytes) -> Vouched:
        if len(chain_der) > MAX_DEPTH + 2:  # there may be an authority at its end
            raise Unverified(f"the client has shown {len(chain_der)} certificates", BAD_CERTIFICATE)
        try:
            leaf, *others = map(x509.load_der_x509_certificate, chain_der)
            identity = _identity(leaf)
            before = others or list(self._chains.get(fingerprint, ()))
            verified = self._verified(leaf, before, self._store_for(identity), wall)
        except BadIdentity as error:
            raise Unverified(str(error), error.alert) from error
        except _UNREADABLE as error:
            raise Unverified(f"the certificate cannot be read: {error}", BAD_CERTIFICATE) from error
        if others:
            _keep(self._chains, fingerprint, tuple(verified[1:]), MAX_CHAINS)
        begin = max(certificate.not_valid_before_utc for certificate in verified)
        end = min(certificate.not_valid_after_utc for certificate in verified)
        return Vouched(identity, begin.timestamp(), end.timestamp())

    def _store_for(self, identity: str) -> verification.Store:
        store = self._general
        if identity.startswith(SCHEME):
            store = self._domains.get(trust_domain_of(identity), store)  # one without authorities is vouched for by nobody
        if store is None:
            raise Unverified(f"nobody may vouch for {identity}", UNKNOWN_CA)
        return store

    @staticmethod
    def _verified(
        leaf: x509.Certificate, others: list[x509.Certificate], store: verification.Store, wall: int
    ) -> list[x509.Certificate]:
        moment = datetime.fromtimestamp(wall, UTC)
        builder = verification.PolicyBuilder().store(store).time(moment).max_chain_depth(MAX_DEPTH)
        verifier = builder.extension_policies(ca_policy=_AUTHORITY, ee_policy=_LEAF).build_client_verifier()
        try:
            return verifier.verify(leaf, others).chain
        except verification.VerificationError as error:
            if any(not one.not_valid_before_utc <= moment <= one.not_valid_after_utc for one in (leaf, *others)):
                raise Unverified("the certificate does not count now: see its dates", CERTIFICATE_EXPIRED) from error
            raise Unverified(f"no authority of ours vouches for the certificate: {error}", UNKNOWN_CA) from error


def _keep(kept: dict[bytes, _V], key: bytes, value: _V, most: int) -> None:
    """In place of the oldest where there are too many."""
    while len(kept) >= most and key not in kept:
        del kept[next(iter(kept))]
    kept[key] = value


def _store(authorities: Certificates) -> verification.Store | None:
    return verification.Store(list(authorities)) if authorities else None


def _may_sign(policy: verification.Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:  # noqa: ARG001
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an authority's key is not for signing certificates")


def _is_authority(policy: verification.Policy, certificate: x509.Certificate, basic: x509.BasicConstraints) -> None:  # noqa: ARG001
    if not basic.ca:
        raise ValueError("not an authority's certificate")


def _of_clients(policy: verification.Policy, certificate: x509.Certificate, purposes: x509.ExtendedKeyUsage | None) -> None:  # noqa: ARG001
    if purposes is not None and _CLIENT_PURPOSES.isdisjoint(purposes):
        raise ValueError("an authority that is none of clients")


def _policies() -> tuple[verification.ExtensionPolicy, verification.ExtensionPolicy]:
    """What authorities' and clients' certificates may have: RFC 5280's, and not the narrower rules of the Web's authorities.

    Those demand identifiers of keys, and a critical SAN exactly where the subject is empty, which workloads' and
    self-made authorities leave out. Any other critical extension makes a certificate unusable (RFC 5280 4.2).
    """
    agnostic, default = verification.Criticality.AGNOSTIC, verification.ExtensionPolicy
    authority = (
        default.webpki_defaults_ca()
        .require_present(x509.BasicConstraints, agnostic, _is_authority)
        .may_be_present(x509.KeyUsage, agnostic, _may_sign)
        .may_be_present(x509.ExtendedKeyUsage, agnostic, _of_clients)
    )
    leaf = (
        default.webpki_defaults_ee()
        .may_be_present(x509.BasicConstraints, agnostic, None)  # this and the two below: see _check_use
        .may_be_present(x509.KeyUsage, agnostic, None)
        .may_be_present(x509.ExtendedKeyUsage, agnostic, None)
    )
    for kind in (x509.AuthorityKeyIdentifier, x509.SubjectKeyIdentifier, x509.SubjectAlternativeName):
        authority, leaf = authority.may_be_present(kind, agnostic, None), leaf.may_be_present(kind, agnostic, None)
    return authority, leaf


_AUTHORITY, _LEAF = _policies()


# Where the authorities come from


def _followed(path: Path, complain: Complain) -> Followed[Certificates]:
    return Followed((path,), lambda: _read(path), complain)


def _read(path: Path) -> Certificates:
    try:
        return tuple(x509.load_pem_x509_certificates(path.read_bytes()))
    except OSError as error:
        raise BadAuthorities(f"{path} cannot be read: {error.strerror}") from error
    except UNREADABLE as error:
        raise BadAuthorities(f"{path} has no certificates in PEM that can be used: {error}") from error


def _no_bundles() -> TrustBundles:
    return _NONE


_NONE: Final[TrustBundles] = {}


class Authorities:
    """Who may vouch for clients, as it is now: from files that may change, and from a Workload API through `bundles`.

    A trust domain that has a file counts by that file alone. `bundles` answers the same object for as long as nothing changed,
    and is not called but by `current`. What cannot be used is told to `complain` once, and what it would replace stays. Raises
    BadAuthorities for a file that cannot be used to begin with.
    """

    def __init__(
        self,
        client_ca_file: Path | None,
        trust_domains: Sequence[TrustDomain],
        bundles: Callable[[], TrustBundles] = _no_bundles,
        complain: Complain = nobody,
    ) -> None:
        self._bundles, self._complain = bundles, complain
        self._general = None if client_ca_file is None else _followed(client_ca_file, complain)
        self._files = {domain.name: _followed(domain.ca_file, complain) for domain in trust_domains}
        self._all = (*self._files.values(), *(() if self._general is None else (self._general,)))
        self._seen = [file.current() for file in self._all]
        self._given: TrustBundles = {}
        self._delivered: dict[str, Certificates] = {}
        self._chains: Chains = {}
        self._bundle = self._made()

    def current(self) -> Bundle:
        """The authorities as they are now: the same object for as long as nothing changed. Costs a stat of each file."""
        seen, given = [file.current() for file in self._all], self._bundles()
        same = all(map(is_, seen, self._seen))
        if given is not self._given:
            self._deliver(given)
            same = False
        if not same:
            self._seen, self._bundle = seen, self._made()
        return self._bundle

    def _deliver(self, given: TrustBundles) -> None:
        """Take what a Workload API gave; of a domain whose certificates cannot be read, those from before stay."""
        self._given, before = given, self._delivered
        self._delivered = {}
        for domain, certificates in given.items():
            try:
                self._delivered[domain] = tuple(map(x509.load_der_x509_certificate, certificates))
            except UNREADABLE as error:
                self._complain(f"the authorities of {domain} cannot be read: {error}: those from before stay")
                self._delivered[domain] = before.get(domain, ())

    def _made(self) -> Bundle:
        own = {name: file.current() for name, file in self._files.items()}
        return Bundle(() if self._general is None else self._general.current(), self._delivered | own, self._chains)
