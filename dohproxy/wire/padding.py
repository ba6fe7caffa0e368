"""Padding of replies (RFC 7830, RFC 8467): whoever watches an encrypted connection should not tell answers by their sizes."""

from __future__ import annotations

from struct import Struct
from typing import Final

from dohproxy.errors import MalformedMessage
from dohproxy.wire import constants as c
from dohproxy.wire.rdata import read_name
from dohproxy.wire.request import parse_request_untrusted

BLOCK: Final = 468
"""Octets: the lengths of padded replies are multiples of this (RFC 8467 4.1)."""

_OPTION: Final = c.OPTION_PADDING.to_bytes(2)
_COUNTS: Final = Struct("!4H").unpack_from
_RECORD: Final = Struct("!HHIH").unpack_from


def wants_padding(query: bytes) -> bool:
    """Whether this query has the padding option: only then may the reply (RFC 7830 4)."""
    if _OPTION not in query:
        return False
    try:
        edns = parse_request_untrusted(query).edns
    except MalformedMessage:
        return False
    return edns is not None and any(code == c.OPTION_PADDING for code, _ in edns.options)


def padded(reply: bytes, block: int = BLOCK) -> bytes:
    """A reply of ours, whose last record is OPT, filled up to a multiple of `block` octets; any other as it is."""
    at = _opt_at(reply)
    missing = -(len(reply) + 4) % block
    if at is None or len(reply) + 4 + missing > c.MAX_MESSAGE:
        return reply
    size_at = at + 9
    size = int.from_bytes(reply[size_at : size_at + 2]) + 4 + missing
    option = _OPTION + missing.to_bytes(2) + bytes(missing)
    return b"".join((reply[:size_at], size.to_bytes(2), reply[size_at + 2 :], option))


def _opt_at(reply: bytes) -> int | None:
    """Where the OPT record begins that is the only additional record, and so the last; None if there is none."""
    questions, answers, authorities, additionals = _COUNTS(reply, 4)
    if not additionals:
        return None
    at = c.HEADER_SIZE
    for _ in range(questions):
        at = _after_name(reply, at) + 4
    for _ in range(answers + authorities):
        at = _after_name(reply, at)
        at += 10 + _RECORD(reply, at)[3]
    return at if reply[at : at + 3] == b"\0\0\x29" else None


def _after_name(reply: bytes, at: int) -> int:
    return at + 2 if reply[at] >= 0xC0 else read_name(reply, at)[1]
