"""Identities of clients as text: what may be one, and what may stand for several (the SPIFFE-ID standard, 2)."""

from __future__ import annotations

import re

SCHEME = "spiffe://"
MAX_ID = 2048
"""Octets (SPIFFE-ID 2.3)."""
MAX_TRUST_DOMAIN = 255
_TRUST_DOMAIN = re.compile(r"[a-z0-9._-]+", re.ASCII)
DNS_NAME = re.compile(r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", re.ASCII)
"""A name in a certificate, in lower case; it may stand for others itself."""
_DNS, _BELOW, _SUBJECT = "dns:", "dns:*.", "subject:"
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


def check_trust_domain(text: str) -> str:
    """The name of a trust domain, such as `prod.example`; raises ValueError, in words, if it is none (SPIFFE-ID 2.1)."""
    if not _TRUST_DOMAIN.fullmatch(text):
        raise ValueError(f'"{text}" is no trust domain: those are of a-z, 0-9, ".", "-" and "_"')
    if len(text) > MAX_TRUST_DOMAIN:
        raise ValueError(f"a trust domain has at most {MAX_TRUST_DOMAIN} octets")
    return text


def trust_domain_of(spiffe_id: str) -> str:
    """The trust domain of a workload's SPIFFE ID; raises ValueError, in words, if it is none (SPIFFE-ID 2, X509-SVID 3.1)."""
    domain, path = _split(spiffe_id)
    if not path:
        raise ValueError(f'"{spiffe_id}" is no workload: it has no path')
    for segment in path.split("/"):
        _check_segment(segment)
    return domain


def check_pattern(text: str) -> str:
    """A SPIFFE ID, or the beginning of some with a final `*` for what follows; raises ValueError, in words."""
    if not text.endswith("*"):
        trust_domain_of(text)
        return text
    _, path = _split(text[:-1], whole=False)
    *whole, begun = path.split("/")
    for segment in whole:
        _check_segment(segment)
    if begun:
        _check_segment(begun, whole=False)
    return text


def _split(text: str, *, whole: bool = True) -> tuple[str, str]:
    """The trust domain and the path without its first slash."""
    if not text.startswith(SCHEME):
        raise ValueError(f'"{text}" does not begin with {SCHEME}')
    if len(text) > MAX_ID:
        raise ValueError(f"a SPIFFE ID has at most {MAX_ID} octets")
    domain, slash, path = text.removeprefix(SCHEME).partition("/")
    check_trust_domain(domain)
    if not whole and not slash:
        raise ValueError(f'"{text}*" would mean trust domains of others: a "/" comes before the "*"')
    return domain, path


def _check_segment(text: str, *, whole: bool = True) -> None:
    if not _SEGMENT.fullmatch(text):
        raise ValueError(f'"{text}" is no part of a path: those are of letters, digits, ".", "-" and "_"')
    if whole and text in {".", ".."}:
        raise ValueError(f'a path has no "{text}"')


def check_identity(text: str) -> str:
    """An identity as a client's certificate has it (see model.Attested); raises ValueError, in words."""
    if text.startswith(SCHEME):
        trust_domain_of(text)
        return text
    return _check_other(text)


def check_other_pattern(text: str) -> str:
    """An identity that is no SPIFFE ID, or `dns:*.` and a name for all below it; raises ValueError, in words."""
    head, star, rest = text.partition(_BELOW)
    if star and not head:
        return _BELOW + _check_other(_DNS + rest).removeprefix(_DNS)
    return _check_other(text)


def _check_other(text: str) -> str:
    if text.startswith(_DNS):
        name = text.removeprefix(_DNS).lower().removesuffix(".")
        if not DNS_NAME.fullmatch(name):
            raise ValueError(f'"{text}" has no DNS name')
        return _DNS + name
    if not text.startswith(_SUBJECT) or not text.removeprefix(_SUBJECT):
        raise ValueError(f'"{text}" is no identity of a certificate')
    return text
