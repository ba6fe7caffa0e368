"""Makes the certificates of the lab and of the tests: an authority, servers' and clients' certificates (RFC 5280)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from os import O_CREAT, O_TRUNC, O_WRONLY
from os import open as open_fd
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from msgspec import Struct

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Validity(Struct, frozen=True):
    """From when until when a certificate counts."""

    begin: datetime
    end: datetime

    @classmethod
    def around(cls, now: datetime, days: int = 365) -> Validity:
        """From an hour before `now`, for clocks that are a little behind, until `days` after it."""
        return cls(now - timedelta(hours=1), now + timedelta(days=days))


class Credentials(Struct, frozen=True):
    """A certificate (with its authority's, where there is one above it) and its private key, both in PEM."""

    certificate: bytes
    key: bytes

    def write(self, directory: Path, stem: str) -> tuple[Path, Path]:
        """Writes `stem.pem` and `stem.key`, the latter for its owner alone; answers their paths."""
        directory.mkdir(parents=True, exist_ok=True)
        certificate, key = directory / f"{stem}.pem", directory / f"{stem}.key"
        certificate.write_bytes(self.certificate)
        key.unlink(missing_ok=True)
        with open(open_fd(key, O_WRONLY | O_CREAT | O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123 -- a key is never readable by others, not even at first
            file.write(self.key)
        return certificate, key


class Authority:
    """A certificate authority of our own, with a P-256 key that signs what it issues."""

    def __init__(self, name: str = "dohproxy lab authority", validity: Validity | None = None) -> None:
        self.validity = validity or Validity.around(datetime.now(UTC))
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _common_name(name)
        builder = self._builder(self._name, self._key.public_key(), self.validity)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(sign_certificates=True), critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        """The authority's certificate, for those who shall trust it."""
        return self.certificate.public_bytes(Encoding.PEM)

    def write(self, directory: Path, stem: str = "ca") -> Path:
        """Writes the authority's certificate, not its key, as `stem.pem`; answers the path."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{stem}.pem"
        path.write_bytes(self.pem)
        return path

    def server(self, *names: str, validity: Validity | None = None) -> Credentials:
        """For a server of these DNS names and IP addresses (RFC 6125, RFC 5280 4.2.1.6)."""
        return self._issue(names[0], [_server_name(name) for name in names], ExtendedKeyUsageOID.SERVER_AUTH, validity)

    def client(
        self, name: str, *identities: str, validity: Validity | None = None, key: PrivateKey | None = None
    ) -> Credentials:
        """For a client: each identity is a URI SAN such as `spiffe://prod.example/ns/pay/sa/web`, else a DNS name."""
        purpose = ExtendedKeyUsageOID.CLIENT_AUTH
        return self._issue(name, [_client_name(identity) for identity in identities], purpose, validity, key)

    def _issue(
        self,
        subject: str,
        names: Sequence[x509.GeneralName],
        purpose: ObjectIdentifier,
        validity: Validity | None,
        key: PrivateKey | None = None,
    ) -> Credentials:
        key = key or ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_common_name(subject), key.public_key(), validity or self.validity)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(sign_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return Credentials(certificate + self.pem, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def _builder(self, subject: x509.Name, key: PublicKey, validity: Validity) -> x509.CertificateBuilder:
        own = self._key.public_key()
        return (
            x509.CertificateBuilder(issuer_name=self._name, subject_name=subject, public_key=key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(validity.begin)
            .not_valid_after(validity.end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(own), critical=False)
        )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _server_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _client_name(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text) if "://" in text else x509.DNSName(text)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
