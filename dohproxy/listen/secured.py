"""The encrypted listeners of a process. Imported where there are any: what they stand on takes time, and memory."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from dohproxy.config.settings import Listen, Tls
from dohproxy.identity.own import OwnCertificate
from dohproxy.identity.peers import TrustBundles
from dohproxy.listen.credentials import Credentials, credentials
from dohproxy.listen.doh import ALPN, SpeakHttp
from dohproxy.listen.elsewhere import elsewhere
from dohproxy.listen.encrypted import Under
from dohproxy.listen.intake import Intake
from dohproxy.listen.sockets import Sockets
from dohproxy.listen.tcp import ConnectionTable, TcpListener
from dohproxy.listen.tls import TlsServer
from dohproxy.protocol.doh_request import Site

if TYPE_CHECKING:
    from dohproxy.listen.quic import QuicListener


class Workload(Protocol):
    """Who gives us an identity, and vouches for others': the client of the SPIFFE Workload API."""

    def svid(self) -> OwnCertificate:
        """Our own certificate."""
        ...

    def bundles(self) -> TrustBundles:
        """The authorities of each trust domain."""
        ...


class Secured:
    """The listeners by TLS and QUIC, and what they show. Raises DohproxyError for what cannot be shown."""

    def __init__(
        self, tls: Tls, listen: Listen, sockets: Sockets, intake: Intake, table: ConnectionTable, workload: Workload | None
    ) -> None:
        self._tls, self._listen, self._workload = tls, listen, workload
        shown = self.credentials(tls)
        self._dot, self._doh = TlsServer(shown, ("dot",)), TlsServer(shown, ALPN)
        self.by_tcp = [TcpListener(sock, intake, table, Under(self._dot)) for sock in sockets.dot]
        self.by_tcp += [TcpListener(sock, intake, table, self._speak_http(sock)) for sock in sockets.doh]
        self.by_quic: list[QuicListener] = []
        if sockets.doq or sockets.doh3:
            from dohproxy.listen.quic_listeners import quic_listeners  # noqa: PLC0415 -- aioquic is for those who want it

            self.by_quic = quic_listeners(sockets, intake, shown, self._site())

    def credentials(self, tls: Tls) -> Credentials:
        """What is shown by these settings, and who vouches for clients."""
        if self._workload is None:
            return credentials(tls)
        return credentials(tls, self._workload.svid(), self._workload.bundles)

    def show(self, tls: Tls, shown: Credentials) -> None:
        """Have the next connections meet these; what only changed in its files is noticed without."""
        if tls == self._tls:
            return
        self._tls = tls
        self._dot.use(shown)
        self._doh.use(shown)
        for listener in self.by_quic:
            listener.use(shown)

    def _speak_http(self, sock: socket.socket) -> Under:
        address, port = sock.getsockname()[:2]
        return Under(self._doh, SpeakHttp(self._site(elsewhere(address, port, self._listen))))

    def _site(self, elsewhere: bytes = b"") -> Site:
        return Site(self._listen.doh_path, json=self._listen.doh_json, elsewhere=elsewhere)
