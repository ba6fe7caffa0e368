"""The core in plain Python: takes datagrams, replays finished replies, hands back what it has none for.

It decides nothing. `_compiled.pyx` has the same classes with the same answers, octet for octet.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

from dohproxy.core.finished import HEAD, SECURITIES, Finished
from dohproxy.core.pktinfo import Ancillary, reply_ancillary
from dohproxy.model import Transport
from dohproxy.wire.constants import HEADER_SIZE, MAX_MESSAGE
from dohproxy.wire.peek import peek_untrusted
from dohproxy.wire.reply import shortened

BATCH: Final = 64
"""Datagrams taken before other tasks have their turn."""
MAX_QUERY: Final = 4096
"""Octets of a datagram that are read; a longer one is no query that anybody sends, and is answered FORMERR."""
ANCILLARY: Final = 128

Address = Any
"""As the socket module has it: a tuple whose first item is the IP address as text."""
Miss = tuple[bytes, Address, Ancillary | None]
"""A query, who asked, and on a wildcard socket what makes the answer leave from the address that was asked."""
Groups = dict[str, tuple[str, bytes] | None]
"""By client address: the policy group, and the prefix of its keys; None if the client is not served."""
Recall = Callable[[bytes, str, Transport], bytes | None]
Tell = Callable[[bytes, str, Transport, Finished, int], None]
"""Is told of each hit: the query, the client's address, the transport, what was replayed, the octets of the reply."""

_UDP: Final = Transport.UDP
_SHORTEST: Final = HEADER_SIZE + 5
_head = HEAD.unpack_from


class Counts(Protocol):
    """What is counted for each batch of datagrams."""

    udp_queries: int
    hits: int
    send_errors: int
    receive_errors: int
    rcodes: list[int]


class Recaller:
    """Finds finished replies and renders them for one client: a function of the query, the host and the transport.

    `now` tells the monotonic time. With `tell`, hits are told of; without, they are counted in `secured`.
    """

    def __init__(self, now: Callable[[], float], tell: Tell | None = None) -> None:
        self._now, self._tell = now, tell
        self.secured = [0] * len(SECURITIES)
        """Hits by what validation had found, in the order of SECURITIES."""
        self.use({}, _nothing, 0)

    def use(self, groups: Groups, find: Callable[[bytes], Finished | None], payload_size: int) -> None:
        """Replay what `find` finds for the clients that come to be in `groups`; over UDP up to so many octets."""
        self._groups, self._find, self._payload_size = groups, find, payload_size

    def __call__(self, wire: bytes, host: str, transport: Transport) -> bytes | None:
        """The finished reply, if one is at hand. No await, no decision."""
        group = self._groups.get(host)
        if group is None or len(wire) < _SHORTEST or (peeked := peek_untrusted(wire)) is None:
            return None
        key, name_end, limit = peeked
        finished = self._find(group[1] + key)
        if finished is None:
            return None
        packed = finished.packed
        born, until, opt_at, count, security = _head(packed)
        now = self._now()
        if now >= until:
            return None
        start = HEAD.size + 2 * count
        body = packed[start:]
        if count and (age := int(now - born)) > 0:
            body = _aged(body, memoryview(packed)[HEAD.size : start].cast("H"), age)
        reply = b"".join((wire[:2], body[2:HEADER_SIZE], wire[HEADER_SIZE:name_end], body[name_end:]))
        if transport is not _UDP:
            limit = MAX_MESSAGE
        elif limit > self._payload_size:
            limit = self._payload_size
        if len(reply) > limit:
            reply = shortened(reply, name_end - HEADER_SIZE, opt_at, limit)
        if self._tell is None:
            self.secured[security] += 1
        else:
            self._tell(wire, host, transport, finished, len(reply))
        return reply


def _nothing(key: bytes) -> None:  # noqa: ARG001
    """What is found before there is anything."""


def _aged(wire: bytes, offsets: memoryview, age: int) -> bytes:
    out = bytearray(wire)
    for at in offsets:
        ttl = int.from_bytes(wire[at : at + 4]) - age
        out[at : at + 4] = ttl.to_bytes(4) if ttl > 0 else b"\0\0\0\0"
    return bytes(out)


class Datagrams:
    """The datagrams of one socket, which is non-blocking."""

    def __init__(self, sock: socket.socket, recall: Recall, counts: Counts, wildcard: bool) -> None:
        self._socket, self._recall, self._counts = sock, recall, counts
        self.take = self._take_wildcard if wildcard else self._take

    def _take(self) -> list[Miss]:
        """Take a batch of queries, answer what is at hand; the others."""
        receive, recall, send = self._socket.recvfrom, self._recall, self._socket.sendto
        counts, rcodes, misses = self._counts, self._counts.rcodes, list[Miss]()
        for _ in range(BATCH):
            try:
                wire, client = receive(MAX_QUERY)
            except BlockingIOError:
                break
            except OSError:
                counts.receive_errors += 1
                break
            counts.udp_queries += 1
            reply = recall(wire, client[0], _UDP)
            if reply is None:
                misses.append((wire, client, None))
                continue
            counts.hits += 1
            rcodes[reply[3] & 15] += 1
            try:
                send(reply, client)
            except OSError:
                counts.send_errors += 1
        return misses

    def _take_wildcard(self) -> list[Miss]:
        receive, recall, counts, misses = self._socket.recvmsg, self._recall, self._counts, list[Miss]()
        for _ in range(BATCH):
            try:
                wire, ancillary, _flags, client = receive(MAX_QUERY, ANCILLARY)
            except BlockingIOError:
                break
            except OSError:
                counts.receive_errors += 1
                break
            counts.udp_queries += 1
            back = reply_ancillary(ancillary)
            reply = recall(wire, client[0], _UDP)
            if reply is None:
                misses.append((wire, client, back))
                continue
            counts.hits += 1
            counts.rcodes[reply[3] & 15] += 1
            try:
                self._socket.sendmsg([reply], back, 0, client)
            except OSError:
                counts.send_errors += 1
        return misses
