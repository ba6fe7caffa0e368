"""The resolvers that the network told this machine of, by DHCP or router advertisements, as its configurer wrote them down."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

SOURCES = (
    "run/systemd/resolve/resolv.conf",
    "run/NetworkManager/no-stub-resolv.conf",
    "run/NetworkManager/resolv.conf",
    "var/lib/NetworkManager/*.lease",
    "var/lib/dhcp/dhclient*.leases",
    "var/lib/dhclient/*.lease*",
    "etc/resolv.conf",
)
"""Patterns of files below the root directory; the first that tells of any resolver counts."""

_NAMESERVER = re.compile(r"^\s*nameserver\s+(\S+)", re.MULTILINE)
_LEASE = re.compile(r"option\s+(?:domain-name-servers|dhcp6\.name-servers)\s+([^;]+);")


def is_ours(address: str) -> bool:
    """Whether this machine has the address: who answers there does so for us, or is us."""
    if ip_address(address.partition("%")[0]).is_loopback:
        return True
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


def network_resolvers(root: Path = Path("/"), is_ours: Callable[[str], bool] = is_ours) -> tuple[str, ...]:
    """Their addresses, without those of this machine; () if nobody wrote any down."""
    for pattern in SOURCES:
        files = sorted(root.glob(pattern), key=_changed)
        told = [address for file in files[-1:] for address in _addresses(_text(file)) if not is_ours(address)]
        if told:
            return tuple(dict.fromkeys(told))
    return ()


def _changed(file: Path) -> float:
    with suppress(OSError):
        return file.stat().st_mtime
    return 0.0


def _text(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _addresses(text: str) -> Iterator[str]:
    """Those of a resolv.conf(5), or of the last lease of dhclient."""
    leased = _LEASE.findall(text)
    yield from _valid(re.split(r"[,\s]+", leased[-1].strip()) if leased else _NAMESERVER.findall(text))


def _valid(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        with suppress(ValueError):
            ip_address(word.partition("%")[0])
            yield word
