"""A target and a relay of Oblivious DoH (RFC 9230), written from the RFC on pyhpke, apart from what they test."""

from __future__ import annotations

import hmac
import os
import ssl
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from dns_peers import Messages, Peer, reply_to
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded
from http2_peers import Http2, Request
from pyhpke import AEADId, CipherSuite, KDFId, KEMId

MEDIA = b"application/oblivious-dns-message"
SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.AES128_GCM)

Seal = Callable[..., bytes]


def vector(octets: bytes) -> bytes:
    return len(octets).to_bytes(2, "big") + octets


class OdohTarget:
    """One key, and what is opened and sealed with it."""

    def __init__(self) -> None:
        pair = SUITE.kem.derive_key_pair(os.urandom(32))
        self._private = pair.private_key
        contents = bytes.fromhex("002000010001") + vector(pair.public_key.to_public_bytes())
        self.configs = vector(b"\0\1" + vector(contents))
        self.key_id = HKDF(hashes.SHA256(), 32, None, b"odoh key id").derive(contents)

    def open(self, octets: bytes) -> tuple[bytes, Seal]:
        """The query, and what seals its answer; KeyError for another key."""
        assert octets[0] == 1
        key_id, rest = octets[3:35], octets[35:]
        if key_id != self.key_id:
            raise KeyError(key_id)
        assert octets[1:3] == b"\0\x20"
        assert int.from_bytes(rest[:2], "big") == len(rest) - 2
        enc, sealed = rest[2:34], rest[34:]
        context = SUITE.create_recipient_context(enc, self._private, b"odoh query")
        plain = context.open(sealed, b"\1" + vector(key_id))
        size = int.from_bytes(plain[:2], "big")
        secret = context.export(b"odoh response", 16)

        def seal(answer: bytes, *, padding: int = 0, filler: bytes = b"\0", more: bytes = b"") -> bytes:
            nonce = os.urandom(16)
            salt = plain + vector(nonce)
            prk = hmac.digest(salt, secret, "sha256")  # RFC 5869 2.2
            key = HKDFExpand(hashes.SHA256(), 16, b"odoh key").derive(prk)
            iv = HKDFExpand(hashes.SHA256(), 12, b"odoh nonce").derive(prk)
            body = vector(answer) + vector(filler * padding) + more
            return b"\2" + vector(nonce) + vector(AESGCM(key).encrypt(iv, body, b"\2" + vector(nonce)))

        return plain[2 : 2 + size], seal


async def _same_for_all(query: bytes) -> bytes:
    return reply_to(query)


class TargetServer:
    """HTTP/2 as a target speaks it: keys at the well-known place, and oblivious messages at /dns-query."""

    def __init__(self, reply: Callable[[bytes], Awaitable[bytes]] = _same_for_all) -> None:
        self.target = OdohTarget()
        self._reply = reply
        self.key_requests = 0
        self.queries: list[bytes] = []

    async def answer(self, http: Http2, stream_id: int, request: Request) -> None:
        if request.headers[b":path"] == b"/.well-known/odohconfigs":
            self.key_requests += 1
            await http.respond(stream_id, self.target.configs, media=b"application/octet-stream")
            return
        assert request.headers[b":path"] == b"/dns-query"
        assert request.headers[b"content-type"] == MEDIA
        try:
            query, seal = self.target.open(request.body)
        except KeyError:
            await http.respond(stream_id, b"", status=b"401", media=b"text/plain")
            return
        self.queries.append(query)
        await http.respond(stream_id, seal(await self._reply(query)), media=MEDIA)


class Relay:
    """HTTP/2 as a relay speaks it: passes on to the target that it is told, over TLS, and keeps all that it sees."""

    def __init__(self, context: ssl.SSLContext, ports: dict[str, int]) -> None:
        self._context, self._ports = context, ports
        self.seen: list[bytes] = []
        self.paths: list[bytes] = []

    async def answer(self, http: Http2, stream_id: int, request: Request) -> None:
        self.paths.append(request.headers[b":path"])
        self.seen += [request.body, *(name + value for name, value in request.headers.items())]
        told = parse_qs(urlsplit(request.headers[b":path"].decode()).query)
        (host,), (path,) = told["targethost"], told["targetpath"]
        status, media, body = await self._ask(host, path, request.body)
        self.seen.append(body)
        await http.respond(stream_id, body, status=status, media=media)

    async def _ask(self, host: str, path: str, body: bytes) -> tuple[bytes, bytes, bytes]:
        name = host.partition(":")[0]
        tcp = await trio.open_tcp_stream("127.0.0.1", self._ports[host])
        stream = trio.SSLStream(tcp, self._context, server_hostname=name, https_compatible=True)
        try:
            return await _one_request(stream, host, path, body)
        finally:
            await trio.aclose_forcefully(stream)


async def _one_request(
    stream: trio.SSLStream[trio.SocketStream], host: str, path: str, body: bytes
) -> tuple[bytes, bytes, bytes]:
    h2 = H2Connection(H2Configuration(header_encoding=None))
    h2.initiate_connection()
    names = {":method": "POST", ":scheme": "https", ":authority": host, ":path": path, "content-type": MEDIA.decode()}
    h2.send_headers(1, [*names.items(), ("content-length", str(len(body)))])
    h2.send_data(1, body, end_stream=True)
    status, media, received = b"", b"", b""
    while True:
        await stream.send_all(h2.data_to_send())
        for event in h2.receive_data(await stream.receive_some()):
            if isinstance(event, ResponseReceived):
                headers = dict(event.headers)
                status, media = headers[b":status"], headers[b"content-type"]
            elif isinstance(event, DataReceived):
                received += event.data
            elif isinstance(event, StreamEnded):
                return status, media, received


async def _ask(query: bytes, port: int) -> bytes:
    """What the server at this port of 127.0.0.1 says by TCP."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(vector(query))
        return await Messages(stream).next()


class OdohServers:
    """A target that asks another server, and a relay before it, in a thread of their own until the block ends."""

    def __init__(self, certificate: tuple[Path, Path], ca_file: Path, ask_port: int) -> None:
        self._certificate, self._ca_file, self._ask_port = certificate, ca_file, ask_port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))
        self.target_port = self.relay_port = 0

    async def _serve(self) -> None:
        serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        serving.load_cert_chain(*self._certificate)
        trusting = ssl.create_default_context(cafile=self._ca_file)
        for context in (serving, trusting):
            context.set_alpn_protocols(["h2"])
        target = TargetServer(partial(_ask, port=self._ask_port))
        async with trio.open_nursery() as nursery:
            self._stop = partial(trio.lowlevel.current_trio_token().run_sync_soon, nursery.cancel_scope.cancel)
            self.target_port = (await Peer(Http2(target.answer)).start(nursery, serving)).port
            relay = Relay(trusting, {f"unbound.peers:{self.target_port}": self.target_port})
            self.relay_port = (await Peer(Http2(relay.answer)).start(nursery, serving)).port
            self._ready.set()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join()
