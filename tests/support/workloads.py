"""Certificates as workloads and their authorities have them: like SPIRE's, like openssl's, and broken ones."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

WALL = 1_790_000_000
_HOUR = 3600
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def subject_of(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)] if text else [])


def usage(*set_: str) -> x509.KeyUsage:
    every = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    every += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in set_ for name in every})


SIGNS = usage("digital_signature")


class Issuer:
    """An authority: `root` certifies itself, `intermediate` is certified by another."""

    def __init__(
        self,
        name: str,
        above: Issuer | None = None,
        *,
        plain: bool = False,
        wall: int = WALL,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> None:
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name, self.wall = subject_of(name), wall
        signer = above or self
        builder = _builder(self.name, signer.name, self.key.public_key(), wall - _HOUR, wall + 24 * _HOUR)
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        if not plain:
            builder = builder.add_extension(usage("key_cert_sign", "crl_sign"), critical=True)
            san = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{name}")])
            builder = builder.add_extension(san, critical=False)
        self.certificate = builder.sign(signer.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self,
        *uris: str,
        subject: str = "",
        dns: Sequence[str] = (),
        critical_san: bool = True,
        ca: bool | None = False,
        use: x509.KeyUsage | None = SIGNS,
        purposes: Sequence[ObjectIdentifier] | None = BOTH,
        identifiers: bool = True,
        begin: int = -60,
        end: int = _HOUR,
    ) -> Issued:
        """A leaf; by default as SPIRE makes them. `begin` and `end` are seconds from the issuer's `wall`."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(subject_of(subject), self.name, key.public_key(), self.wall + begin, self.wall + end)
        names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=critical_san and not subject)
        if ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        if use is not None:
            builder = builder.add_extension(use, critical=True)
        if purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if identifiers:
            authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            builder = builder.add_extension(authority, critical=False)
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)


class Issued:
    """A leaf certificate and its key."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate, self.key = certificate, key

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: int, end: int
) -> x509.CertificateBuilder:
    first = datetime.fromtimestamp(begin, UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        .not_valid_before(first)
        .not_valid_after(first + timedelta(seconds=end - begin))
    )


class Unreadable:
    """A certificate of X.509's second version, which cryptography refuses by another exception than most."""

    def __init__(self, certificate: x509.Certificate) -> None:
        der = certificate.public_bytes(Encoding.DER)
        self._der = der.replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\1", 1)
        assert self._der != der

    def public_bytes(self, _: Encoding) -> bytes:
        return self._der
