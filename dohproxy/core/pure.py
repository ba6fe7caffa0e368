"""The core in plain Python: takes datagrams, replays finished replies, hands back what it has none for.

It decides nothing. `_compiled.pyx` has the same classes with the same answers, octet for octet.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import lru_cache
from struct import Struct
from typing import Final, Protocol

from dohproxy.core.finished import HEAD, SECURITIES, Finished
from dohproxy.core.mmsg import SLOT, Batch
from dohproxy.model import Peer, Transport
from dohproxy.wire.constants import HEADER_SIZE, MAX_MESSAGE, TC
from dohproxy.wire.peek import peek_untrusted
from dohproxy.wire.reply import shortened

Miss = tuple[bytes, str, bytes]
"""A query, its client's address as text, and its origin: where the reply has to go, as `Datagrams.send` takes it."""
Groups = dict[Peer, tuple[str, bytes] | None]
"""By client: the policy group, and the prefix of its keys; None if the client is not served."""
Kept = Finished | bytes
"""What is found: a reply with what there is to tell of it, or its packed octets alone."""
Tell = Callable[[bytes, Peer, Transport, Kept, int], None]
"""Is told of each hit: the query, the client, the transport, what was replayed, the octets of the reply."""
Failed = Callable[[Exception], None]
"""Is told of each defect that kept a reply from being replayed."""

_UDP: Final = Transport.UDP
_MAX_CLIENTS: Final = 65536
_SHORTEST: Final = HEADER_SIZE + 5
_head = HEAD.unpack_from


class Recall(Protocol):
    """What knows finished replies: a Recaller, or a test's."""

    now: Callable[[], float]
    """Monotonic time in seconds."""

    def __call__(self, wire: bytes, peer: Peer, transport: Transport, now: float | None = None) -> bytes | None:
        """The finished reply, if one is at hand; `now` where the time is known already."""
        ...


Payer = Callable[[int], int]
"""Has one client pay for a query at this monotonic time in nanoseconds: 0 if it may be answered. Raises nothing."""


class Limit(Protocol):
    """What keeps clients from asking too often."""

    @property
    def era(self) -> int:
        """Another one as soon as some clients are forgotten: whoever knows payers is to ask for them again."""
        ...

    def payer(self, host: str) -> Payer:
        """That of the client at this address, asked for once an era. Raises nothing."""
        ...

    def refusal(self, wire: bytes, charge: int) -> bytes:
        """What is replied to a query that was charged so: 4 to SLOT octets, or b"" for silence. Raises nothing."""
        ...


class Counts(Protocol):
    """What is counted for each batch of datagrams."""

    udp_queries: int
    hits: int
    send_errors: int
    receive_errors: int
    rcodes: list[int]


class Recaller:
    """Finds finished replies and renders them for one client: a function of the query, the client and the transport.

    `now` tells the monotonic time. Told of are the hits whose replies ask for it, or all; others are counted in `secured`.
    What goes wrong is told to `failed`, and nothing then was at hand: the query takes the whole way.
    """

    def __init__(self, now: Callable[[], float], tell: Tell, tell_all: bool = False, failed: Failed = lambda _: None) -> None:
        self.now, self._tell, self._tell_all, self._failed = now, tell, tell_all, failed
        self.secured = [0] * len(SECURITIES)
        """Hits by what validation had found, in the order of SECURITIES."""
        self.use({}, _nothing, 0)

    def use(self, groups: Groups, find: Callable[[bytes], Kept | None], payload_size: int) -> None:
        """Replay what `find` finds for the clients that come to be in `groups`; over UDP up to so many octets."""
        self._groups, self._find, self._payload_size = groups, find, min(payload_size, SLOT)

    def __call__(self, wire: bytes, peer: Peer, transport: Transport, now: float | None = None) -> bytes | None:
        """The finished reply, if one is at hand. No await, no decision, no exception."""
        try:
            return self._replayed(wire, peer, transport, now)
        except Exception as error:  # noqa: BLE001 -- told, and the whole way is still there
            self._failed(error)
            return None

    def _replayed(self, wire: bytes, peer: Peer, transport: Transport, now: float | None) -> bytes | None:
        group = self._groups.get(peer)
        if group is None or len(wire) < _SHORTEST or (peeked := peek_untrusted(wire)) is None:
            return None
        key, name_end, limit = peeked
        finished = self._find(group[1] + key)
        if finished is None:
            return None
        packed = finished if isinstance(finished, bytes) else finished.packed
        born, until, opt_at, count, security, told = _head(packed)
        if now is None:
            now = self.now()
        if now >= until:
            return None
        if transport is not _UDP:
            limit = MAX_MESSAGE
        elif limit > self._payload_size:
            limit = self._payload_size
        age = int(now - born)
        if len(packed) - HEAD.size - 2 * count > limit:
            packed, count = _shortened(packed, count, name_end - HEADER_SIZE, opt_at, limit)
        reply = _written(packed, count, wire, name_end, max(0, age))
        if told or self._tell_all:
            self._tell(wire, peer, transport, finished, len(reply))
        else:
            self.secured[security] += 1
        return reply


def _nothing(key: bytes) -> None:
    """What is found before there is anything."""


def _written(packed: bytes, count: int, wire: bytes, name_end: int, age: int) -> bytes:
    """The message with the asker's ID and case, its TTLs less so many seconds."""
    start = HEAD.size + 2 * count
    parts = [wire[:2], packed[start + 2 : start + HEADER_SIZE], wire[HEADER_SIZE:name_end]]
    copied = start + name_end
    for offset in _offsets(count)(packed, HEAD.size):
        at = start + offset
        ttl = int.from_bytes(packed[at : at + 4]) - age
        parts += packed[copied:at], ttl.to_bytes(4) if ttl > 0 else b"\0\0\0\0"
        copied = at + 4
    parts.append(packed[copied:])
    return b"".join(parts)


@lru_cache
def _offsets(count: int) -> Callable[[bytes, int], tuple[int, ...]]:
    return Struct(f"={count}H").unpack_from


def _shortened(packed: bytes, count: int, name_size: int, opt_at: int, limit: int) -> tuple[bytes, int]:
    """The same with a message within the limit, and how many TTLs are left."""
    start = HEAD.size + 2 * count
    message = shortened(packed[start:], name_size, opt_at, limit)
    truncated = message[2] << 8 & TC
    return (packed[: HEAD.size] + message, 0) if truncated else (packed[:start] + message, count)


class Datagrams:
    """The datagrams of one socket, which is non-blocking; `wildcard` if it has more than one address."""

    def __init__(self, sock: socket.socket, recall: Recall, counts: Counts, wildcard: bool, limit: Limit | None = None) -> None:
        self._now, self._recall, self._counts = recall.now, recall.__call__, counts  # a bound method is called quicker
        self._limit = limit
        self._family, self._batch = sock.family, Batch(sock, wildcard)
        self._clients: dict[bytes, tuple[str, Payer | None]] = {}
        self._era = 0 if limit is None else limit.era

    def take(self) -> list[Miss]:
        """Take a batch of queries and answer what is at hand; the others."""
        recall, limit, counts, rcodes, batch = self._recall, self._limit, self._counts, self._counts.rcodes, self._batch
        try:
            queries, clients = batch.receive()
        except BlockingIOError:
            return []
        except OSError:
            counts.receive_errors += 1
            return []
        if limit is not None and limit.era != self._era:
            self._clients, self._era = {}, limit.era
        now, known = self._now(), self._clients
        at = int(now * 1e9)
        misses, replies = list[Miss](), list[tuple[int, bytes]]()
        for i, (wire, client) in enumerate(zip(queries, clients, strict=True)):
            host, pay = known.get(client) or self._client(client)
            if limit and pay and (charge := pay(at)):
                reply: bytes | None = limit.refusal(wire, charge)
            else:
                reply = recall(wire, host, _UDP, now)
            if reply is None:
                misses.append((wire, host, batch.origin(i)))
            elif reply:
                rcodes[reply[3] & 15] += 1
                replies.append((i, reply))
        counts.udp_queries += len(queries)
        counts.hits += len(replies)
        if replies:
            counts.send_errors += batch.send(replies)
        return misses

    def send(self, replies: list[tuple[bytes, bytes]]) -> None:
        """Send replies, each to the origin of its query. What cannot be sent is counted, and ends nothing."""
        self._counts.send_errors += self._batch.post(replies)

    def _client(self, address: bytes) -> tuple[str, Payer | None]:
        """The address as text and, where there is a limit, who pays for it; kept for the next time."""
        if len(self._clients) >= _MAX_CLIENTS:
            self._clients.clear()
        host = socket.inet_ntop(self._family, address)
        client = self._clients[address] = host, None if self._limit is None else self._limit.payer(host)
        return client
