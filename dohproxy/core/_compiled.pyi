import socket
from collections.abc import Callable

from dohproxy.core.finished import Finished
from dohproxy.core.pure import Counts, Failed, Groups, Limit, Miss, Tell
from dohproxy.model import Peer, Transport

class Recaller:
    now: Callable[[], float]
    secured: list[int]
    def __init__(self, now: Callable[[], float], tell: Tell, tell_all: bool = False, failed: Failed = ...) -> None: ...
    def use(self, groups: Groups, find: Callable[[bytes], Finished | None], payload_size: int) -> None: ...
    def __call__(self, wire: bytes, peer: Peer, transport: Transport, now: float | None = None) -> bytes | None: ...

class Datagrams:
    def __init__(
        self, socket: socket.socket, recall: Recaller, counters: Counts, wildcard: bool, limit: Limit | None = None
    ) -> None: ...
    def take(self) -> list[Miss]: ...
    def send(self, replies: list[tuple[bytes, bytes]]) -> None: ...
