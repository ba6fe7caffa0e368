"""Whom we let vouch for others: certificates of authorities in a file, read again when it changes."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from dohproxy.errors import DohproxyError
from dohproxy.identity.der import UNREADABLE
from dohproxy.identity.followed import Complain, Followed, nobody


class BadAuthorities(DohproxyError):
    """A CA file that cannot be used."""


class FileAuthorities:
    """The authorities of a PEM file. One that became unusable is told to `complain` once, and those before it stay.

    Raises BadAuthorities where there are none before it.
    """

    def __init__(self, file: Path, complain: Complain = nobody) -> None:
        self._file = file
        self._certificates = Followed((file,), self._read, complain)

    def current(self) -> tuple[bytes, ...]:
        """Their certificates in DER: the same object while nothing changed. Takes microseconds, but after a change."""
        return self._certificates.current()

    def _read(self) -> tuple[bytes, ...]:
        try:
            certificates = x509.load_pem_x509_certificates(self._file.read_bytes())
        except (OSError, *UNREADABLE) as error:
            why = error.strerror if isinstance(error, OSError) else "not in PEM"
            raise BadAuthorities(f"{self._file}: no certificates to verify others with ({why})") from error
        return tuple(certificate.public_bytes(Encoding.DER) for certificate in certificates)
