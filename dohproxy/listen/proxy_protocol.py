"""The PROXY protocol, version 2: a load balancer tells for whom a connection is, ahead of everything else.

HAProxy's doc/proxy-protocol.txt, section 2.2. Version 1, which is text, is not taken.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, Protocol

from dohproxy.errors import MalformedMessage

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
FIXED: Final = 16
"""Octets of every header; the last two of them tell how many follow."""
MAX_REST: Final = 4096
"""Octets that may follow: addresses, and what else the balancer tells."""
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES: Final = {0x11: (IPv4Address, 4), 0x21: (IPv6Address, 16)}
"""By family and transport (TCP over IPv4, and over IPv6): the client's address, and its octets."""


class Stream(Protocol):
    """What is read from."""

    async def receive_some(self, max_bytes: int) -> bytes | bytearray:
        """Octets, not more than so many."""
        ...


async def receive(stream: Stream, host: str) -> str:
    """The address of the client for whom the balancer at `host` opened this stream; leaves the stream behind the header.

    Raises MalformedMessage where there is no such header; takes as long as the balancer does.
    """
    fixed = await _exactly(stream, len(SIGNATURE))
    if fixed == SIGNATURE:
        fixed += await _exactly(stream, FIXED - len(SIGNATURE))
    rest = await _exactly(stream, rest_untrusted(fixed))
    return client_untrusted(fixed, rest) or host


def rest_untrusted(fixed: bytes) -> int:
    """How many octets follow the first of a header. Raises MalformedMessage if they are those of no header."""
    if not fixed.startswith(SIGNATURE) or fixed[12] not in (_LOCAL, _PROXY):
        raise MalformedMessage("no header of the PROXY protocol, version 2")
    size = int.from_bytes(fixed[14:FIXED])
    if size > MAX_REST:
        raise MalformedMessage("a header of the PROXY protocol that is too long")
    return size


def client_untrusted(fixed: bytes, rest: bytes) -> str:
    """The client's address; "" where the connection is the balancer's own. Raises MalformedMessage where it has none."""
    if fixed[12] == _LOCAL:
        return ""
    if fixed[13] not in _ADDRESSES:
        raise MalformedMessage("a header of the PROXY protocol for something else than TCP over IP")
    family, size = _ADDRESSES[fixed[13]]
    if len(rest) < 2 * size + 4:
        raise MalformedMessage("a header of the PROXY protocol that ends amid its addresses")
    address = family(rest[:size])
    return str(getattr(address, "ipv4_mapped", None) or address)


async def _exactly(stream: Stream, size: int) -> bytes:
    found = b""
    while len(found) < size:
        if not (octets := await stream.receive_some(size - len(found))):
            raise MalformedMessage("the stream ended amid a header of the PROXY protocol")
        found += octets
    return found
