"""A connection under TLS as a server sees it: octets between a socket and OpenSSL, and alerts that do leave."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import trio

from dohproxy.identity.peers import Unverified
from dohproxy.listen.tls import Terms
from dohproxy.upstream.connect import acknowledge_quickly

_RECORD: Final = 16384
"""Octets (RFC 8446 5.1)."""
_READ: Final = 65536
"""Octets taken from the socket at once."""
_BROKEN_RECORD: Final = b"\x17\x03\x03\x40\x00" + bytes(_RECORD)
"""One that no key has sealed."""
_HELD: Final = 4096
"""Octets, such as session tickets, that may wait for something to leave with."""
_LINGER: Final = 1.0
"""Seconds that a client has to take the alert."""


class HandshakeFailed(trio.BrokenResourceError):
    """A connection that is none; the alert that says why has left, if the client takes it."""


class TlsStream(trio.abc.Stream):
    """The stream within one accepted connection; it owns the socket, which is non-blocking.

    One task may send while another receives. Whatever is cancelled, no record is ever sent by halves: what is left goes
    before what is sent next.
    """

    def __init__(self, sock: socket.socket, terms: Terms) -> None:
        self._socket, self._terms = sock, terms
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._engine = terms.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._unsent = memoryview(b"")
        self._sending = trio.Lock()
        self._established = False
        self.identity = ""
        """Of the client, once hands are shaken; "" of one that has shown no certificate."""
        self.chain: list[bytes] = []
        """What it has shown, in DER, its own certificate first."""

    @property
    def alpn(self) -> str | None:
        """The protocol that was agreed on, once hands are shaken."""
        return self._engine.selected_alpn_protocol()

    @property
    def resumed(self) -> bool:
        """Whether a session was resumed."""
        return bool(self._engine.session_reused)

    async def shake_hands(self) -> None:
        """Come to an understanding with the client, whose identity is known then. Raises HandshakeFailed."""
        try:
            while not self._advance():
                await self._flush()
                if not await self._fill():
                    raise HandshakeFailed("the client went away")
            self.chain = _chain(self._engine)
            self.identity = self._terms.identify(self.chain)
        except (ssl.SSLError, Unverified) as error:
            if isinstance(error, Unverified):
                if self.resumed:
                    self._terms.end()  # or it would come with this session again, whatever certificate it has by then
                self._spoil()
            with trio.move_on_after(_LINGER):
                await self._part()
            raise HandshakeFailed(str(error)) from error
        self._established = True
        with suppress(OSError):  # it is gone, or no TCP
            acknowledge_quickly(self._socket)  # a client that shook hands may wait for it with its question (RFC 896)
        await self._flush_unless_sent()

    def _advance(self) -> bool:
        try:
            self._engine.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _spoil(self) -> None:
        """Have OpenSSL send a fatal alert: it does so of itself only, and a record that is broken is a reason."""
        self._incoming.write(_BROKEN_RECORD)
        with suppress(ssl.SSLError):
            while self._engine.read(_RECORD):
                pass

    async def _part(self) -> None:
        """Send what there is, and wait until the client has gone: a reset would overtake the alert."""
        await self._flush()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            for _ in range(16):
                if not await self._receive():
                    return

    async def receive_some(self, max_bytes: int | None = None) -> bytes:  # noqa: ARG002
        """What has come, which may be more than asked for; b"" when the client is done. Raises BrokenResourceError."""
        while True:
            try:
                if data := self._read():
                    return data
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLError as error:
                await self._flush()
                raise trio.BrokenResourceError(str(error)) from error
            await self._flush_unless_sent()
            if not await self._fill():
                return b""

    def _read(self) -> bytes:
        """All that is there. Raises SSLWantReadError where that is nothing, and whatever else ends the connection."""
        read = self._engine.read
        pieces = [read(_RECORD)]
        if not pieces[0]:
            raise ssl.SSLZeroReturnError
        with suppress(ssl.SSLError):  # it will be said again
            while piece := read(_RECORD):
                pieces.append(piece)
        return b"".join(pieces)

    async def _fill(self) -> bool:
        """Wait for octets from the socket; whether there are any more."""
        data = await self._receive()
        self._incoming.write(data)
        return bool(data)

    async def _receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(_READ)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, in as few records as there may be. Raises BrokenResourceError."""
        async with self._sending:
            try:
                self._engine.write(data)
            except ssl.SSLError as error:
                raise trio.BrokenResourceError(str(error)) from error
            await self._send()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket has room."""
        await trio.lowlevel.wait_writable(self._socket)

    async def _flush(self) -> None:
        if self._unsent or self._outgoing.pending:
            async with self._sending:
                await self._send()

    async def _flush_unless_sent(self) -> None:
        """Send what shaking hands or reading gave rise to, unless whoever sends now will.

        In TLS 1.3 it has time until there is more to send: session tickets leave with the first answer.
        """
        held = _HELD if self._engine.version() == "TLSv1.3" else 0
        if self._outgoing.pending > held and not self._sending.locked():
            await self._flush()

    async def _send(self) -> None:
        while self._push():
            await trio.lowlevel.wait_writable(self._socket)

    def _push(self) -> bool:
        """Give the socket what it takes; whether anything is left."""
        try:
            while self._unsent or self._outgoing.pending:
                if not self._unsent:
                    self._unsent = memoryview(self._outgoing.read())
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return True
        except OSError as error:
            raise trio.BrokenResourceError(str(error)) from error
        return False

    async def aclose(self) -> None:
        """Say goodbye (RFC 8446 6.1), if the socket takes it at once, and close."""
        if self._established and self._socket.fileno() >= 0:
            with suppress(ssl.SSLError, trio.BrokenResourceError):
                with suppress(ssl.SSLError):  # the client's goodbye is not waited for
                    self._engine.unwrap()
                if not self._sending.locked():
                    self._push()
        trio.lowlevel.notify_closing(self._socket)
        self._socket.close()
        await trio.lowlevel.checkpoint()


def _chain(engine: ssl.SSLObject) -> list[bytes]:
    """The client's certificates, its own first; [] if it has shown none. After a resumption there is but the first."""
    leaf = engine.getpeercert(binary_form=True)
    if leaf is None:
        return []
    shown: Sequence[object] = engine._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    others = [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in shown]  # type: ignore[attr-defined]
    return [leaf, *(one for one in others if one != leaf)]
