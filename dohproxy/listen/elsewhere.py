"""Where else what is served over TCP is served as well, and is told to be: over HTTP/3 (RFC 7838)."""

from __future__ import annotations

from dohproxy.config.settings import Endpoint, Listen
from dohproxy.protocol.alt_svc import http3_at

_ALL = {False: "0.0.0.0", True: "::"}
"""Every address of this machine: IPv4, and IPv6."""


def elsewhere(address: str, port: int, listen: Listen) -> bytes:
    """The Alt-Svc of a listener by TCP there: the same port, if HTTP/3 has it at that address, or another; else b"".

    Clients that come by way of a balancer, which tells for whom (`proxy_protocol`), know ports of its own.
    """
    if listen.proxy_protocol:
        return b""
    ports = [endpoint.port for endpoint in listen.doh3 if endpoint.port and _covers(endpoint, address)]
    if not ports:
        return b""
    return http3_at(port if port in ports else ports[0])


def _covers(endpoint: Endpoint, address: str) -> bool:
    return endpoint.address in (address, _ALL[":" in address])
