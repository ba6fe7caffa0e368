"""DNS servers over QUIC of every manner, on aioquic: DoQ, and DoH over HTTP/3."""

from __future__ import annotations

import os
import socket
from base64 import urlsafe_b64decode
from collections.abc import Callable
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import trio
from aioquic.buffer import Buffer
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import HandshakeCompleted, QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset
from aioquic.quic.packet import QuicPacketType, encode_quic_retry, encode_quic_version_negotiation, pull_quic_header
from aioquic.quic.retry import QuicRetryTokenHandler
from aioquic.tls import CipherSuite, Direction, Epoch, SessionTicket
from dns_peers import QUICK, Bench, framed, reply_to

from dohproxy.config.settings import Forwarding
from dohproxy.identity.own import OwnCertificate
from dohproxy.upstream.doh3 import Doh3
from dohproxy.upstream.doq import Doq

Address = tuple[str, int]


class Asked:
    """A question that has come on a stream."""

    def __init__(self, client: Client, stream: int) -> None:
        self.client = client
        self.stream = stream
        self.octets = b""
        self.headers: dict[bytes, bytes] = {}

    @property
    def query(self) -> bytes:
        if not self.headers:
            return self.octets[2:]
        if self.headers[b":method"] == b"POST":
            return self.octets
        (text,) = parse_qs(urlsplit(self.headers[b":path"].decode()).query)["dns"]
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))

    def send(self, octets: bytes, *, end: bool = True) -> None:
        """As they are."""
        self.client.quic.send_stream_data(self.stream, octets, end_stream=end)

    def reply(self, message: bytes, status: bytes = b"200", media: bytes = b"application/dns-message", **more: bytes) -> None:
        if self.client.h3 is None:
            self.send(framed(message))
            return
        headers = [(b":status", status), (b"content-type", media), *((k.encode(), v) for k, v in more.items())]
        self.client.h3.send_headers(self.stream, headers)
        self.client.h3.send_data(self.stream, message, end_stream=True)


Answering = Callable[[Asked], None]


def answer(asked: Asked) -> None:
    """As a good server does."""
    asked.reply(reply_to(asked.query))


def silence(asked: Asked) -> None:
    """Never."""


class Client:
    """A connection that somebody opened."""

    def __init__(self, quic: QuicConnection, *, http: bool) -> None:
        self.quic = quic
        self.http = http
        self.h3: H3Connection | None = None
        self.asked: dict[int, Asked] = {}

    def start(self) -> None:
        if self.http and self.h3 is None:
            self.h3 = H3Connection(self.quic)


class QuicPeer:
    """The server. `answering` is called for each question that has come whole.

    With `retry` it validates addresses first; `streams` is how many a client may have under way; `early` is whether it takes
    0-RTT; while `deaf`, it neither reads nor sends.
    """

    def __init__(
        self,
        answering: Answering = answer,
        *,
        http: bool = False,
        retry: bool = False,
        streams: int = 128,
        early: bool = True,
        requires_certificate: bool = False,
        versions: list[int] | None = None,
    ) -> None:
        self.answering = answering
        self.http = http
        self.retry = retry
        self.streams = streams
        self.early = early
        self.requires_certificate = requires_certificate
        self.versions = versions
        self.deaf = False
        self.port = 0
        self.blocked: set[Address] = set()
        """Whose datagrams are not read any more."""
        self.reset_with = b""
        """What is sent to those who talk of a connection that there is not."""
        self.queries: list[bytes] = []
        self.requests: list[dict[bytes, bytes]] = []
        self.handshakes: list[HandshakeCompleted] = []
        self.cancelled: list[tuple[int, int]] = []
        self.clients: list[Client] = []
        self.peers: set[Address] = set()
        self.datagrams = 0
        self.largest = 0
        self._by_id: dict[bytes, Client] = {}
        self._tickets: dict[bytes, SessionTicket] = {}
        self._tokens = QuicRetryTokenHandler()
        self._changed = trio.Event()

    async def start(self, nursery: trio.Nursery, pair: tuple[Path, Path], address: str = "127.0.0.1") -> QuicPeer:
        self._configuration = QuicConfiguration(
            is_client=False, alpn_protocols=["h3" if self.http else "doq"], idle_timeout=20.0
        )
        if self.versions is not None:
            self._configuration.supported_versions = self.versions
        self._configuration.load_cert_chain(*pair)
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind((address, self.port))
        self.port = self._socket.getsockname()[1]
        nursery.start_soon(self._serve)
        nursery.start_soon(self._watch)
        return self

    def forget_all(self) -> None:
        """As a server that has been started anew."""
        self._by_id.clear()
        self.clients.clear()

    def forget_tickets(self) -> None:
        self._tickets.clear()

    def flush(self) -> None:
        """Send what a test has put into a connection."""
        for client in self.clients:
            self._send(client)

    async def _serve(self) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                with suppress(BlockingIOError):
                    while True:
                        data, peer = self._socket.recvfrom(65536)
                        self.datagrams += 1
                        self.largest = max(self.largest, len(data))
                        if not self.deaf and peer[:2] not in self.blocked:
                            self._receive(data, peer[:2])
        finally:
            self._socket.close()

    async def _watch(self) -> None:
        """Every connection's clock."""
        while True:
            timers = [timer for client in self.clients if (timer := client.quic.get_timer()) is not None]
            self._changed = trio.Event()
            with trio.move_on_at(min(timers, default=inf)):
                await self._changed.wait()
            now = trio.current_time()
            for client in self.clients:
                timer = client.quic.get_timer()
                if timer is not None and timer <= now:
                    client.quic.handle_timer(now)
                    self._handle(client)

    def _receive(self, data: bytes, peer: Address) -> None:
        self.peers.add(peer)
        header = pull_quic_header(Buffer(data=data), host_cid_length=8)
        client = self._by_id.get(header.destination_cid)
        if client is None:
            client = self._welcome(header, peer)
        if client is None and self.reset_with and header.packet_type is QuicPacketType.ONE_RTT:
            self._socket.sendto(self.reset_with, peer)
        if client is not None:
            client.quic.receive_datagram(data, peer, now=trio.current_time())
            self._handle(client)

    def _welcome(self, header, peer: Address) -> Client | None:  # type: ignore[no-untyped-def]
        if header.version not in (None, *self._configuration.supported_versions):
            versions = self._configuration.supported_versions
            packet = encode_quic_version_negotiation(header.destination_cid, header.source_cid, versions)
            self._socket.sendto(packet, peer)
        if header.version not in self._configuration.supported_versions or header.packet_type is not QuicPacketType.INITIAL:
            return None
        original, retried = header.destination_cid, None
        if self.retry:
            if not header.token:
                source = os.urandom(8)
                token = self._tokens.create_token(
                    address=peer,
                    original_destination_connection_id=header.destination_cid,
                    retry_source_connection_id=source,
                    now=trio.current_time(),
                )
                packet = encode_quic_retry(
                    version=header.version,
                    source_cid=source,
                    destination_cid=header.source_cid,
                    original_destination_cid=header.destination_cid,
                    retry_token=token,
                )
                self._socket.sendto(packet, peer)
                return None
            original = self._tokens.validate_token(
                address=peer, destination_cid=header.destination_cid, token=header.token, now=trio.current_time()
            )
            retried = header.destination_cid
        quic = QuicConnection(
            configuration=self._configuration,
            original_destination_connection_id=original,
            retry_source_connection_id=retried,
            session_ticket_fetcher=self._tickets.get,
            session_ticket_handler=lambda ticket: self._tickets.__setitem__(ticket.ticket, ticket),
        )
        quic._local_max_streams_bidi.value = quic._local_max_streams_bidi.sent = self.streams
        if self.requires_certificate:
            self._ask_for_certificate(quic)
        if not self.early:
            self._refuse_early_data(quic)
        client = Client(quic, http=self.http)
        self.clients.append(client)
        self._by_id[header.destination_cid] = self._by_id[quic.host_cid] = client
        return client

    def _ask_for_certificate(self, quic: QuicConnection) -> None:
        initialize = quic._initialize

        def asking(peer_cid: bytes) -> None:
            initialize(peer_cid)
            quic.tls._request_client_certificate = True

        quic._initialize = asking  # type: ignore[method-assign]

    def _refuse_early_data(self, quic: QuicConnection) -> None:
        initialize = quic._initialize

        def refusing(peer_cid: bytes) -> None:
            initialize(peer_cid)
            install = quic.tls.update_traffic_key_cb

            def without_early_keys(direction: Direction, epoch: Epoch, suite: CipherSuite, secret: bytes) -> None:
                if epoch is Epoch.ZERO_RTT:
                    quic.tls.early_data_accepted = False
                else:
                    install(direction, epoch, suite, secret)

            quic.tls.update_traffic_key_cb = without_early_keys

        quic._initialize = refusing  # type: ignore[method-assign]

    def _handle(self, client: Client) -> None:
        while (event := client.quic.next_event()) is not None:
            self._note(client, event)
        for connection_id in client.quic._host_cids:
            self._by_id[connection_id.cid] = client
        self._send(client)

    def _note(self, client: Client, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self.handshakes.append(event)
            if self.requires_certificate and not event.session_resumed and client.quic.tls._peer_certificate is None:
                client.quic.close(error_code=0x100 + 116, frame_type=6, reason_phrase="")
        elif isinstance(event, StopSendingReceived | StreamReset):
            self.cancelled.append((event.stream_id, event.error_code))
            client.asked.pop(event.stream_id, None)
        if self.http:
            client.start()
            for http_event in client.h3.handle_event(event):  # type: ignore[union-attr]
                self._http(client, http_event)
        elif isinstance(event, StreamDataReceived):
            asked = client.asked.setdefault(event.stream_id, Asked(client, event.stream_id))
            asked.octets += event.data
            if event.end_stream:
                self._answer(asked)

    def _http(self, client: Client, event: H3Event) -> None:
        if isinstance(event, HeadersReceived | DataReceived):
            asked = client.asked.setdefault(event.stream_id, Asked(client, event.stream_id))
            if isinstance(event, HeadersReceived):
                asked.headers = dict(event.headers)
            else:
                asked.octets += event.data
            if event.stream_ended:
                self.requests.append(asked.headers)
                self._answer(asked)

    def _answer(self, asked: Asked) -> None:
        asked.client.asked.pop(asked.stream)
        self.queries.append(asked.query)
        self.answering(asked)

    def _send(self, client: Client) -> None:
        now = trio.current_time()
        for data, peer in client.quic.datagrams_to_send(now):
            if self.deaf:
                continue
            with suppress(OSError):  # also of a test that is over
                self._socket.sendto(data, peer)
        self._changed.set()


class QuicBench(Bench):
    """The same, over QUIC."""

    async def quic(
        self, answering: Answering = answer, *, pair: tuple[Path, Path] | None = None, port: int = 0, **manners: Any
    ) -> QuicPeer:
        peer = QuicPeer(answering, **manners)
        peer.port = port
        return await peer.start(self.nursery, pair or self.certificates.good)

    async def doq(self, port: int, forwarding: Forwarding = QUICK, own: OwnCertificate | None = None, **fields: object) -> Doq:
        doq: Doq = await self._run(Doq(self.settings(port, "quic", **fields), forwarding, own=own))
        return doq

    async def doh3(self, port: int, forwarding: Forwarding = QUICK, **fields: object) -> Doh3:
        doh3: Doh3 = await self._run(Doh3(self.settings(port, "h3", **fields), forwarding))
        return doh3
