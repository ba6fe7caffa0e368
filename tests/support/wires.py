"""A whole service whose upstreams are connections of a test's own: real but for the socket, answered when the test says so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dns.message
import dns.rrset
import trio

from dohproxy import build, service
from dohproxy.clock import Clock
from dohproxy.config.load import parse
from dohproxy.config.settings import Forwarding, Upstream
from dohproxy.errors import Disconnected
from dohproxy.model import Transport
from dohproxy.protocol.dns_stream import DnsStream
from dohproxy.service import Service
from dohproxy.telemetry.counters import Counters
from dohproxy.upstream.connection import Connection, State
from dohproxy.upstream.pool import Pool
from dohproxy.wire.framing import Unframer, frame


class WireConnection(Connection):
    """Open at once; what is asked waits in `asked`."""

    _session: DnsStream

    async def _live(self) -> None:
        self._admit()
        await trio.sleep_forever()

    async def _write(self) -> None:
        await trio.sleep_forever()

    def _close(self) -> None:
        pass

    def take(self) -> list[dns.message.Message]:
        """What was asked since."""
        return [dns.message.from_wire(wire) for wire in Unframer().receive_untrusted(b"".join(self._session.take()))]

    def receive(self, wire: bytes) -> None:
        """Octets of an answer."""
        self._active = self._heard = trio.current_time()
        for received in self._session.receive_untrusted(frame(wire)):
            self._deliver(received)
        self._end_if_done()

    def break_off(self) -> None:
        self._end(Disconnected("cut"))


class WirePool(Pool):
    """The questions that wait at this upstream, the eldest first."""

    transport = Transport.DOT

    def __init__(self, upstream: Upstream, forwarding: Forwarding) -> None:
        super().__init__(upstream, forwarding)
        self.asked: list[tuple[dns.message.Message, WireConnection]] = []
        self.count = 0
        """Of the questions of all time, but for probes."""

    def _connection(self) -> WireConnection:
        ids = iter(range(65536))
        return WireConnection(self._route, DnsStream(lambda: next(ids), pipeline=100, checking_disabled=False))

    def look(self) -> None:
        for connection in self._connections:
            if connection.state is State.CLOSED:
                continue
            for message in connection.take():  # type: ignore[attr-defined]
                if message.question[0].name == dns.name.root:
                    connection.receive(answer_to(message, ". 300 IN NS ns.example."))  # type: ignore[attr-defined]
                else:
                    self.count += 1
                    self.asked.append((message, connection))  # type: ignore[arg-type]

    def next(self) -> tuple[dns.message.Message, WireConnection] | None:
        """The eldest question that can still be answered, which is then for the caller to answer."""
        self.look()
        while self.asked:
            message, connection = self.asked.pop(0)
            if connection.state is not State.CLOSED and message.id in {*connection._session._asked}:
                return message, connection
        return None


def answer_to(query: dns.message.Message, *records: str, rcode: int = 0, authority: str = "") -> bytes:
    reply = dns.message.make_response(query)
    reply.set_rcode(rcode)
    for section, lines in ((reply.answer, records), (reply.authority, (authority,) if authority else ())):
        for line in lines:
            owner, ttl, _, rdtype, rdata = line.split(maxsplit=4)
            section.append(dns.rrset.from_text(owner, int(ttl), "IN", rdtype, rdata))
    return reply.to_wire()


@contextmanager
def wired() -> Iterator[dict[str, WirePool]]:
    """Services that are made meanwhile have these upstreams, and the clock of trio."""
    pools: dict[str, WirePool] = {}

    def opened(upstream: Upstream, forwarding: Forwarding, **_: Any) -> WirePool:
        return pools.setdefault(upstream.name, WirePool(upstream, forwarding))

    def clock() -> Clock:
        return Clock(trio.current_time, trio.current_time)

    with patch.object(build, "open_upstream", opened), patch.object(service, "Clock", clock):
        yield pools


@asynccontextmanager
async def serving(config: str) -> AsyncIterator[tuple[Service, Counters, dict[str, WirePool]]]:
    """The service, while it runs."""
    counters = Counters()
    with wired() as pools:
        made = Service(parse(config, "wires.toml", Path.cwd()), [counters])
        async with trio.open_nursery() as nursery:
            await nursery.start(made.run)
            yield made, counters, pools
            nursery.cancel_scope.cancel()
