"""How an upstream is written: a URL, a URI template of DoH (RFC 8484 4.1.1), or a DNS stamp. All raise ValueError."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from msgspec import Struct

from dohproxy.config.stamps import SCHEME, Properties, Protocol, Stamp, decode_stamp_untrusted
from dohproxy.config.texts import is_address
from dohproxy.errors import MalformedMessage
from dohproxy.wire import names

DEFAULT_PORTS = {"tls": 853, "https": 443, "h3": 443, "quic": 853, "udp": 53, "tcp": 53, "ddr": 53}
_OF_HTTP = ("https", "h3")
_SCHEMES = {
    Protocol.PLAIN: "udp",
    Protocol.DOH: "https",
    Protocol.DOT: "tls",
    Protocol.DOQ: "quic",
    Protocol.ODOH_TARGET: "https",
    Protocol.ODOH_RELAY: "https",
}
_ROLES = {Protocol.ODOH_TARGET: "target", Protocol.ODOH_RELAY: "relay"}
_EXPRESSION = re.compile(r"\{[^{}]*\}")
_VARIABLES = re.compile(r"\{([?&]?)([a-z]+(?:,[a-z]+)*)\}\Z")
_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
"""Path and query (RFC 3986 3.3, 3.4)."""


class Url(Struct, frozen=True):
    """The parts of an upstream's URL or stamp; the host in lower case, as an A-label, without brackets."""

    text: str
    scheme: str
    host: str
    port: int
    path: str = ""
    """With the query, and as the template is without a DNS message: as POST has it."""
    addresses: tuple[str, ...] = ()
    """Of a stamp."""
    tbs_pins: tuple[bytes, ...] = ()
    """Of a stamp: digests of TBSCertificates."""
    role: str = ""
    """target | relay: of a stamp for Oblivious DoH; "" for all others."""
    dnssec: bool = True
    """Whether the stamp does not deny that the server has DNSSEC records."""


def url(text: str) -> Url:
    """Where an upstream is, of any kind but a relay."""
    found = _of_stamp(text) if text.startswith(SCHEME) else _of_url(text)
    if found.role == "relay":
        raise ValueError(f'"{text}" is an Oblivious DoH relay, which belongs into relay = "…"')
    return found


def relay(text: str) -> Url:
    """Where a relay of Oblivious DoH is."""
    found = _of_stamp(text) if text.startswith(SCHEME) else _of_url(text, "/")
    if found.scheme != "https" or found.role == "target" or (text.startswith(SCHEME) and not found.role):
        raise ValueError(f'"{text}" is no relay of Oblivious DoH')
    return found


def _of_url(text: str, default_path: str = "/dns-query") -> Url:
    plain, after = _without_template(text)
    try:
        parts = urlsplit(plain)
        port = parts.port
    except ValueError as error:
        raise ValueError(f'"{text}" is no URL: {error}') from None
    scheme = parts.scheme
    if scheme not in DEFAULT_PORTS:
        raise ValueError(f'"{text}" has no scheme that is known' if "://" in text else f'"{text}" is no URL')
    if parts.username is not None or parts.fragment:
        raise ValueError(f'"{text}" has a user or fragment, which mean nothing here')
    if port == 0:
        raise ValueError(f'"{text}" has port 0')
    host = _host(parts.hostname or "", text)
    if scheme == "ddr" and not is_address(host):
        raise ValueError(f'"{text}": designated resolvers are asked for at an IP address (RFC 9462 4)')
    path = _path(text, parts, after, default_path) if scheme in _OF_HTTP else _no_path(text, parts, after)
    return Url(text, scheme, host, port or DEFAULT_PORTS[scheme], path)


def _without_template(text: str) -> tuple[str, str]:
    """The URL that the template gives without a DNS message, and how the message follows it: `?`, `&` or "" (RFC 6570)."""
    match = _VARIABLES.search(text)
    plain = text[: match.start()] if match else text
    if _EXPRESSION.search(plain) or set(plain) & set("{}") or (match and (not match[1] or match[2] != "dns")):
        raise ValueError(f'"{text}": a template may end with {{?dns}}, or with {{&dns}} after a query, and have nothing else')
    return plain, match[1] if match else ""


def _no_path(text: str, parts: SplitResult, after: str) -> str:
    if parts.path not in ("", "/") or parts.query or after:
        raise ValueError(f'"{text}" has a path or query, which only https:// and h3:// have')
    return ""


def _path(text: str, parts: SplitResult, after: str, default: str) -> str:
    path = (parts.path or default) + (f"?{parts.query}" if parts.query else "")
    if after and (after == "&") != bool(parts.query):
        raise ValueError(f'"{text}": the template is {{&dns}} after a query, and else {{?dns}}')
    if not _PATH.fullmatch(path):
        raise ValueError(f'"{text}" has characters that must be percent-encoded in a URL (RFC 3986 2.1)')
    if any(name == "dns" for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise ValueError(f'"{text}" has "dns" in its query already')
    return path


def _host(host: str, text: str) -> str:
    """An IP address, or a name as an A-label (RFC 5890 2.3.2.1), for certificates and SNI have no other."""
    if not host:
        raise ValueError(f'"{text}" names no host')
    if is_address(host):
        return host
    try:
        found = names.to_text(names.from_text(host)).removesuffix(".")
    except ValueError as error:
        raise ValueError(f'"{text}": {error}') from None
    if not found or "\\" in found:
        raise ValueError(f'"{text}": "{host}" is the name of no host')
    return found


def _of_stamp(text: str) -> Url:
    try:
        stamp = decode_stamp_untrusted(text)
    except MalformedMessage as error:
        raise ValueError(f'"{text}" is no DNS stamp: {error}') from None
    if stamp.protocol not in _SCHEMES:
        raise ValueError(f'"{text}" is a stamp of DNSCrypt, which is not spoken here')
    scheme = _SCHEMES[stamp.protocol]
    host = _host(stamp.host or stamp.address, text)
    if scheme == "https" and not _PATH.fullmatch(stamp.path):
        raise ValueError(f'"{text}" is no DNS stamp: its path "{stamp.path}" is none')
    return Url(
        text,
        scheme,
        host,
        stamp.port or DEFAULT_PORTS[scheme],
        stamp.path,
        (stamp.address,) if stamp.address else (),
        stamp.hashes,
        _ROLES.get(stamp.protocol, ""),
        _has_dnssec(stamp),
    )


def _has_dnssec(stamp: Stamp) -> bool:
    """Targets and relays tell of themselves, and not of the resolver behind them."""
    return stamp.protocol in _ROLES or Properties.DNSSEC in stamp.properties
