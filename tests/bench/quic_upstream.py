"""An upstream over QUIC: DoQ (RFC 9250) and DoH over HTTP/3, each query passed on over UDP. Needs aioquic.

usage: quic_upstream.py DOQ_PORT H3_PORT UPSTREAM_PORT READY_PORT CERTIFICATE KEY
On READY_PORT it passes plain DNS on, so that one can see when it is up.
"""

import asyncio
import base64
import sys
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived


class Resolver(asyncio.DatagramProtocol):
    """Asks the plain DNS server; IDs of its own keep the queries apart."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._next = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002 -- asyncio's
        waiting = self._waiting.pop(int.from_bytes(data[:2], "big"), None)
        if waiting and not waiting.done():
            waiting.set_result(data)

    async def ask(self, query: bytes) -> bytes:
        self._next = (self._next + 1) & 0xFFFF
        waiting = self._waiting[self._next] = asyncio.get_running_loop().create_future()
        self._transport.sendto(self._next.to_bytes(2, "big") + query[2:])
        reply: bytes = await asyncio.wait_for(waiting, 5)
        return query[:2] + reply[2:]


resolver = Resolver()
tasks: set[asyncio.Task[None]] = set()


def start(answering: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(answering)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


class Doq(QuicConnectionProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._streams: defaultdict[int, bytes] = defaultdict(bytes)

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self._streams[event.stream_id] += event.data
            if event.end_stream:
                start(self.answer(event.stream_id, self._streams.pop(event.stream_id)[2:]))

    async def answer(self, stream: int, query: bytes) -> None:
        reply = await resolver.ask(query)
        self._quic.send_stream_data(stream, len(reply).to_bytes(2, "big") + reply, end_stream=True)
        self.transmit()


class H3(QuicConnectionProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._bodies: dict[int, bytes] = {}

    def quic_event_received(self, event: QuicEvent) -> None:
        for part in self._http.handle_event(event):
            if isinstance(part, HeadersReceived):
                path = dict(part.headers).get(b":path", b"").decode()
                encoded = parse_qs(urlsplit(path).query).get("dns", [""])[0]
                self._bodies[part.stream_id] = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
            elif isinstance(part, DataReceived):
                self._bodies[part.stream_id] += part.data
            if isinstance(part, HeadersReceived | DataReceived) and part.stream_ended:
                start(self.answer(part.stream_id, self._bodies.pop(part.stream_id)))

    async def answer(self, stream: int, query: bytes) -> None:
        reply = await resolver.ask(query)
        self._http.send_headers(
            stream,
            [
                (b":status", b"200"),
                (b"content-type", b"application/dns-message"),
                (b"content-length", str(len(reply)).encode()),
            ],
        )
        self._http.send_data(stream, reply, end_stream=True)
        self.transmit()


class Plain(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        start(self.answer(data, addr))

    async def answer(self, query: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(await resolver.ask(query), addr)


async def main(doq: int, h3: int, upstream: int, ready: int, certificate: str, key: str) -> None:
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: resolver, remote_addr=("127.0.0.1", upstream))
    for port, alpn, protocol in ((doq, ["doq"], Doq), (h3, H3_ALPN, H3)):
        configuration = QuicConfiguration(is_client=False, alpn_protocols=alpn, idle_timeout=120)
        configuration.load_cert_chain(certificate, key)
        await serve("127.0.0.1", port, configuration=configuration, create_protocol=protocol)
    await loop.create_datagram_endpoint(Plain, local_addr=("127.0.0.1", ready))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*(int(a) for a in sys.argv[1:5]), *sys.argv[5:]))  # type: ignore[arg-type]
