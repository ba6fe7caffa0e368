"""EDNS options that come after an answer is finished: found in a query, put into the OPT record of a reply of ours."""

from __future__ import annotations

from struct import Struct
from typing import Final

from dohproxy.errors import MalformedMessage
from dohproxy.wire import constants as c
from dohproxy.wire.rdata import read_name
from dohproxy.wire.request import parse_request_untrusted

_COUNTS: Final = Struct("!4H").unpack_from
_RECORD: Final = Struct("!HHIH").unpack_from
_OPTION: Final = Struct("!HH").pack


def option_untrusted(query: bytes, code: int) -> bytes | None:
    """The data of the first such option of a query; None where there is none. What cannot be parsed is answered for that."""
    try:
        edns = parse_request_untrusted(query).edns
    except MalformedMessage:
        return None
    return next((data for option, data in edns.options if option == code), None) if edns is not None else None


def with_option(reply: bytes, code: int, data: bytes) -> bytes:
    """A reply of ours, whose last record is OPT, with this option behind all others; any other, or one too long, as it is."""
    at = _opt_at(reply)
    if at is None or len(reply) + 4 + len(data) > c.MAX_MESSAGE:
        return reply
    size_at = at + 9
    size = int.from_bytes(reply[size_at : size_at + 2]) + 4 + len(data)
    return b"".join((reply[:size_at], size.to_bytes(2), reply[size_at + 2 :], _OPTION(code, len(data)), data))


def _opt_at(reply: bytes) -> int | None:
    """Where the OPT record begins that is the only additional record, and so the last; None if there is none."""
    questions, answers, authorities, additionals = _COUNTS(reply, 4)
    if additionals != 1:
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
