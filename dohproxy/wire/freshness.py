"""For how long a reply may be kept by who does not look into it: HTTP caches (RFC 8484 5.1)."""

from __future__ import annotations

from struct import Struct
from typing import Final

from dohproxy.wire import constants as c
from dohproxy.wire.rdata import read_name

_HEAD: Final = Struct("!xxBBHHH").unpack_from
_RECORD: Final = Struct("!xxxxIH").unpack_from
_TC: Final = c.TC >> 8


def freshness(reply: bytes) -> int | None:
    """The least TTL of a reply of ours, in seconds: of the answer, and of the SOA that a negative one has (RFC 2308 5).

    None where there is nothing to keep: an error, a truncated reply, one without records.
    """
    high, low, questions, answers, authorities = _HEAD(reply)
    if high & _TC or low & c.RCODE_MASK not in (c.NOERROR, c.NXDOMAIN) or not answers + authorities:
        return None
    at, least = c.HEADER_SIZE, 0x7FFFFFFF
    for _ in range(questions):
        at = _after_name(reply, at) + 4
    for _ in range(answers + authorities):
        at = _after_name(reply, at)
        ttl, size = _RECORD(reply, at)
        least = min(least, ttl)
        at += 10 + size
    return least


def _after_name(reply: bytes, at: int) -> int:
    return at + 2 if reply[at] >= 0xC0 else read_name(reply, at)[1]
