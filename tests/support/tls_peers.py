"""TLS clients as tests need them: by hand, so that they see alerts, keep sessions, and stop wherever they like."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from dohproxy.lab.certificates import Authority, Credentials


def client_context(authority: Authority, own: Credentials | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    """That of a client who trusts this authority and shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.pem.decode())
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if own is not None:
        with TemporaryDirectory() as directory:
            context.load_cert_chain(*own.write(Path(directory), "own"))
    return context


class TlsPeer:
    """One connection of a client. What goes wrong is an ssl.SSLError, whose reason is the alert."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, name: str = "proxy.test", session: ssl.SSLSession | None = None
    ) -> None:
        sock.setblocking(False)
        self.socket = trio.socket.from_stdlib_socket(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.engine = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name, session=session)

    async def shake_hands(self) -> None:
        while True:
            try:
                self.engine.do_handshake()
                return await self._flush()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()

    async def send(self, data: bytes) -> None:
        self.engine.write(data)
        await self._flush()

    async def receive(self) -> bytes:
        """What has come; b"" when the server has said goodbye."""
        while True:
            try:
                return self.engine.read(65536)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                await self._fill()

    async def exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            piece = await self.receive()
            assert piece, "the connection ended"
            found += piece
        assert len(found) == size
        return found

    async def _fill(self) -> None:
        if data := await self.socket.recv(65536):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self.socket.send(data)

    def close(self) -> None:
        self.socket.close()
