"""Our own certificate and its key, as they are now: read again whenever their files change (RFC 7468, RFC 5280)."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from dohproxy.errors import DohproxyError
from dohproxy.identity.der import UNREADABLE
from dohproxy.identity.followed import Complain, Followed, nobody

HSM = "pkcs11:"
"""The scheme of a key that stays in a hardware security module (RFC 7512)."""


class BadCertificate(DohproxyError):
    """There is no certificate and key that could be shown: missing, broken, or not made for each other."""


class KeyPair(Struct, frozen=True):
    """What is shown to a peer, and the key that proves that it is ours."""

    chain: bytes
    """Certificates in PEM, our own first."""
    key: bytes | str
    """Its private key in PEM, or a `pkcs11:` URI where it never leaves its HSM."""


class OwnCertificate(Protocol):
    """A certificate that may be replaced while we run. Every new connection asks for the current one; open ones stay."""

    def current(self) -> KeyPair:
        """The pair in force: the same object for as long as nothing changed. Raises BadCertificate if there is none.

        Takes microseconds, but for the first call after a change.
        """
        ...


class FileCertificate:
    """A chain and its key in files, read again when they change; `key` is a path, or a `pkcs11:` URI.

    A key in an HSM is made to sign once, to see that it is the certificate's. A pair that cannot be used, such as one that is
    only half written, is told to `complain` once, and the one before it stays in force. Raises BadCertificate where there is
    none before it.
    """

    def __init__(self, certificate: Path, key: str, complain: Complain = nobody) -> None:
        self._key = key
        self._files = (certificate,) if key.startswith(HSM) else (certificate, Path(key))
        self._pair = Followed(self._files, self._read, complain)

    def current(self) -> KeyPair:
        """The pair of the files, or the last good one that they had."""
        return self._pair.current()

    def _read(self) -> KeyPair:
        try:
            chain, *keys = (file.read_bytes() for file in self._files)
        except OSError as error:
            raise BadCertificate(f"{error.filename} cannot be read: {error.strerror}") from error
        key = keys[0] if keys else self._key
        try:
            _check_pair(chain, key)
        except ValueError as error:
            raise BadCertificate(f"{' and '.join(map(str, self._files))}: {error}") from error
        return KeyPair(chain, key)


class SvidCertificate:
    """The X.509-SVID that a Workload API gave us last: there is none before it says so, and none past its end."""

    def __init__(self) -> None:
        self._pair: KeyPair | None = None
        self._why = "the SPIFFE Workload API has not given us an X.509-SVID yet"

    def current(self) -> KeyPair:
        """The latest; raises BadCertificate while there is none."""
        if self._pair is None:
            raise BadCertificate(self._why)
        return self._pair

    def replace(self, pair: KeyPair) -> None:
        """From now on it is this one."""
        if pair != self._pair:
            self._pair = pair

    def withdraw(self, why: str) -> None:
        """There is none any more."""
        self._pair, self._why = None, why


def _check_pair(chain: bytes, key: bytes | str) -> None:
    """Raises ValueError, in words, unless the chain is PEM and the key is the first's; BadCertificate for one in an HSM."""
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        public = leaf.public_key()
    except UNREADABLE as error:
        raise ValueError("no chain of certificates in PEM") from error
    if isinstance(key, str):
        _check_hsm(key, leaf)
        return
    try:
        private = load_pem_private_key(key, None)
    except TypeError as error:
        raise ValueError("the key is encrypted, and nobody is there to tell its password") from error
    except UNREADABLE as error:
        raise ValueError("no private key in PEM") from error
    if private.public_key() != public:
        raise ValueError("the key is not the certificate's")


def _check_hsm(uri: str, leaf: x509.Certificate) -> None:
    try:
        from dohproxy.identity.hsm import private_key  # noqa: PLC0415 -- an extra
    except ImportError as error:
        raise ValueError("keys in an HSM take python-pkcs11: pip install 'dohproxy[hsm]'") from error
    private_key(uri, leaf)
