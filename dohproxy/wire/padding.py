"""Padding of replies (RFC 7830, RFC 8467): whoever watches an encrypted connection should not tell answers by their sizes."""

from __future__ import annotations

from typing import Final

from dohproxy.wire import constants as c
from dohproxy.wire.options import option_untrusted, with_option

BLOCK: Final = 468
"""Octets: the lengths of padded replies are multiples of this (RFC 8467 4.1)."""

_OPTION: Final = c.OPTION_PADDING.to_bytes(2)


def wants_padding(query: bytes) -> bool:
    """Whether this query has the padding option: only then may the reply (RFC 7830 4)."""
    return _OPTION in query and option_untrusted(query, c.OPTION_PADDING) is not None


def padded(reply: bytes, block: int = BLOCK) -> bytes:
    """A reply of ours, whose last record is OPT, filled up to a multiple of `block` octets; any other as it is."""
    return with_option(reply, c.OPTION_PADDING, bytes(-(len(reply) + 4) % block))
