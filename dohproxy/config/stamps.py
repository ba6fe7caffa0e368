"""DNS stamps: all that is needed to reach a server in one text, `sdns://…` (https://dnscrypt.info/stamps-specifications)."""

from __future__ import annotations

from base64 import b64decode
from enum import IntEnum, IntFlag
from ipaddress import ip_address

from msgspec import Struct

from dohproxy.errors import MalformedMessage

SCHEME = "sdns://"


class Protocol(IntEnum):
    """What is spoken to the server of a stamp."""

    PLAIN = 0x00
    DNSCRYPT = 0x01
    DOH = 0x02
    DOT = 0x03
    DOQ = 0x04
    ODOH_TARGET = 0x05
    DNSCRYPT_RELAY = 0x81
    ODOH_RELAY = 0x85


class Properties(IntFlag):
    """What the server's operator claims of it."""

    DNSSEC = 1
    NO_LOG = 2
    NO_FILTER = 4


_TELLS_OF_DNSCRYPT = (Protocol.DNSCRYPT, Protocol.DNSCRYPT_RELAY)
_HAS_PATH = (Protocol.DOH, Protocol.ODOH_TARGET, Protocol.ODOH_RELAY)
_DIGEST = 32


class Stamp(Struct, frozen=True):
    """What a stamp says. Those of DNSCrypt are told apart, and no more is read of them."""

    protocol: Protocol
    properties: Properties = Properties(0)
    address: str = ""
    """The IP address, without brackets; "" where the host is to be resolved."""
    port: int = 0
    """0 is the usual one."""
    hashes: tuple[bytes, ...] = ()
    """SHA-256 digests of TBSCertificates, of which the server's chain must have one; () is any."""
    host: str = ""
    """The name, or IP address, that the certificate is for."""
    path: str = ""
    bootstrap: tuple[str, ...] = ()
    """Resolvers to find the host with, in clear."""


def decode_stamp_untrusted(text: str) -> Stamp:
    """The stamp. Raises MalformedMessage for what is none."""
    octets = _octets(text)
    if not octets or octets[0] not in set(Protocol):
        raise MalformedMessage("it is of no protocol that is known")
    protocol = Protocol(octets[0])
    if protocol in _TELLS_OF_DNSCRYPT:
        return Stamp(protocol)
    if len(octets) < 9:
        raise MalformedMessage("it ends within its properties")
    properties = Properties(int.from_bytes(octets[1:9], "little") & 7)
    return _fields(protocol, properties, _Reader(octets, 9))


def _octets(text: str) -> bytes:
    encoded = text.removeprefix(SCHEME).rstrip("=")
    try:
        if set(encoded) & set("+/"):
            raise ValueError
        return b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise MalformedMessage("it is not in base64url") from None


def _fields(protocol: Protocol, properties: Properties, read: _Reader) -> Stamp:
    address, port = ("", 0) if protocol is Protocol.ODOH_TARGET else _address(read.text())
    hashes: tuple[bytes, ...] = ()
    host, named_port, path = "", 0, ""
    if protocol not in (Protocol.PLAIN, Protocol.ODOH_TARGET):
        hashes = _hashes(read.several())
    if protocol is not Protocol.PLAIN:
        host, named_port = _host(read.text())
    if protocol in _HAS_PATH:
        path = read.text()
    bootstrap = tuple(_address(_text(one))[0] for one in read.several() if one) if read.more else ()
    if read.more:
        raise MalformedMessage("something follows its end")
    if port and named_port and port != named_port:
        raise MalformedMessage(f"it has two ports, {port} and {named_port}")
    return Stamp(protocol, properties, address, named_port or port, hashes, host, path, bootstrap)


class _Reader:
    """Takes one element after another: LP is one with its length before it, VLP several, all but the last of them marked."""

    def __init__(self, octets: bytes, at: int) -> None:
        self._octets, self._at = octets, at

    @property
    def more(self) -> bool:
        return self._at < len(self._octets)

    def text(self) -> str:
        """LP."""
        value, _ = self._next(0xFF)
        return _text(value)

    def several(self) -> tuple[bytes, ...]:
        """VLP."""
        found, more = [], True
        while more:
            value, more = self._next(0x7F)
            found.append(value)
        return tuple(found)

    def _next(self, mask: int) -> tuple[bytes, bool]:
        if not self.more:
            raise MalformedMessage("it ends too early")
        length, more = self._octets[self._at] & mask, bool(self._octets[self._at] & ~mask)
        begin, self._at = self._at + 1, self._at + 1 + length
        if self._at > len(self._octets):
            raise MalformedMessage("it ends within an element")
        return self._octets[begin : self._at], more


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise MalformedMessage("it has a text that is not UTF-8") from None
    if not text.isprintable() or " " in text:
        raise MalformedMessage(f"it has a text that no host or path is: {text!r}")
    return text


def _hashes(values: tuple[bytes, ...]) -> tuple[bytes, ...]:
    hashes = tuple(value for value in values if value)
    if any(len(value) != _DIGEST for value in hashes):
        raise MalformedMessage("it has a certificate hash that is no SHA-256 digest")
    return hashes


def _address(text: str) -> tuple[str, int]:
    """`192.0.2.1`, `192.0.2.1:853`, `[2001:db8::1]:853`, `:853` or nothing."""
    host, port = _host(text)
    try:
        return str(ip_address(host)) if host else "", port
    except ValueError:
        raise MalformedMessage(f'"{text}" is no address') from None


def _host(text: str) -> tuple[str, int]:
    """A name or an address, and perhaps a port; an IPv6 address has brackets, or else no port."""
    try:
        return str(ip_address(text)), 0
    except ValueError:
        pass
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
    else:
        host, colon, port = text.partition(":")
        port = colon + port
    return host, _port(port)


def _port(text: str) -> int:
    """`:853`, or nothing, which is 0."""
    if not text:
        return 0
    digits = text.removeprefix(":")
    if digits == text or not digits.isdecimal() or not digits.isascii() or not 0 < int(digits) < 65536:
        raise MalformedMessage(f'"{text}" is no port')
    return int(digits)
