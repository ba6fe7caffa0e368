"""Clients over QUIC for tests: aioquic on a socket of our own, moved on only while a test waits for something."""

from __future__ import annotations

import socket
from collections import defaultdict

import trio
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.tls import load_pem_private_key, load_pem_x509_certificates

from dohproxy.identity.own import KeyPair


class Held:
    """An OwnCertificate, or Authorities, that a test may replace."""

    def __init__(self, value):
        self.value = value

    def current(self):
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def own(credentials):
    return Held(KeyPair(credentials.certificate, credentials.key))


def quic_configuration(ca, alpn, *, credentials=None, name="localhost", **fields):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name=name, cadata=ca, **fields)
    if credentials is not None:
        configuration.certificate, *configuration.certificate_chain = load_pem_x509_certificates(credentials.certificate)
        configuration.private_key = load_pem_private_key(credentials.key)
    return configuration


class QuicCaller:
    """One connection. `data`, `ended` and `resets` are by stream; `closed` is the ConnectionTerminated, once it is there."""

    def __init__(self, address, configuration, bind="", **fields):
        self.address = address
        self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = self._open(bind)
        self.tickets = []
        self.quic = QuicConnection(configuration=configuration, session_ticket_handler=self.tickets.append, **fields)
        self.data, self.ended, self.resets = defaultdict(bytes), set(), {}
        self.ready = None
        self.closed = None
        self.received = []
        self.sent = 0
        self.seen = []

    def _open(self, bind):
        sock = socket.socket(self.family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind((bind or ("::1" if self.family == socket.AF_INET6 else "127.0.0.1"), 0))
        return sock

    def move(self, bind=""):
        """Come from another port from now on (NAT rebinding)."""
        self.sock.close()
        self.sock = self._open(bind)

    def close(self):
        self.sock.close()

    def flush(self):
        for datagram, _ in self.quic.datagrams_to_send(trio.current_time()):
            self.sent += len(datagram)
            self.sock.sendto(datagram, self.address[:2])

    def take(self):
        while True:
            try:
                datagram, source = self.sock.recvfrom(65535)
            except (BlockingIOError, ConnectionRefusedError):
                return
            self.received.append((len(datagram), source))
            self.quic.receive_datagram(datagram, self.address, trio.current_time())

    def heed(self):
        while (event := self.quic.next_event()) is not None:
            self.seen.append(event)
            if isinstance(event, events.HandshakeCompleted):
                self.ready = event
            elif isinstance(event, events.ConnectionTerminated):
                self.closed = event
            elif isinstance(event, events.StreamDataReceived):
                self.data[event.stream_id] += event.data
                if event.end_stream:
                    self.ended.add(event.stream_id)
            elif isinstance(event, events.StreamReset):
                self.resets[event.stream_id] = event.error_code

    async def until(self, condition, seconds=5):
        """Move on until something holds, or the connection is closed; whether it holds."""
        self.heed()
        with trio.fail_after(seconds):
            while not condition() and self.closed is None:
                self.flush()
                now = trio.current_time()
                at = self.quic.get_timer()
                with trio.move_on_at(now + 1 if at is None else max(at, now + 0.001)):
                    await trio.lowlevel.wait_readable(self.sock)
                self.take()
                now = trio.current_time()
                if (at := self.quic.get_timer()) is not None and now >= at:
                    self.quic.handle_timer(now)
                self.heed()
        self.flush()
        return condition()

    async def pause(self, seconds=0.05):
        """Move on for a while."""
        end = trio.current_time() + seconds
        with trio.move_on_at(end):
            await self.until(lambda: False, seconds + 1)

    async def connect(self):
        self.quic.connect(self.address, trio.current_time())
        return await self.until(lambda: self.ready is not None)

    def send(self, data, end=True, stream=None):
        if stream is None:
            stream = self.quic.get_next_available_stream_id()
        self.quic.send_stream_data(stream, data, end)
        return stream

    async def over(self, stream):
        """Wait for the end of a stream: its data; None if it was reset or the connection closed."""
        await self.until(lambda: stream in self.ended or stream in self.resets)
        return self.data.pop(stream, b"") if stream in self.ended else None

    async def ask(self, message):
        """By DNS over QUIC."""
        reply = await self.over(self.send(len(message).to_bytes(2) + message))
        return reply and reply[2:]


async def settled(condition):
    with trio.fail_after(5):
        while not condition():
            await trio.lowlevel.checkpoint()
