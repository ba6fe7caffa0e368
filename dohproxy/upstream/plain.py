"""Plain DNS over UDP and TCP (RFC 1035 4.2, RFC 7766): for zones that are configured with `plaintext = true` only."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import trio

from dohproxy.config import settings
from dohproxy.courses import Course, as_task
from dohproxy.errors import NoReachableUpstream, NotReady, Overloaded, UpstreamFailed
from dohproxy.model import Answer, Query, Transport
from dohproxy.protocol.dns_stream import DnsStream
from dohproxy.protocol.session import answers, question_octets
from dohproxy.upstream.answers import answer_from, answered
from dohproxy.upstream.dot import random_id
from dohproxy.upstream.exchange import Exchange
from dohproxy.upstream.pool import StreamPool
from dohproxy.upstream.tls import Layer, Plain
from dohproxy.wire.constants import MAX_MESSAGE
from dohproxy.wire.query import build_query

_TC = 0x02
"""In the third octet of a message."""


class Tcp(StreamPool):
    """An upstream of scheme `tcp`."""

    transport = Transport.TCP

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        *,
        checking_disabled: bool = True,
        random_id: Callable[[], int] = random_id,
    ) -> None:
        super().__init__(upstream, forwarding)
        self._pipeline = forwarding.pipeline
        self._cd = checking_disabled
        self._random_id = random_id

    def _session(self) -> DnsStream:
        return DnsStream(self._random_id, pipeline=self._pipeline, checking_disabled=self._cd, pad_to=0)

    def _layer(self) -> Layer:
        return Plain()


class Udp:
    """An upstream of scheme `udp`: each question from a socket, and so a port, of its own (RFC 5452 9.2).

    A truncated answer is asked for again over TCP. Serves while `run` runs.
    """

    def __init__(
        self,
        upstream: settings.Upstream,
        forwarding: settings.Forwarding,
        *,
        checking_disabled: bool = True,
        random_id: Callable[[], int] = random_id,
    ) -> None:
        self.name = upstream.name
        self.tcp = Tcp(upstream, forwarding, checking_disabled=checking_disabled, random_id=random_id)
        self._addresses = upstream.addresses
        self._port = upstream.port
        self._cd = checking_disabled
        self._random_id = random_id
        self._room = forwarding.connections * forwarding.pipeline
        self._turn = 0
        self._running = False

    def __repr__(self) -> str:
        return f"<Udp {self.name}: room for {self._room}; {self.tcp!r}>"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns the TCP connections until it is cancelled."""
        self._running = True
        try:
            await self.tcp.run(task_status)
        finally:
            self._running = False

    async def resolve(self, query: Query) -> Answer:
        """The upstream's answer, whatever its RCODE; raises ResolveError."""
        return await answered(self.begin(query), self.name, query.deadline)

    def begin(self, query: Query) -> UdpExchange:
        """Ask. Raises NotReady, Overloaded and NoReachableUpstream."""
        if not self._running:
            raise NotReady(f"{self.name} is not running")
        if self._room <= 0:
            raise Overloaded(f"{self.name}: too many questions wait already")
        exchange = UdpExchange(self, query, self._random_id(), checking_disabled=self._cd)
        self._room -= 1
        try:
            exchange.send(self._addresses[self._turn % len(self._addresses)], self._port)
        except OSError as error:
            self.failed()
            exchange.drop()
            raise NoReachableUpstream(error.strerror or str(error)) from error
        return exchange

    def renew(self) -> None:
        """The network is another one: see Pool."""
        self.tcp.renew()

    def release(self) -> None:
        """An exchange is over."""
        self._room += 1

    def failed(self) -> None:
        """The address in use does not answer: the next has its turn."""
        self._turn += 1


class UdpExchange:
    """One question under way in a socket of its own."""

    def __init__(self, upstream: Udp, query: Query, id: int, *, checking_disabled: bool) -> None:
        self._upstream = upstream
        self._query = query
        self._question = question_octets(query.question)
        self._message = build_query(query.question, id, cd=checking_disabled or query.cd, pad_to=0)
        self._socket: socket.socket | None = None
        self._over_tcp: Exchange | None = None

    def send(self, address: str, port: int) -> None:
        """Raises OSError. The kernel lets only that address and port answer a connected socket."""
        self._socket = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect((address, port))
        self._socket.send(self._message)

    async def answer(self, until: float) -> Answer | None:
        """The answer, or None if there is none by then. Raises NoReachableUpstream or UpstreamFailed."""
        if self._over_tcp is not None:
            return await self._over_tcp.answer(until)
        reply = None
        await as_task()
        try:
            with trio.move_on_at(until):
                reply = await self._receive()
        except BaseException:
            self.drop()
            raise
        if reply is None:
            self._upstream.failed()
            return None
        self._finish()
        if reply[2] & _TC:
            self._over_tcp = self._upstream.tcp.begin(self._query)
            return await self._over_tcp.answer(until)
        return answer_from(reply, self._upstream.name, Transport.UDP, trio.current_time())

    async def _receive(self) -> bytes:
        """The reply to just this question; whatever else comes is a forgery and no reason to stop (RFC 5452 9.1)."""
        if self._socket is None:
            raise UpstreamFailed("the exchange is over")
        try:
            reply = b""
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                with suppress(BlockingIOError):
                    reply = self._socket.recv(MAX_MESSAGE)
                if reply[:2] == self._message[:2] and answers(reply, self._question):
                    return reply
        except OSError as error:
            self._upstream.failed()
            raise NoReachableUpstream((error.strerror or str(error)).lower()) from error

    def leave_to(self, course: Course, until: float) -> None:
        """It takes a task: `answer` is to be awaited."""

    @property
    def silent(self) -> bool:
        """Whether nothing was heard since it was asked."""
        return self._over_tcp is None or self._over_tcp.silent

    def drop(self) -> None:
        """Nobody wants the answer any more; does nothing to an exchange that is over."""
        self._finish()
        if self._over_tcp is not None:
            self._over_tcp.drop()

    def _finish(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._message:
            self._message = b""
            self._upstream.release()
