"""Oblivious DoH: messages that their relay cannot read (RFC 9230). HPKE (RFC 9180) is pyhpke's, of the extra `odoh`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from dohproxy.errors import DohproxyError, MalformedMessage

MEDIA_TYPE: Final = b"application/oblivious-dns-message"
CONFIGS_PATH: Final = "/.well-known/odohconfigs"
OVERHEAD: Final = 128
"""Octets at most that sealing adds to a query."""
_VERSION: Final = 1
_QUERY, _RESPONSE = b"\1", b"\2"
_SUITE: Final = (0x0020, 0x0001, 0x0001)
"""DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-128-GCM: what each target must have (RFC 9230 6.1)."""
_KEY_SIZE, _NONCE_SIZE, _HASH_SIZE = 16, 12, 32
_PUBLIC_KEY = 32


class MissingExtra(DohproxyError):
    """pyhpke is not installed."""


class Config(Struct, frozen=True):
    """A key of a target (ObliviousDoHConfigContents, RFC 9230 6.1), of the suite that all targets have."""

    contents: bytes
    public_key: bytes


def parse_configs_untrusted(octets: bytes) -> Config:
    """The first of ObliviousDoHConfigs that is of a version and suite that we have. Raises MalformedMessage."""
    length = int.from_bytes(octets[:2])
    if len(octets) < 2 or length != len(octets) - 2:
        raise MalformedMessage("ODoH: the keys are not as long as they say")
    for version, contents in _configs(octets[2:]):
        if version == _VERSION and (config := _config(contents)) is not None:
            return config
    raise MalformedMessage("ODoH: there is no key of a version and suite that is known")


def _configs(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Each with its version."""
    at = 0
    while at < len(octets):
        version, length = int.from_bytes(octets[at : at + 2]), int.from_bytes(octets[at + 2 : at + 4])
        begin, at = at + 4, at + 4 + length
        if at > len(octets):
            raise MalformedMessage("ODoH: a key ends early")
        yield version, octets[begin:at]


def _config(contents: bytes) -> Config | None:
    """None for one of another suite."""
    suite = tuple(int.from_bytes(contents[at : at + 2]) for at in (0, 2, 4))
    if suite != _SUITE:
        return None
    if int.from_bytes(contents[6:8]) != _PUBLIC_KEY or len(contents) != 8 + _PUBLIC_KEY:
        raise MalformedMessage("ODoH: a key is not as long as it must be")
    return Config(contents, contents[8:])


class Target:
    """Whom queries are sealed for. Raises MissingExtra without pyhpke, MalformedMessage for a key that is none."""

    def __init__(self, config: Config) -> None:
        self._suite = hpke_suite()
        kdf = self._suite.kdf
        self.key_id: bytes = kdf.expand(kdf.extract(b"", config.contents), b"odoh key id", _HASH_SIZE)
        try:
            self._key = self._suite.kem.deserialize_public_key(config.public_key)
            self.seal(b"")  # some keys show only in use that they are none (RFC 7748 6.1)
        except Exception as error:  # pyhpke and cryptography have several, all for the same
            raise MalformedMessage("ODoH: a key that is none") from error

    def seal(self, message: bytes) -> tuple[bytes, Sealed]:
        """A query as the relay is to see it, and what opens its answer (RFC 9230 6.2, 7)."""
        plain = _prefixed(message) + _prefixed(b"")
        enc, context = self._suite.create_sender_context(self._key, b"odoh query")
        key_id = _prefixed(self.key_id)
        sealed = enc + context.seal(plain, _QUERY + key_id)
        return _QUERY + key_id + _prefixed(sealed), Sealed(self._suite, context, plain)


class Sealed:
    """A query under way, which alone opens its answer."""

    def __init__(self, suite: Any, context: Any, plain: bytes) -> None:
        """`context` is HPKE's of either side, `plain` the query as it was sealed."""
        self._suite = suite
        self._secret: bytes = context.export(b"odoh response", _KEY_SIZE)
        self._plain = plain

    def open_untrusted(self, octets: bytes) -> bytes:
        """The answer (RFC 9230 6.2). Raises MalformedMessage if it is none, or not to this query."""
        if octets[:1] != _RESPONSE:
            raise MalformedMessage("ODoH: it is no response")
        nonce, at = _element(octets, 1)
        sealed, at = _element(octets, at)
        if at != len(octets) or len(nonce) != max(_KEY_SIZE, _NONCE_SIZE):
            raise MalformedMessage("ODoH: a response of another form")
        plain = self._open(nonce, sealed)
        message, at = _element(plain, 0)
        padding, at = _element(plain, at)
        if at != len(plain) or any(padding) or not message:
            raise MalformedMessage("ODoH: a response with something else in it")
        return message

    def _open(self, nonce: bytes, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 -- with pyhpke
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        kdf = self._suite.kdf
        secret = kdf.extract(self._plain + _prefixed(nonce), self._secret)
        key, iv = kdf.expand(secret, b"odoh key", _KEY_SIZE), kdf.expand(secret, b"odoh nonce", _NONCE_SIZE)
        try:
            return AESGCM(key).decrypt(iv, sealed, _RESPONSE + _prefixed(nonce))
        except (InvalidTag, ValueError) as error:
            raise MalformedMessage("ODoH: a response that was not sealed for this query") from error


def hpke_suite() -> Any:
    """HPKE as all targets have it; raises MissingExtra."""
    try:
        from pyhpke import AEADId, CipherSuite, KDFId, KEMId  # noqa: PLC0415 -- of an extra
    except ImportError as error:
        raise MissingExtra("Oblivious DoH needs pyhpke: pip install dohproxy[odoh]") from error
    return CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES128_GCM)


def _prefixed(octets: bytes) -> bytes:
    return len(octets).to_bytes(2) + octets


def _element(octets: bytes, at: int) -> tuple[bytes, int]:
    """What has its length before it, and the offset after it."""
    end = at + 2 + int.from_bytes(octets[at : at + 2])
    if at + 2 > len(octets) or end > len(octets):
        raise MalformedMessage("ODoH: it ends early")
    return octets[at + 2 : end], end
