"""Queries as they go to upstreams."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from dohproxy.model import Question
from dohproxy.wire import constants as c
from dohproxy.wire.request import opt_record

_HEADER: Final = struct.Struct("!6H").pack
_TYPE_CLASS: Final = struct.Struct("!HH").pack
_OPT_SIZE: Final = 11
_OPTION_HEADER: Final = 4


def build_query(
    question: Question,
    id: int,
    *,
    cd: bool,
    do: bool = True,
    rd: bool = True,
    pad_to: int = 128,
    payload_size: int = c.PAYLOAD_SIZE,
) -> bytes:
    """A query with EDNS, without a client subnet; padded to a multiple of `pad_to` octets (RFC 8467 4.1), 0 for not."""
    qname = question.qname
    unpadded = c.HEADER_SIZE + len(qname) + 4 + _OPT_SIZE
    padding = -1 if not pad_to else -(unpadded + _OPTION_HEADER) % pad_to
    return (
        _HEADER(id, (c.RD if rd else 0) | (c.CD if cd else 0), 1, 0, 0, 1)
        + qname
        + _TYPE_CLASS(question.qtype, question.qclass)
        + _opt(payload_size, do, padding)
    )


@lru_cache(maxsize=1024)
def _opt(payload_size: int, do: bool, padding: int) -> bytes:
    """The OPT record with that many octets of padding (RFC 7830); -1 is without the option."""
    options = b"" if padding < 0 else _TYPE_CLASS(c.OPTION_PADDING, padding) + bytes(padding)
    return opt_record(payload_size, do=do, options=options)
