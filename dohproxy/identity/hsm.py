"""A private key that stays in its hardware security module and signs there (PKCS #11), as a TLS engine in Python takes it.

Imported only where such a key is configured: it needs the extra `hsm`, which is python-pkcs11.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Any

import pkcs11
from aioquic.tls import Alert, AlertDescription
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from dohproxy.config.pkcs11_uris import Pkcs11Uri, parse_pkcs11_uri
from dohproxy.identity.own import BadCertificate

_SCRATCH = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_CURVES: dict[bytes, type[ec.EllipticCurve]] = {
    bytes.fromhex("06082a8648ce3d030107"): ec.SECP256R1,
    bytes.fromhex("06052b81040022"): ec.SECP384R1,
}
"""By the DER of their object identifiers, as CKA_EC_PARAMS has them."""
_HASHES = {
    "sha256": (pkcs11.Mechanism.SHA256, pkcs11.MGF.SHA256),
    "sha384": (pkcs11.Mechanism.SHA384, pkcs11.MGF.SHA384),
}


class NotSigned(Alert):  # type: ignore[misc, unused-ignore]
    """The module does not sign: the handshake that wants it ends, and nothing else."""

    description = AlertDescription.internal_error


class _Held:
    """A key object in a session, found again where the module has forgotten either."""

    def __init__(self, uri: Pkcs11Uri) -> None:
        self._uri = uri
        self.key = self._find()

    def _find(self) -> Any:
        uri = self._uri
        try:
            library = pkcs11.lib(uri.module_path)
            token = library.get_token(**_given(token_label=uri.token, token_serial=uri.serial.encode()))
            which = _given(label=uri.object, id=uri.id)
            return _session(token, uri.pin()).get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, **which)
        except OSError as error:
            raise BadCertificate(f"the PIN in {uri.pin_source} cannot be read: {error.strerror}") from error
        except (pkcs11.PKCS11Error, RuntimeError) as error:
            raise BadCertificate(f"no key {uri.object or uri.id.hex()} in the HSM: {_words(error)}") from error
        finally:
            _forget_errors()

    def sign(self, digest: bytes, mechanism: pkcs11.Mechanism, parameter: Any = None) -> bytes:
        """Raises NotSigned."""
        try:
            try:
                return bytes(self.key.sign(digest, mechanism=mechanism, mechanism_param=parameter))
            except pkcs11.PKCS11Error:  # a module that was restarted knows no session of before
                self.key = self._find()
                return bytes(self.key.sign(digest, mechanism=mechanism, mechanism_param=parameter))
        except (pkcs11.PKCS11Error, BadCertificate) as error:
            _forget_errors()
            raise NotSigned(f"the HSM does not sign: {_words(error)}") from error


class HsmEcKey:
    """Of an elliptic curve."""

    def __init__(self, held: _Held, curve: ec.EllipticCurve) -> None:
        self._held, self.curve = held, curve

    def sign(self, data: bytes, algorithm: ec.ECDSA) -> bytes:
        """An ECDSA signature in DER (RFC 8446 4.2.3)."""
        raw = self._held.sign(_digest(data, algorithm.algorithm), pkcs11.Mechanism.ECDSA)
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half]), int.from_bytes(raw[half:]))


class HsmRsaKey:
    """Of RSA."""

    def __init__(self, held: _Held) -> None:
        self._held = held

    def sign(self, data: bytes, _: padding.PSS, algorithm: hashes.HashAlgorithm) -> bytes:
        """An RSASSA-PSS signature with a salt as long as the digest (RFC 8446 4.2.3)."""
        parameter = (*_HASHES[algorithm.name], algorithm.digest_size)
        return self._held.sign(_digest(data, algorithm), pkcs11.Mechanism.RSA_PKCS_PSS, parameter)


ec.EllipticCurvePrivateKey.register(HsmEcKey)  # which is how a TLS engine tells what a key can sign
rsa.RSAPrivateKey.register(HsmRsaKey)


def private_key(uri: str, certificate: x509.Certificate | None = None) -> HsmEcKey | HsmRsaKey:
    """The key that a `pkcs11:` URI means; raises BadCertificate where there is none, or another than the certificate's.

    Signing takes as long as the module takes, and nothing else goes on meanwhile.
    """
    try:
        held = _Held(parse_pkcs11_uri(uri))
    except ValueError as error:
        raise BadCertificate(str(error)) from error
    key = _key(held)
    if certificate is not None:
        _check(key, certificate)
    return key


def _key(held: _Held) -> HsmEcKey | HsmRsaKey:
    if held.key.key_type is pkcs11.KeyType.RSA:
        return HsmRsaKey(held)
    curve = None
    if held.key.key_type is pkcs11.KeyType.EC:
        curve = _CURVES.get(bytes(held.key[pkcs11.Attribute.EC_PARAMS]))
    if curve is None:
        raise BadCertificate("the key in the HSM is neither RSA nor of the curves P-256 and P-384")
    return HsmEcKey(held, curve())


def _check(key: HsmEcKey | HsmRsaKey, certificate: x509.Certificate) -> None:
    """That the key is the certificate's, by what it signs: a module need not give its public half away."""
    public, sample = certificate.public_key(), b"dohproxy"
    try:
        if isinstance(key, HsmEcKey) and isinstance(public, ec.EllipticCurvePublicKey):
            signature = ec.ECDSA(hashes.SHA256())
            return public.verify(key.sign(sample, signature), sample, signature)
        if isinstance(key, HsmRsaKey) and isinstance(public, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
            return public.verify(key.sign(sample, pss, hashes.SHA256()), sample, pss, hashes.SHA256())
    except NotSigned as error:
        raise BadCertificate(str(error)) from error
    except InvalidSignature:
        pass
    raise BadCertificate("the key in the HSM is not the certificate's")


def _session(token: Any, pin: str | None) -> Any:
    """One in which keys may be used: a process is logged in to a token once for all its sessions (PKCS #11 5.6)."""
    try:
        return token.open(user_pin=pin)
    except pkcs11.UserAlreadyLoggedIn:
        return token.open()


def _forget_errors() -> None:
    """Have OpenSSL forget what a module that is made of it too left in the queue of this thread.

    The ssl module would take that for an error of what it does next. A list of no ciphers is an error that clears the queue.
    """
    with suppress(ssl.SSLError):
        _SCRATCH.set_ciphers("NONE")


def _digest(data: bytes, algorithm: Any) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()


def _given(**values: Any) -> dict[str, Any]:
    """Those that say something."""
    return {name: value for name, value in values.items() if value}


def _words(error: Exception) -> str:
    """python-pkcs11 tells most by the names of its classes."""
    return str(error) or type(error).__name__
