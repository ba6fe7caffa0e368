"""How many QUIC connections there may be, and who must go when there are too many."""

from __future__ import annotations

import math
from typing import Protocol

from dohproxy.config.settings import Listen
from dohproxy.telemetry.counters import Counters

HANDSHAKES = 128
"""Under way at most, over all listeners; each is worth a few milliseconds of the processor."""
HANDSHAKES_PER_CLIENT = 16
"""Of them at most from one address that was shown to be true; of others there are never more than RETRY_FROM in all."""
RETRY_FROM = 32
"""As many under way, and clients must first show that their address is their own (RFC 9000 8.1.2)."""


class Open(Protocol):
    """An open connection, as far as the table is concerned."""

    admitted: str
    """The client's address when it came."""
    idle_since: float
    """When the last answer was given; math.inf while it must not be cut off."""

    @property
    def half_open(self) -> bool:
        """Whether it is a handshake still, of a client that has shown its address to be true."""
        ...

    def end(self) -> None:
        """Close it in order, now."""
        ...


class QuicTable:
    """The open connections of all listeners, by client, and the number of those that are still handshakes.

    Over a limit, in all or per client address, the connection that has been idle longest makes room: over the client's limit
    one of its own. Where none is idle the newcomer is refused.
    """

    def __init__(self, limits: Listen, counters: Counters) -> None:
        self._limit, self._limit_per_client = limits.quic_connections, limits.quic_connections_per_client
        self._counters = counters
        self._open: dict[str, set[Open]] = {}
        self.handshakes = 0

    @property
    def wary(self) -> bool:
        """Whether so many handshakes are under way that addresses have to be shown to be true first."""
        return self.handshakes >= RETRY_FROM

    def has_room(self, host: str) -> bool:
        """Whether one more connection of the client at this address can be taken."""
        own = self._open.get(host, set())
        if self.handshakes >= HANDSHAKES or sum(one.half_open for one in own) >= HANDSHAKES_PER_CLIENT:
            return False
        return self._make_room(own, self._limit_per_client) and self._make_room_in_all()

    def _make_room_in_all(self) -> bool:
        if self._counters.quic_open < self._limit:
            return True
        return self._make_room(set().union(*self._open.values()), self._limit)

    def _make_room(self, connections: set[Open], limit: int) -> bool:
        if len(connections) < limit:
            return True
        oldest = min(connections, key=lambda connection: connection.idle_since, default=None)
        if oldest is None or oldest.idle_since == math.inf:
            return False
        self._counters.quic_displaced += 1
        oldest.end()
        return True

    def enter(self, connection: Open) -> None:
        """Count one more, that begins with a handshake."""
        self._open.setdefault(connection.admitted, set()).add(connection)
        self._counters.quic_accepted += 1
        self._counters.quic_open += 1
        self.handshakes += 1

    def leave(self, connection: Open) -> None:
        """Count one less."""
        own = self._open[connection.admitted]
        own.remove(connection)
        self._counters.quic_open -= 1
        if not own:
            del self._open[connection.admitted]
