"""Addresses as integers: sets of networks, what is private, and the IPv4 addresses that hide in IPv6 ones."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_network

from dohproxy.config.settings import Network
from dohproxy.model import Name
from dohproxy.wire.constants import AAAA, HTTPS, SVCB, A

_MAPPED = b"\0" * 10 + b"\xff\xff"
_COMPATIBLE = b"\0" * 12
_NAT64 = b"\0\x64\xff\x9b" + b"\0" * 8
_SIX_TO_FOUR = b"\x20\x02"
_SUSPECT_PREFIXES = (b"\0", _SIX_TO_FOUR)
"""What every IPv6 address begins with that may have an IPv4 address inside."""

IPV4HINT, IPV6HINT = 4, 6
"""SvcParamKeys (RFC 9460 7.3)."""


def canonical(network: Network) -> Network:
    """The network, as IPv4 where it is one of IPv4-mapped IPv6 addresses (RFC 4291 2.5.5.2)."""
    if isinstance(network, IPv6Network) and network.prefixlen >= 96 and network.network_address.ipv4_mapped is not None:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


class AddressSet:
    """Addresses in any of some networks: merged ranges, searched by bisection."""

    def __init__(self, networks: Iterable[Network]) -> None:
        every = [canonical(network) for network in networks]
        self._four = _ranges(collapse_addresses(n for n in every if isinstance(n, IPv4Network)))
        self._six = _ranges(collapse_addresses(n for n in every if isinstance(n, IPv6Network)))

    def __bool__(self) -> bool:
        return bool(self._four[0] or self._six[0])

    def __contains__(self, packed: bytes) -> bool:
        starts, ends = self._four if len(packed) == 4 else self._six
        value = int.from_bytes(packed, "big")
        at = bisect_right(starts, value)
        return at > 0 and value <= ends[at - 1]


def _ranges(networks: Iterable[Network]) -> tuple[list[int], list[int]]:
    merged = sorted((int(network[0]), int(network[-1])) for network in networks)
    return [first for first, _ in merged], [last for _, last in merged]


PRIVATE_NETWORKS: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # this host (RFC 1122 3.2.1.3): many systems reach themselves by it
        "10.0.0.0/8",  # RFC 1918
        "100.64.0.0/10",  # carrier-grade NAT (RFC 6598)
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local (RFC 3927), and the metadata services of clouds
        "172.16.0.0/12",
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarking (RFC 2544), inside of networks only
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "64:ff9b:1::/48",  # local-use NAT64 (RFC 8215)
        "fc00::/7",  # unique local (RFC 4193)
        "fe80::/10",
        "fec0::/10",  # site-local, deprecated (RFC 3879)
    )
)
PRIVATE = AddressSet(PRIVATE_NETWORKS)
"""Addresses that mean something inside of a network only, and so have no place in answers to public names."""

_PRIVATE_FIRST_OCTETS = (frozenset({0, 10, 100, 127, 169, 172, 192, 198, 255}), frozenset({0, 0xFC, 0xFD, 0xFE}))


def is_private(packed: bytes) -> bool:
    """Whether this address of 4 or 16 octets is in PRIVATE."""
    return packed[0] in _PRIVATE_FIRST_OCTETS[len(packed) == 16] and packed in PRIVATE


def embedded(packed: bytes) -> bytes | None:
    """The IPv4 address inside an IPv6 one, or None.

    IPv4-mapped and -compatible (RFC 4291 2.5.5), NAT64's well-known prefix (RFC 6052 2.1) and 6to4 (RFC 3056 2).
    """
    if not packed.startswith(_SUSPECT_PREFIXES):
        return None
    if packed.startswith(_SIX_TO_FOUR):
        return packed[2:6]
    if packed.startswith((_MAPPED, _NAT64)) or (packed.startswith(_COMPATIBLE) and packed[12:] > b"\0\0\0\1"):
        return packed[12:]
    return None


def addresses_of(rdtype: int, rdata: bytes) -> Iterator[bytes]:
    """The addresses, of 4 or 16 octets, that a record gives a client: those inside of IPv6 addresses too, and SVCB's hints."""
    if rdtype == A and len(rdata) == 4:
        yield rdata
    elif rdtype == AAAA and len(rdata) == 16:
        yield from _with_embedded(rdata)
    elif rdtype in (SVCB, HTTPS):
        for key, value in service_parameters_untrusted(rdata)[1]:
            if key == IPV4HINT:
                yield from (value[at : at + 4] for at in range(0, len(value) - 3, 4))
            elif key == IPV6HINT:
                for at in range(0, len(value) - 15, 16):
                    yield from _with_embedded(value[at : at + 16])


def _with_embedded(packed: bytes) -> Iterator[bytes]:
    yield packed
    if (inside := embedded(packed)) is not None:
        yield inside


def service_parameters_untrusted(rdata: bytes) -> tuple[Name, list[tuple[int, bytes]]]:
    """The TargetName and the SvcParams of an SVCB or HTTPS record, as far as they can be read (RFC 9460 2.2)."""
    at = 2
    while at < len(rdata) and rdata[at]:
        at += rdata[at] + 1
    at += 1
    target, parameters = rdata[2:at], []
    while at + 4 <= len(rdata):
        length = int.from_bytes(rdata[at + 2 : at + 4], "big")
        parameters.append((int.from_bytes(rdata[at : at + 2], "big"), rdata[at + 4 : at + 4 + length]))
        at += 4 + length
    return target if target.endswith(b"\0") else b"\0", parameters


def address_text(packed: bytes) -> str:
    """The address as a person reads it."""
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))
