"""What clients are told of our encrypted listeners: the SVCB records of RFC 9462, as RFC 9461 has them for DNS servers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from struct import pack

from dohproxy.config.settings import Ddr, Encrypted, Endpoint, Listen, LocalRecord
from dohproxy.wire import names
from dohproxy.wire.constants import SVCB

RESOLVER = names.from_text("_dns.resolver.arpa")
"""What clients ask for that know a resolver by its address alone (RFC 9462 4)."""
TTL = 300
"""Seconds: listeners change with the configuration."""
_ALPN, _PORT, _IPV4HINT, _IPV6HINT, _DOHPATH = 1, 3, 4, 6, 7
"""SvcParamKeys (RFC 9460 14.3.2, RFC 9461 5)."""
_ALPNS: dict[Encrypted, bytes] = {"dot": b"dot", "doh": b"h2", "doh3": b"h3", "doq": b"doq"}
_BY_HTTP = ("doh", "doh3")


def designations(ddr: Ddr, listen: Listen) -> tuple[LocalRecord, ...]:
    """The records of `_dns.resolver.arpa` and of `_dns` below our name, which are the same: one for each kind and port."""
    rdatas = [
        pack("!H", priority) + ddr.name + _parameters(kind, port, addresses, listen.doh_path)
        for priority, (kind, port, addresses) in enumerate(_services(ddr, listen), 1)
    ]
    return tuple(LocalRecord(owner, SVCB, TTL, rdata) for owner in (RESOLVER, b"\4_dns" + ddr.name) for rdata in rdatas)


def _services(ddr: Ddr, listen: Listen) -> Iterator[tuple[Encrypted, int, tuple[str, ...]]]:
    """Each kind of listener and its port, and the addresses where it is reached, the preferred first."""
    for kind in ddr.order:
        endpoints: tuple[Endpoint, ...] = getattr(listen, kind)
        for port in dict.fromkeys(endpoint.port for endpoint in endpoints if endpoint.port):
            yield kind, port, ddr.addresses or tuple(_reached(endpoint for endpoint in endpoints if endpoint.port == port))


def _reached(endpoints: Iterable[Endpoint]) -> Iterator[str]:
    """The addresses that others can reach by their text: neither all of a family, nor those of one link."""
    for endpoint in endpoints:
        if "%" not in endpoint.address and not ip_address(endpoint.address).is_unspecified:
            yield endpoint.address


def _parameters(kind: Encrypted, port: int, addresses: tuple[str, ...], path: str) -> bytes:
    """The SvcParams in the order of their keys (RFC 9460 2.2)."""
    alpn = _ALPNS[kind]
    hints = [ip_address(address) for address in dict.fromkeys(addresses)]
    values = {
        _ALPN: bytes([len(alpn)]) + alpn,
        _PORT: pack("!H", port),
        _IPV4HINT: b"".join(hint.packed for hint in hints if hint.version == 4),
        _IPV6HINT: b"".join(hint.packed for hint in hints if hint.version == 6),
        _DOHPATH: f"{path}{{?dns}}".encode() if kind in _BY_HTTP else b"",
    }
    return b"".join(pack("!HH", key, len(value)) + value for key, value in values.items() if value)
