"""A connection to an upstream over TCP: a session's octets through a layer, on a socket with one reader and one writer."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress

import trio

from dohproxy.bell import Turn
from dohproxy.errors import Disconnected, MalformedMessage, NoReachableUpstream, ResolveError, UpstreamFailed
from dohproxy.protocol.session import StreamSession
from dohproxy.upstream.connect import acknowledge_quickly, connect, is_local
from dohproxy.upstream.connection import Connection, State
from dohproxy.upstream.exchange import Route
from dohproxy.upstream.tls import Layer, Unwelcome

_READ = 65536
_MOST_UNSENT = 1 << 20
"""Octets: questions never are so many, and answers to a server's PING or SETTINGS must not be."""


class StreamConnection(Connection):
    """A connection over TCP: the session's octets through a layer, which is TLS or nothing."""

    _session: StreamSession

    def __init__(self, route: Route, session: StreamSession, layer: Layer) -> None:
        super().__init__(route, session)
        self._layer = layer
        self._unsent = b""
        self._blocked = False
        """Whether there is no room to write."""
        self._socket: socket.socket | None = None

    async def _live(self) -> None:
        if (sock := await self._connect()) is not None:
            await self._read(sock)

    async def _connect(self) -> socket.socket | None:
        try:
            self._socket = await connect(await self.route.addresses.known(), self.route.port)
            self.route.addresses.worked(self._socket.getpeername()[0])
        except OSError as error:
            self._end(NoReachableUpstream(_words(error)))
        return self._socket

    # The reader

    async def _read(self, sock: socket.socket) -> None:
        try:
            self._layer.shake_hands()
            self._advance()
            while True:
                await trio.lowlevel.wait_readable(sock)
                with suppress(BlockingIOError):
                    data = sock.recv(_READ)
                    with Turn():
                        self._receive_untrusted(data)
                    acknowledge_quickly(sock)  # after the clients have their answers, who wait for them
        except OSError as error:  # of TLS as well
            self._end(self._broken(error))
        except MalformedMessage as error:
            self._end(UpstreamFailed(str(error)))

    def _receive_untrusted(self, data: bytes) -> None:
        if not data:
            raise ConnectionError("closed the connection")
        self._active = trio.current_time()
        plain = self._layer.open(data)
        if plain:
            self._heard = self._active
        for received in self._session.receive_untrusted(plain):
            self._deliver(received)
        if self._layer.ended:
            raise ConnectionError("closed the connection")
        self._advance()
        self._end_if_done()

    def _advance(self) -> None:
        """After news from the peer: opens, lets waiting questions begin, sends what the session answers by itself."""
        if self._layer.established:
            self._admit()
        else:
            self._fail_waiting_if_closing()
        self._gather()
        if len(self._unsent) > _MOST_UNSENT:
            raise MalformedMessage("the server does not read what it has us say")
        if self._unsent:
            self._bell.ring()

    # The writer

    async def _write(self) -> None:
        while True:
            if self._blocked and self._socket is not None:
                await trio.lowlevel.wait_writable(self._socket)
            else:
                await self._bell.heard()
            self._send_at_once()

    def _send_at_once(self) -> bool:
        if self._socket is None or self.state is State.CLOSED:
            return False
        self._blocked = False
        try:
            self._gather()
            if self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
                self._blocked = bool(self._unsent)
        except BlockingIOError:
            self._blocked = True
        except OSError:  # left to the reader, who first sees what the peer said before the connection broke
            return False
        return not self._unsent

    def _gather(self) -> None:
        """One TLS record a piece: several questions in one record made a server sit on its answers."""
        if self._layer.established:
            seal = self._layer.seal
            for piece in self._session.take():
                seal(piece)
        self._unsent += self._layer.outgoing()

    def _is_cut_off(self) -> bool:
        return not is_local(self._socket)

    def _broken(self, error: OSError) -> ResolveError:
        if isinstance(error, Unwelcome):
            return NoReachableUpstream(str(error))
        if self._layer.established:
            return Disconnected(_words(error))
        return NoReachableUpstream(_words(error) + ("" if isinstance(error, ssl.SSLError) else " in the TLS handshake"))

    def _close(self) -> None:
        if self._socket is not None:
            with self._socket:
                self._layer.close()
                with suppress(OSError):  # a goodbye that does not fit is not worth waiting for
                    self._socket.send(self._unsent + self._layer.outgoing())


def _words(error: OSError) -> str:
    """Why a connection failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    return (error.strerror or str(error)).lower()
