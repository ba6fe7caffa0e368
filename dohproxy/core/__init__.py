"""The hit path below the listeners: replays finished replies, compiled where the build could compile it.

The environment variable DOHPROXY_CORE chooses: `compiled` (an error if it is not there), `pure`, or `off`, where nothing is
replayed and every query takes the whole way. Unset, it is compiled if that is there.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from os import environ
from types import ModuleType
from typing import Protocol

from dohproxy.core import pure
from dohproxy.core.finished import Finished
from dohproxy.core.pure import Counts, Failed, Groups, Miss, Recall, Tell
from dohproxy.model import Peer, Transport


def _chosen(wish: str) -> ModuleType | None:
    """The compiled core, if it is wanted and there."""
    if wish not in ("", "compiled"):
        return None
    try:
        from dohproxy.core import _compiled  # noqa: PLC0415 -- it may not be there
    except ImportError:
        if wish:
            raise
        return None
    return _compiled


_wish = environ.get("DOHPROXY_CORE", "")
_compiled = _chosen(_wish)
KIND = "off" if _wish == "off" else "pure" if _compiled is None else "compiled"
"""Which core there is: compiled | pure | off"""


class Recaller(Protocol):
    """See `pure.Recaller`."""

    now: Callable[[], float]
    secured: list[int]

    def use(self, groups: Groups, find: Callable[[bytes], Finished | None], payload_size: int) -> None:
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


def datagrams(sock: socket.socket, recall: Recall, counts: Counts, wildcard: bool) -> Datagrams:
    """What takes the datagrams of a socket, and answers what `recall` knows."""
    kind = _compiled if _compiled is not None and isinstance(recall, _compiled.Recaller) else pure
    made: Datagrams = kind.Datagrams(sock, recall, counts, wildcard)
    return made
