"""A DNS server over TLS or TCP on loopback, that each test gives its manners."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trio

from dohproxy.config.settings import Forwarding, Upstream
from dohproxy.lab.certificates import Authority, Validity
from dohproxy.model import INTERNAL, Query, Question
from dohproxy.upstream.doh import Doh
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.plain import Tcp, Udp
from dohproxy.upstream.pool import Pool
from dohproxy.wire import names

Manner = Callable[["Peer", trio.abc.Stream], Awaitable[None]]


def reply_to(
    query: bytes, *, id: bytes | None = None, flags: bytes = b"\x81\x80", address: bytes = b"\x01\x02\x03\x04"
) -> bytes:
    """One A record for whatever the query asks, without EDNS."""
    end = query.index(b"\0", 12) + 5
    record = b"\xc0\x0c" + b"\0\1\0\1" + (300).to_bytes(4) + b"\0\4" + address
    return (id or query[:2]) + flags + b"\0\1\0\1\0\0\0\0" + query[12:end] + record


class Messages:
    """The framed messages of a stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._data = b""

    async def next(self) -> bytes:
        """The next, or EndOfChannel."""
        while len(self._data) < 2 or len(self._data) < 2 + int.from_bytes(self._data[:2]):
            more = await self._stream.receive_some()
            if not more:
                raise trio.EndOfChannel
            self._data += more
        end = 2 + int.from_bytes(self._data[:2])
        message, self._data = self._data[2:end], self._data[end:]
        return message


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2) + message


async def answer_all(peer: Peer, stream: trio.abc.Stream) -> None:
    """A well-behaved server."""
    messages = Messages(stream)
    while True:
        query = await messages.next()
        peer.queries.append(query)
        await stream.send_all(framed(reply_to(query)))


class Peer:
    """The server. `manners` says what it does on each connection in turn, the last on all that follow."""

    def __init__(self, *manners: Manner) -> None:
        self.manners = list(manners) or [answer_all]
        self.queries: list[bytes] = []
        self.connections = 0
        self.reused: list[bool] = []
        self.open = 0
        self.errors: list[BaseException] = []
        self.port = 0

    async def start(self, nursery: trio.Nursery, context: ssl.SSLContext | None) -> Peer:
        listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        self._context = context
        nursery.start_soon(trio.serve_listeners, self._serve, listeners)
        return self

    async def _serve(self, tcp: trio.SocketStream) -> None:
        manner = self.manners[min(self.connections, len(self.manners) - 1)]
        self.connections += 1
        self.open += 1
        stream: trio.abc.Stream = tcp
        try:
            if self._context is not None:
                tls = trio.SSLStream(tcp, self._context, server_side=True, https_compatible=True)
                await _shake_hands(tls)
                self.reused.append(tls.session_reused)
                stream = tls
            await manner(self, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel) as error:
            self.errors.append(error)
        finally:
            self.open -= 1
            await trio.aclose_forcefully(tcp)


async def _shake_hands(tls: Any) -> None:
    """Where it fails, the client is told why, which trio leaves to us."""
    try:
        await tls.do_handshake()
    except trio.BrokenResourceError:
        with suppress(trio.BrokenResourceError):
            await tls.transport_stream.send_all(tls._outgoing.read())
        raise


class Certificates:
    """An authority, and what it issues, as files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority = Authority()
        self.ca = self._authority.write(directory)
        self.other_ca = Authority("somebody else").write(directory, "other")
        self.good = self._write("good", "dns.test", "127.0.0.1")
        self.stranger = self._write("stranger", "other.test", "127.0.0.9")
        now = datetime.now(UTC)
        over = Validity(now - timedelta(days=9), now - timedelta(days=1))
        self.expired = self._write("expired", "dns.test", "127.0.0.1", validity=over)

    def _write(self, stem: str, *sans: str, validity: Validity | None = None) -> tuple[Path, Path]:
        return self._authority.server(*sans, validity=validity).write(self._directory, stem)

    def context(self, pair: tuple[Path, Path], *, alpn: str = "dot") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*pair)
        context.set_alpn_protocols([alpn])
        return context


QUICK = Forwarding(timeout=2.0, try_timeout=0.2, connect_timeout=1.0, idle_timeout=5.0)


def ask(name: str = "www.example.", seconds: float = 5.0) -> Query:
    return Query(Question(names.from_text(name), 1), INTERNAL, trio.current_time() + seconds)


class Bench:
    """Starts servers, and upstreams that lead to them, in the test's nursery."""

    def __init__(self, nursery: trio.Nursery, certificates: Certificates) -> None:
        self.nursery = nursery
        self.certificates = certificates

    async def serve(self, *manners: Manner, context: ssl.SSLContext | None = None) -> Peer:
        return await Peer(*manners).start(self.nursery, context or self.certificates.context(self.certificates.good))

    def settings(self, port: int, scheme: str = "tls", **fields: object) -> Upstream:
        given = {"tls_name": "dns.test", "ca_file": self.certificates.ca, "addresses": ("127.0.0.1",), "host": "dns.test"}
        return Upstream(name="peer", scheme=scheme, port=port, **(given | fields))  # type: ignore[arg-type]

    async def dot(self, port: int, forwarding: Forwarding = QUICK, **fields: object) -> Dot:
        return await self._run(Dot(self.settings(port, **fields), forwarding))

    async def doh(self, port: int, forwarding: Forwarding = QUICK, **fields: object) -> Doh:
        return await self._run(Doh(self.settings(port, "https", **fields), forwarding))

    async def tcp(self, port: int, forwarding: Forwarding = QUICK) -> Tcp:
        return await self._run(Tcp(self.settings(port, "tcp"), forwarding))

    async def udp(self, port: int, forwarding: Forwarding = QUICK) -> Udp:
        udp = Udp(self.settings(port, "udp"), forwarding)
        await self.nursery.start(udp.run)
        return udp

    async def _run(self, pool: Pool) -> Any:
        await self.nursery.start(pool.run)
        return pool
