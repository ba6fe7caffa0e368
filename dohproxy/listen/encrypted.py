"""Connections under TLS: hands are shaken first, and then it is known who the client is and what is spoken."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence

import trio

from dohproxy.listen.intake import Intake
from dohproxy.listen.stream import StreamConnection
from dohproxy.listen.tcp import OPENING, Served
from dohproxy.listen.tls import TlsServer
from dohproxy.listen.tls_stream import TlsStream
from dohproxy.model import Attested, Peer, Transport

log = logging.getLogger(__name__)

Speak = Callable[[TlsStream, Peer, Intake], Served]
"""Makes the connection, once the peer is known and the protocol agreed on."""
Holds = Callable[[Sequence[bytes]], float]
"""After how many seconds to ask again whether a client is who its certificates said; 0 if it is not."""


def speak_dns(stream: TlsStream, peer: Peer, intake: Intake) -> Served:
    """DNS over TLS (RFC 7858)."""
    return StreamConnection(stream, peer, Transport.DOT, intake)


class Encrypted:
    """One client's connection: a handshake, for which there is a time, and then whatever `speak` makes of it.

    Until then it counts as idle, so that whoever only knocks makes room for others.
    """

    def __init__(self, stream: TlsStream, host: str, speak: Speak, intake: Intake, holds: Holds) -> None:
        self.host = host
        self._stream, self._speak, self._intake, self._holds = stream, speak, intake, holds
        self._began = trio.current_time()
        self._opening = trio.CancelScope(deadline=self._began + OPENING)
        self._inner: Served | None = None

    @property
    def idle(self) -> bool:
        """Whether no query is under way."""
        return self._inner is None or self._inner.idle

    @property
    def idle_since(self) -> float:
        """When the last answer left, or the connection began."""
        return self._began if self._inner is None else self._inner.idle_since

    async def run(self) -> None:
        """Serve the connection to its end, and close it."""
        try:
            if (inner := await self._open()) is None:
                return
            if self._stream.identity:
                await self._run_while_it_holds(inner)
            else:
                await inner.run()
        finally:
            await trio.aclose_forcefully(self._stream)

    async def _run_while_it_holds(self, inner: Served) -> None:
        """Take no more queries once the client's certificate does not count any more."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, inner)
            await inner.run()
            nursery.cancel_scope.cancel()

    async def _watch(self, inner: Served) -> None:
        while (seconds := self._holds(self._stream.chain)) > 0:  # noqa: ASYNC110 -- it is time that is waited for
            await trio.sleep(seconds)
        inner.stop()

    async def _open(self) -> Served | None:
        counters = self._intake.counters
        with self._opening:
            try:
                await self._stream.shake_hands()
            except trio.BrokenResourceError as error:
                counters.tls_failed += 1
                log.debug("no connection with a client by TLS: %s", error)
                return None
            counters.tls_handshakes += 1
            counters.tls_resumed += self._stream.resumed
            identity = self._stream.identity
            self._inner = self._speak(self._stream, Attested(self.host, identity) if identity else self.host, self._intake)
            return self._inner
        counters.tls_failed += 1
        return None

    def stop(self) -> None:
        """Take no more queries; the answers to those under way still leave."""
        self._opening.cancel()
        if self._inner is not None:
            self._inner.stop()

    def close(self) -> None:
        """End at once."""
        self._opening.cancel()
        if self._inner is not None:
            self._inner.close()


class Under:
    """Has `speak` spoken under TLS: what a TcpListener needs."""

    def __init__(self, server: TlsServer, speak: Speak = speak_dns) -> None:
        self._server, self._speak = server, speak

    def __call__(self, stream: trio.SocketStream, host: str, intake: Intake) -> Served:
        """The connection; raises DohproxyError while there is no certificate to show."""
        terms = self._server.terms()
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        return Encrypted(TlsStream(sock, terms), host, self._speak, intake, self._server.holds)
