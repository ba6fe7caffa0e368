"""The names that no question about should leave the proxy: IANA's registries of special-use names and locally served zones."""

from __future__ import annotations

from enum import Enum

from dohproxy.model import Name
from dohproxy.wire import names


class Treatment(Enum):
    """How the names of a special zone are answered."""

    ABSENT = "absent"
    """None of them exists, the topmost included."""
    EMPTY = "empty"
    """A zone with nothing but an SOA and NS at its apex (RFC 6303 3). It is delegated, insecurely, in the public DNS: its
    DS is asked for there, so that validating clients get their proof."""
    LOOPBACK = "loopback"
    """All are this host (RFC 6761 6.3)."""


_ABSENT = (
    "invalid",  # RFC 6761 6.4
    "test",  # RFC 6761 6.2
    "onion",  # RFC 7686 2
    "local",  # RFC 6762 22.1: asked for by multicast
    "alt",  # RFC 9476: not of the DNS
    "use-application-dns.net",  # browsers then leave DNS to the system, and so to our policy
)

_EMPTY = (
    "home.arpa",  # RFC 8375
    "resolver.arpa",  # RFC 9462 6.4: what we designate, if anything, are records of our own (designations.py)
    # RFC 6303 4.1-4.2
    "10.in-addr.arpa",
    *(f"{octet}.172.in-addr.arpa" for octet in range(16, 32)),
    "168.192.in-addr.arpa",
    "0.in-addr.arpa",
    "127.in-addr.arpa",
    "254.169.in-addr.arpa",
    "2.0.192.in-addr.arpa",
    "100.51.198.in-addr.arpa",
    "113.0.203.in-addr.arpa",
    "255.255.255.255.in-addr.arpa",
    *(f"{octet}.100.in-addr.arpa" for octet in range(64, 128)),  # RFC 7793
    # RFC 6303 4.3-4.6
    "0." * 32 + "ip6.arpa",
    "1." + "0." * 31 + "ip6.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
)

SPECIAL_ZONES: dict[Name, Treatment] = {
    names.from_text("localhost"): Treatment.LOOPBACK,
    **{names.from_text(text): Treatment.ABSENT for text in _ABSENT},
    **{names.from_text(text): Treatment.EMPTY for text in _EMPTY},
}
"""The topmost name of each, and how it and all below are answered."""

LOOPBACK_NAMES = tuple(map(names.from_text, ("1.0.0.127.in-addr.arpa", "1." + "0." * 31 + "ip6.arpa")))
"""Those whose PTR is localhost."""

EXISTING = frozenset({names.from_text("_dns.resolver.arpa")})
"""Names in empty zones that exist and have no records (RFC 9462 4)."""
