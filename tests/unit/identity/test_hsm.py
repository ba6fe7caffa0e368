"""Keys that never leave their token: SoftHSM2 signs, and cryptography verifies."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hsm import Token, the_token

from dohproxy.identity.own import BadCertificate, FileCertificate
from dohproxy.lab.certificates import Authority

pytest.importorskip("pkcs11")


def pem(key: Any) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def token() -> Token:
    return the_token()


@pytest.fixture(scope="session")
def keys(token: Token, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made: dict[str, Any] = {
        "p256": ec.generate_private_key(ec.SECP256R1()),
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "rsa": rsa.generate_private_key(65537, 2048),
        "p521": ec.generate_private_key(ec.SECP521R1()),
    }
    for label, key in made.items():
        token.import_key(label, pem(key), tmp_path_factory.mktemp("keys"))
    return made


def private_key(*args: Any) -> Any:
    from dohproxy.identity.hsm import private_key

    return private_key(*args)


@pytest.mark.parametrize(("label", "digest"), [("p256", hashes.SHA256()), ("p384", hashes.SHA384())])
def test_an_elliptic_key_signs(token: Token, keys: dict[str, Any], label: str, digest: Any) -> None:
    key = private_key(token.uri(label))
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert type(key.curve) is type(keys[label].curve)
    keys[label].public_key().verify(key.sign(b"hello", ec.ECDSA(digest)), b"hello", ec.ECDSA(digest))


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384()])
def test_an_rsa_key_signs(token: Token, keys: dict[str, Any], digest: Any) -> None:
    key = private_key(token.uri("rsa"))
    assert isinstance(key, rsa.RSAPrivateKey)
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    keys["rsa"].public_key().verify(key.sign(b"hello", pss, digest), b"hello", pss, digest)


def test_the_key_must_be_the_certificates(token: Token, keys: dict[str, Any]) -> None:
    other = x509.load_pem_x509_certificates(Authority().client("web").certificate)[0]
    for label in ("p256", "rsa"):
        with pytest.raises(BadCertificate, match="not the certificate's"):
            private_key(token.uri(label), other)
    mine = x509.load_pem_x509_certificates(Authority().client("web", key=keys["p256"]).certificate)[0]
    assert private_key(token.uri("p256"), mine).curve.name == "secp256r1"


def test_a_session_that_the_module_forgot_is_opened_again(token: Token, keys: dict[str, Any]) -> None:
    key = private_key(token.uri("p256"))
    key._held.key.session.close()
    digest = ec.ECDSA(hashes.SHA256())
    keys["p256"].public_key().verify(key.sign(b"hello", digest), b"hello", digest)


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (lambda token: token.uri("nobody"), "no key nobody in the HSM"),
        (lambda token: token.uri("p256", token="other"), "no key p256 in the HSM"),
        (lambda token: token.uri("p256", pin_source="/nowhere"), "the PIN in /nowhere cannot be read: No such file"),
        (lambda token: token.uri("p521"), "neither RSA nor of the curves"),
        (lambda _: "pkcs11:object=x?module-path=/nowhere.so", "no key x in the HSM: .*nowhere"),
        (lambda _: "pkcs11:token=x", "names no key"),
    ],
)
def test_what_cannot_be_used_is_told_in_words(token: Token, keys: dict[str, Any], uri: Any, why: str) -> None:
    with pytest.raises(BadCertificate, match=why):
        private_key(uri(token))


def test_a_wrong_pin_is_told(token: Token, keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("0000")
    with pytest.raises(BadCertificate, match="PinIncorrect"):
        private_key(token.uri("p256", token="empty", pin_source=f"{tmp_path}/pin"))


def test_a_wrong_pin_is_nobody_elses_error(token: Token, keys: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "pin").write_text("0000")
    with pytest.raises(BadCertificate):
        private_key(token.uri("p256", token="empty", pin_source=f"{tmp_path}/pin"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=Authority().pem.decode())
    assert context.get_ca_certs()


def test_a_new_certificate_must_be_of_the_key_that_stays(token: Token, keys: dict[str, Any], tmp_path: Path) -> None:
    certificate, _ = Authority().client("web", key=keys["p256"]).write(tmp_path, "web")
    said: list[str] = []
    own = FileCertificate(certificate, token.uri("p256"), said.append)
    before = own.current()
    assert before.key == token.uri("p256")
    Authority().client("web").write(tmp_path, "web")
    assert own.current() is before
    assert said == ["the key in the HSM is not the certificate's: what was there before stays in use"]
    Authority().client("web", key=keys["p256"]).write(tmp_path, "web")
    assert own.current() != before
