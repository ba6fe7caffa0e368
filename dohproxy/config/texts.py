"""What a user writes as text and the program uses as a value: addresses, names, records. All raise ValueError."""

from __future__ import annotations

import re
from base64 import b64decode
from ipaddress import ip_address, ip_network

from dohproxy.config.settings import Anchor, Endpoint, LocalRecord, NamePattern, Network
from dohproxy.model import Action, Name
from dohproxy.wire import names
from dohproxy.wire.constants import DNSKEY, DS, OPT
from dohproxy.wire.text import rdata_from_text, type_from_text

LOCAL_TTL = 3600
MAX_WORKERS = 1024
_META_TYPES = range(128, 256)
"""RFC 6895 3.1: types of questions and of messages, which no zone has."""
_OCTETS = re.compile(r"(\d+) *([KMG])i?B?", re.IGNORECASE)


def workers(written: int | str) -> int:
    """A number of processes; 0 for `auto`."""
    if written == "auto":
        return 0
    if not isinstance(written, int) or not 1 <= written <= MAX_WORKERS:
        raise ValueError(f"{written} is no number of processes")
    return written


def address(text: str) -> str:
    """An IP address in its usual form."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f'"{text}" is no IP address') from None


def endpoint(text: str) -> Endpoint:
    """`127.0.0.1:53` or `[::1]:53`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f'"{text}" has no port from 0 to 65535')
    bracketed = host.startswith("[") and host.endswith("]")
    if ":" in host and not bracketed:
        raise ValueError(f'"{text}": an IPv6 address needs brackets')
    return Endpoint(address(host[1:-1] if bracketed else host), int(port))


def network(text: str) -> Network:
    """A prefix such as `10.1.0.0/16`, or one address."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'"{text}" is no IP network') from None
    raise ValueError(f'"{text}" has bits set beyond its prefix: the network is {meant}')


def domain(text: str) -> Name:
    """A domain name."""
    return names.from_text(text)


def octets(size: int | str) -> int:
    """A size: a number, or text such as `128 MiB` (K, M and G are powers of 1024)."""
    if isinstance(size, int):
        if size < 0:
            raise ValueError(f"{size} is negative")
        return size
    match = _OCTETS.fullmatch(size.strip())
    if not match:
        raise ValueError(f'"{size}" is no size')
    return int(match[1]) << {"K": 10, "M": 20, "G": 30}[match[2].upper()]


def path(text: str) -> str:
    """The path of a URL."""
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or set(text) & set(" ?#{}"):
        raise ValueError(f'"{text}" is no path')
    return text


def pin(text: str) -> bytes:
    """`sha256/` and a digest in base64."""
    kind, _, encoded = text.partition("/")
    try:
        digest = b64decode(encoded, validate=True)
    except ValueError:
        digest = b""
    if kind != "sha256" or len(digest) != 32:
        raise ValueError(f'"{text}" is no SHA-256 digest')
    return digest


def base64(text: str) -> bytes:
    """Octets in base64 (RFC 4648 4)."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise ValueError(f'"{text}" is no base64') from None


def is_address(host: str) -> bool:
    """Whether it is an IP address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def action(text: str) -> Action:
    """A policy action; `block` is another word for `nxdomain`."""
    return Action.NXDOMAIN if text == "block" else Action(text)


def rule(text: str) -> str:
    """A policy rule, as it is: a name, `*.name`, `.name` or `*`, and perhaps types."""
    words = text.replace(",", " ").split()
    if not words:
        raise ValueError("the rule is empty")
    name = words[0].removeprefix("*" if words[0] == "*" else "*." if words[0].startswith("*.") else ".") or "."
    names.from_text(name)
    if "*" in name:
        raise ValueError(f'"{text}" has an asterisk that is not its leftmost label')
    for word in words[1:]:
        type_from_text(word)
    return text


def name_pattern(text: str) -> NamePattern:
    """`name`, `*.name` or `.name`; not all names at once."""
    below, itself = text.startswith(("*.", ".")), not text.startswith("*.")
    name = names.from_text(text.removeprefix("*.").removeprefix(".") if below else text)
    if name == names.ROOT or b"\1*" in name:
        raise ValueError(f'"{text}" is not one name, nor what is below one')
    return NamePattern(name, itself, below)


def record(text: str) -> LocalRecord:
    """A record of class IN in presentation form (RFC 1035 5.1); TTL and class may be missing."""
    words, ttl, at = text.split(), LOCAL_TTL, 1
    while at < len(words) and (words[at].isdecimal() or words[at].upper() == "IN"):
        if words[at].isdecimal():
            ttl = int(words[at])
        at += 1
    if at + 1 >= len(words):
        raise ValueError(f'"{text}" is no record')
    if ttl >= 1 << 31:
        raise ValueError(f'"{text}" has a TTL over 2147483647 (RFC 2181 8)')
    rdtype = type_from_text(words[at])
    if rdtype in _META_TYPES or rdtype == OPT:
        raise ValueError(f'"{text}": {words[at]} is no type that a record can have')
    return LocalRecord(names.from_text(words[0]), rdtype, ttl, rdata_from_text(rdtype, text.split(None, at + 1)[-1]))


def trust_anchor(text: str) -> Anchor:
    """A DS or DNSKEY record in presentation form."""
    found = record(text)
    if found.rdtype not in (DS, DNSKEY):
        raise ValueError(f'"{text}" is neither a DS nor a DNSKEY record')
    return Anchor(found.owner, found.rdtype, found.rdata)
