"""SVCB records as DNS servers have them: where a service is, and how it is spoken to (RFC 9460, RFC 9461)."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from msgspec import Struct

from dohproxy.errors import MalformedMessage
from dohproxy.model import Name
from dohproxy.wire.rdata import read_name

MANDATORY: Final = 0
ALPN: Final = 1
NO_DEFAULT_ALPN: Final = 2
PORT: Final = 3
IPV4HINT: Final = 4
IPV6HINT: Final = 6
DOHPATH: Final = 7
_KNOWN = frozenset((MANDATORY, ALPN, NO_DEFAULT_ALPN, PORT, IPV4HINT, IPV6HINT, DOHPATH))
_HINTS = ((IPV6HINT, 16), (IPV4HINT, 4))


class Service(Struct, frozen=True):
    """What an SVCB record says. Of priority 0 it is an alias, and has nothing but its target (RFC 9460 2.4.2)."""

    priority: int
    target: Name
    """In lower case; the root stands for the owner (RFC 9460 2.5.2)."""
    alpn: tuple[str, ...] = ()
    """The protocols, such as `dot`, `doq`, `h2` and `h3`."""
    port: int = 0
    """0 is the usual one of each protocol."""
    hints: tuple[str, ...] = ()
    """Addresses of the target, those of IPv6 first."""
    dohpath: str = ""
    """A URI template relative to the target, such as `/dns-query{?dns}` (RFC 9461 5)."""
    unknown: tuple[int, ...] = ()
    """Mandatory keys that mean nothing to us: the record is then of no use (RFC 9460 8)."""


def parse_service_untrusted(rdata: bytes) -> Service:
    """The service. Raises MalformedMessage for RDATA that RFC 9460 2.2 does not allow."""
    try:
        target, at = read_name(rdata, 2)
    except IndexError:
        raise MalformedMessage("SVCB: it ends within its target") from None
    parameters = dict(_parameters(rdata, at))
    mandatory = _mandatory(parameters)
    return Service(
        int.from_bytes(rdata[:2]),
        target.lower(),
        tuple(_alpn(parameters[ALPN])) if ALPN in parameters else (),
        _port(parameters[PORT]) if PORT in parameters else 0,
        tuple(hint for key, size in _HINTS if key in parameters for hint in _addresses(parameters[key], size)),
        _text(parameters.get(DOHPATH, b"")),
        tuple(key for key in mandatory if key not in _KNOWN),
    )


def _parameters(rdata: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Keys in ascending order, each with its value."""
    last = -1
    while at < len(rdata):
        key, size = int.from_bytes(rdata[at : at + 2]), int.from_bytes(rdata[at + 2 : at + 4])
        begin, at = at + 4, at + 4 + size
        if at > len(rdata):
            raise MalformedMessage("SVCB: it ends within a parameter")
        if key <= last:
            raise MalformedMessage("SVCB: its keys are not in order")
        yield key, rdata[begin:at]
        last = key


def _mandatory(parameters: dict[int, bytes]) -> tuple[int, ...]:
    """Keys that must be there, and understood (RFC 9460 8)."""
    if MANDATORY not in parameters:
        return ()
    value = parameters[MANDATORY]
    keys = tuple(int.from_bytes(value[at : at + 2]) for at in range(0, len(value), 2))
    if not keys or len(value) % 2 or list(keys) != sorted(set(keys)) or MANDATORY in keys or not set(keys) <= set(parameters):
        raise MalformedMessage("SVCB: its mandatory keys are not those of a service")
    return keys


def _alpn(value: bytes) -> Iterator[str]:
    """Each with its length before it (RFC 9460 7.1.1)."""
    if not value:
        raise MalformedMessage("SVCB: alpn is empty")
    at = 0
    while at < len(value):
        begin, at = at + 1, at + 1 + value[at]
        if at > len(value) or begin == at:
            raise MalformedMessage("SVCB: alpn ends within a protocol")
        yield "".join(chr(octet) if 0x21 <= octet <= 0x7E else f"\\{octet:03}" for octet in value[begin:at])


def _port(value: bytes) -> int:
    if len(value) != 2 or value == b"\0\0":
        raise MalformedMessage("SVCB: port is none")
    return int.from_bytes(value)


def _addresses(value: bytes, size: int) -> Iterator[str]:
    if not value or len(value) % size:
        raise MalformedMessage("SVCB: a hint is no list of addresses")
    return (str(ip_address(value[at : at + size])) for at in range(0, len(value), size))


def _text(value: bytes) -> str:
    """RFC 9461 5."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise MalformedMessage("SVCB: dohpath is not UTF-8") from None
    if not text.isprintable():
        raise MalformedMessage("SVCB: dohpath is no path")
    return text
