"""The shortest look at a query that finds its finished reply: no name is parsed, no object made but the key."""

from __future__ import annotations

from dohproxy.model import Question
from dohproxy.wire.constants import HEADER_SIZE, MIN_PAYLOAD

_ONE_QUESTION = b"\0\1\0\0\0\0"
_OPT_TYPE = b"\0\0\x29"
_OPT_SIZE = 11


def key_of(question: Question, shape: int) -> bytes | None:
    """The key under which a reply to this question, in requests of this shape, is kept; None if it cannot be kept.

    A label with a zero octet would end the name too soon for `peek_untrusted`.
    """
    if question.qname.find(0) != len(question.qname) - 1:
        return None
    return question.qname + question.qtype.to_bytes(2) + question.qclass.to_bytes(2) + bytes((shape,))


def peek_untrusted(wire: bytes) -> tuple[bytes, int, int] | None:
    """The key of a plain query, the offset where its question's name ends, and the octets that it takes over UDP.

    None for what needs a closer look: then the query is parsed. Whatever is answered here is well-formed, apart from its
    name; a malformed name makes a key that `key_of` never makes, since that ends at its only zero octet.
    """
    if wire[4:10] != _ONE_QUESTION or wire[2] & 0xF8:
        return None
    name_end = wire.find(0, HEADER_SIZE) + 1
    end = name_end + 4
    size = len(wire)
    flags = wire[3]
    shape = (wire[2] & 1) << 4 | (flags & 0x10) >> 4 | (flags & 0x20) >> 2
    limit = MIN_PAYLOAD
    if wire[11]:
        opt = _peek_opt(wire, end, size)
        if opt is None:
            return None
        shape |= opt[0]
        limit = opt[1]
    elif wire[10] or end != size:
        return None
    return wire[HEADER_SIZE:name_end].lower() + wire[name_end:end] + bytes((shape,)), name_end, limit


def _peek_opt(wire: bytes, at: int, size: int) -> tuple[int, int] | None:
    """The shape bits and the payload limit of an OPT record that is the only additional one and ends the message."""
    if wire[10:12] != b"\0\1" or size < at + _OPT_SIZE or wire[at : at + 3] != _OPT_TYPE or wire[at + 6]:
        return None
    end = at + _OPT_SIZE + (wire[at + 9] << 8 | wire[at + 10])
    if end != size:
        return None
    limit = wire[at + 3] << 8 | wire[at + 4]
    do = wire[at + 7] & 0x80
    at += _OPT_SIZE
    while at < end:  # options change nothing in a reply, but must be well-formed
        if end - at < 4:
            return None
        at += 4 + (wire[at + 2] << 8 | wire[at + 3])
    if at != end:
        return None
    return 14 if do else 2, max(limit, MIN_PAYLOAD)
