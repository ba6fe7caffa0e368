"""Alt-Svc: where else, and how, a server says that it can be reached (RFC 7838)."""

from __future__ import annotations

import re

from msgspec import Struct

_ENTRY = re.compile(
    r'\s*(?P<protocol>[^\s=;,"]+)="(?P<host>[^":]*|\[[^\]"]*\]):(?P<port>\d{1,5})"(?P<parameters>(?:\s*;[^,]*)?)'
)
_MAX_AGE = re.compile(r";\s*ma=(\d{1,10})")
_FRESH = 86400.0
"""Seconds, unless `ma` says otherwise (RFC 7838 3.1)."""


class Alternative(Struct, frozen=True):
    """HTTP/3 at a port of the same host, for so many seconds."""

    port: int
    seconds: float


def http3_at(port: int) -> bytes:
    """The header field that says so of a port of the same host, for a day."""
    return b'h3=":%d"; ma=%d' % (port, _FRESH)


def http3_untrusted(value: bytes, host: str) -> Alternative | None:
    """The first way over HTTP/3 to the same host in the header field; None where there is none, or none any more."""
    for entry in value.decode("latin-1").split(","):
        found = _ENTRY.fullmatch(entry.rstrip())
        if found is None or found["protocol"] != "h3" or found["host"].strip("[]").lower() not in ("", host.lower()):
            continue
        age = _MAX_AGE.search(found["parameters"])
        port, seconds = int(found["port"]), float(age[1]) if age else _FRESH
        if 0 < port < 65536 and seconds > 0:
            return Alternative(port, seconds)
    return None
