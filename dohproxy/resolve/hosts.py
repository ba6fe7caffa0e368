"""Hosts files: addresses and the names that the operator gives them (hosts(5))."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from msgspec import Struct

from dohproxy.errors import BadName, ConfigError, Problem
from dohproxy.model import Name
from dohproxy.wire import names


class Host(Struct, frozen=True):
    """A line of a hosts file: the first name is the one that the address is told to have."""

    address: IPv4Address | IPv6Address
    names: tuple[Name, ...]


def read_hosts(file: Path) -> list[Host]:
    """The hosts of a file. Raises ConfigError if it cannot be read, or tells every line that is not of a hosts file."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError((Problem(str(file), 0, "local.hosts", f"cannot be read: {error}"),)) from None
    problems: list[Problem] = []
    found = list(_hosts(text, str(file), problems))
    if problems:
        raise ConfigError(tuple(problems))
    return found


def _hosts(text: str, file: str, problems: list[Problem]) -> Iterator[Host]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words or "%" in words[0]:  # an address with a zone means something on one host alone
            continue
        try:
            yield Host(ip_address(words[0]), tuple(map(names.from_text, words[1:])))
        except (ValueError, BadName) as error:
            problems.append(Problem(file, number, "local.hosts", str(error), "an address and names"))


def reverse_name(address: IPv4Address | IPv6Address) -> Name:
    """The name whose PTR tells the name of an address (RFC 1035 3.5, RFC 3596 2.5)."""
    return names.from_text(address.reverse_pointer)
