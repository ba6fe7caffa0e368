"""How long a connection may be idle, told to clients that ask (edns-tcp-keepalive, RFC 7828)."""

from __future__ import annotations

from typing import Final

from dohproxy.wire import constants as c
from dohproxy.wire.options import option_untrusted, with_option

_OPTION: Final = c.OPTION_TCP_KEEPALIVE.to_bytes(2)
_LONGEST: Final = 0xFFFF


def wants_keepalive(query: bytes) -> bool:
    """Whether this query asks for it: by the option without a time, which is ours to tell (RFC 7828 3.2.1)."""
    return _OPTION in query and option_untrusted(query, c.OPTION_TCP_KEEPALIVE) == b""


def with_keepalive(reply: bytes, idle: float) -> bytes:
    """A reply of ours, whose last record is OPT, that tells so many seconds, in tenths of them; any other as it is."""
    return with_option(reply, c.OPTION_TCP_KEEPALIVE, min(int(idle * 10), _LONGEST).to_bytes(2))
