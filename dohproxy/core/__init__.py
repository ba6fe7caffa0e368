"""The hit path below the listeners: replays finished replies, compiled where the build could compile it.

What DOHPROXY_CORE says of it is told in `dohproxy.wire.choice`; with `off` every query takes the whole way.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from dohproxy.core import pure
from dohproxy.core.pure import Counts, Failed, Groups, Kept, Limit, Miss, Recall, Tell
from dohproxy.model import Peer, Transport
from dohproxy.wire.choice import WISH, compiled_part

_compiled = compiled_part(__name__)
KIND = "off" if WISH == "off" else "pure" if _compiled is None else "compiled"
"""Which core there is: compiled | pure | off"""


class Recaller(Protocol):
    """See `pure.Recaller`."""

    now: Callable[[], float]
    secured: list[int]

    def use(self, groups: Groups, find: Callable[[bytes], Kept | None], payload_size: int) -> None:
        """Replay from these, from now on."""
        ...

    def __call__(self, wire: bytes, peer: Peer, transport: Transport, now: float | None = None) -> bytes | None:
        """The finished reply, if one is at hand."""
        ...


class Datagrams(Protocol):
    """See `pure.Datagrams`."""

    def take(self) -> list[Miss]:
        """Take a batch of queries, answer what is at hand; the others."""
        ...

    def send(self, replies: list[tuple[bytes, bytes]]) -> None:
        """Send replies, each to the origin of its query."""
        ...


class _Oblivious(pure.Recaller):
    """Knows nothing."""

    def __call__(self, wire: bytes, peer: Peer, transport: Transport, now: float | None = None) -> None:
        """None."""


def recaller(now: Callable[[], float], tell: Tell, tell_all: bool = False, failed: Failed = lambda _: None) -> Recaller:
    """What replays finished replies."""
    if KIND == "off":
        return _Oblivious(now, tell)
    made: Recaller = (_compiled or pure).Recaller(now, tell, tell_all, failed)
    return made


def datagrams(sock: socket.socket, recall: Recall, counts: Counts, wildcard: bool, limit: Limit | None = None) -> Datagrams:
    """What takes the datagrams of a socket, and answers what `recall` knows."""
    kind = _compiled if _compiled is not None and isinstance(recall, _compiled.Recaller) else pure
    made: Datagrams = kind.Datagrams(sock, recall, counts, wildcard, limit)
    return made
