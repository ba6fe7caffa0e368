"""The shortest look at a query that finds its finished reply: no name is parsed, no object made but the key."""

from __future__ import annotations

from struct import Struct

from dohproxy.model import Question
from dohproxy.wire.constants import DO, HEADER_SIZE, MIN_PAYLOAD, OPT

_ONE_QUESTION = b"\0\1\0\0\0\0"
_OPT_SIZE = 11
_OPT = Struct("!BHHxBHH").unpack_from


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
    head = wire[2:HEADER_SIZE]
    shape = _shapes.get(head) or _shape(head)
    if shape is None:
        return None
    name_end = wire.find(0, HEADER_SIZE) + 1
    end = name_end + 4
    limit = MIN_PAYLOAD
    if head[-1]:
        opt = _peek_opt(wire, end)
        if opt is None:
            return None
        shape, limit = bytes((shape[0] | opt[0],)), opt[1]
    elif end != len(wire):
        return None
    return wire[HEADER_SIZE:name_end].lower() + wire[name_end:end] + shape, name_end, limit


def question_at_hand(wire: bytes) -> Question:
    """The question of a query that a reply was found for, and that is well-formed therefore."""
    end = wire.find(0, HEADER_SIZE) + 1
    return Question(wire[HEADER_SIZE:end].lower(), wire[end] << 8 | wire[end + 1], wire[end + 2] << 8 | wire[end + 3])


_shapes: dict[bytes, bytes] = {}
"""By flags and counts, of those that a plain query may have: there are 4096."""


def _shape(head: bytes) -> bytes | None:
    """What flags and counts contribute to the shape; None if this is not a plain query's header."""
    if len(head) < 10 or head[0] & 0xF8 or head[2:8] != _ONE_QUESTION or head[8] or head[9] > 1:
        return None
    shape = _shapes[head] = bytes(((head[0] & 1) << 4 | (head[1] & 0x10) >> 4 | (head[1] & 0x20) >> 2,))
    return shape


def _peek_opt(wire: bytes, at: int) -> tuple[int, int] | None:
    """The shape bits and the payload limit of an OPT record that is the only additional one and ends the message."""
    size = len(wire)
    if size < at + _OPT_SIZE:
        return None
    root, rdtype, limit, version, flags, length = _OPT(wire, at)
    at += _OPT_SIZE
    if root or rdtype != OPT or version or at + length != size:
        return None
    while at + 4 <= size:  # options change nothing in a reply, but must be well-formed
        at += 4 + (wire[at + 2] << 8 | wire[at + 3])
    if at != size:
        return None
    return 14 if flags & DO else 2, max(limit, MIN_PAYLOAD)
