"""An upstream that is spoken to over QUIC."""

from __future__ import annotations

from dohproxy.config import settings
from dohproxy.identity.followed import Complain
from dohproxy.identity.own import OwnCertificate
from dohproxy.protocol.quic_client import QuicSession
from dohproxy.upstream.connection import Connection, State
from dohproxy.upstream.pool import Pool
from dohproxy.upstream.quic_client import QuicClient
from dohproxy.upstream.quic_connection import QuicConnection

_OPEN = State.OPEN  # here: an enumeration looks its members up slowly
_HOPEFUL = (State.CONNECTING, State.OPEN)


class QuicPool(Pool):
    """One upstream with its QUIC connections; its kinds say what is spoken. Raises BadAuthorities for an unusable `ca_file`."""

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        alpn: str,
        own: OwnCertificate | None,
        complain: Complain,
    ) -> None:
        super().__init__(upstream, forwarding)
        self._client = QuicClient(upstream, forwarding, alpn, own=own, complain=complain)

    @property
    def resumed(self) -> int:
        """How many of its connections resumed a TLS session."""
        return self._client.resumed

    @property
    def early(self) -> int:
        """How many of them brought questions with their first flight."""
        return self._client.early

    @property
    def is_open(self) -> bool:
        """Whether a question would leave at once, to a server that has answered."""
        for connection in self._connections:
            if connection.state is _OPEN and isinstance(connection, QuicConnection) and connection.greeted:
                return True
        return False

    @property
    def is_heard(self) -> bool:
        """Whether the server has answered on a connection that is open or opening, if only to the first packet."""
        over_quic = (connection for connection in self._connections if isinstance(connection, QuicConnection))
        return any(connection.greeted and connection.state in _HOPEFUL for connection in over_quic)

    def _renew(self, connection: Connection) -> None:
        """It goes on in the other network where the server can follow, and ends where it cannot."""
        if isinstance(connection, QuicConnection):
            connection.follow()

    def _session(self) -> QuicSession:
        """What a new connection speaks."""
        raise NotImplementedError

    def _connection(self) -> QuicConnection:
        return QuicConnection(self._route, self._session(), self._client)
