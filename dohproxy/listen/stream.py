"""DNS over one stream (RFC 7766, RFC 7858): a reader task, a writer task, and a course for each query that is under way."""

from __future__ import annotations

import math
from collections import deque
from functools import partial

import trio

from dohproxy import courses
from dohproxy.contained import tell
from dohproxy.errors import MalformedMessage
from dohproxy.listen.intake import Intake, Room
from dohproxy.model import Attested, Peer, Transport
from dohproxy.wire.framing import Unframer, frame
from dohproxy.wire.keepalive import wants_keepalive, with_keepalive
from dohproxy.wire.padding import padded, wants_padding

HEADER = 12
"""Octets (RFC 1035 4.1.1)."""
READ = 16384
"""Octets asked for at once."""
WRITE = 65536
"""Octets of answers, more or less, that are sent at once, and must be taken within the idle time-out."""


class StreamConnection:
    """One client's connection: queries are taken as they come, answers leave as they are ready (RFC 7766 6.2.1.1, 7).

    It ends when the client is done and has its answers, when no query was under way for the idle time-out (6.2.3), when
    a message is not complete or an answer not taken within that time, when a message is too short to be one, or when it
    is told to. `stop` and `close` may be called at any time.
    """

    def __init__(self, stream: trio.abc.Stream, peer: Peer, transport: Transport, intake: Intake) -> None:
        self.host = peer.address if isinstance(peer, Attested) else peer
        self._peer = peer
        self.idle_since = trio.current_time()
        """When the last answer left; math.inf while queries are under way."""
        self._stream = stream
        self._transport = transport
        self._encrypted = transport is not Transport.TCP
        self._front = intake.front
        self._intake = intake
        self._counters = intake.counters
        self._patience = intake.limits.tcp_idle_timeout
        self._pipeline = intake.limits.tcp_pipeline
        self._open = 0
        """Queries taken whose answers have not left."""
        self._unframer = Unframer()
        self._message_began = 0.0
        self._outgoing: deque[bytes] = deque()
        self._ended = False
        """Whether no more queries will be taken."""
        self._room = trio.lowlevel.ParkingLot()
        self._to_write = trio.lowlevel.ParkingLot()
        self._reading = trio.CancelScope()
        self._all = trio.CancelScope()

    @property
    def idle(self) -> bool:
        """Whether no query is under way."""
        return not self._open

    async def run(self) -> None:
        """Serve the connection to its end, and close it."""
        try:
            with self._all:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write)
                    async with courses.owned() as begun:
                        with self._reading:
                            await self._read(begun)
                        self._end()
        except* (trio.BrokenResourceError, MalformedMessage):
            self._counters.tcp_broken += 1
        finally:
            await trio.aclose_forcefully(self._stream)

    def stop(self) -> None:
        """Take no more queries; the answers to those under way still leave."""
        self._reading.cancel()

    def close(self) -> None:
        """End at once."""
        self._all.cancel()

    def _end(self) -> None:
        self._ended = True
        self._to_write.unpark()
        if self._unframer.amid_message:
            self._counters.tcp_broken += 1

    async def _read(self, begun: courses.Courses) -> None:
        self._wait_for_more()
        while octets := await self._stream.receive_some(READ):
            amid_message = self._unframer.amid_message
            wires = self._unframer.receive_untrusted(bytes(octets))
            if wires or not amid_message:
                self._message_began = trio.current_time()
            for wire in wires:
                await self._take(wire, begun)
            self._wait_for_more()

    async def _take(self, wire: bytes, begun: courses.Courses) -> None:
        """Begin a query once there is room for it, in this connection and in all."""
        if len(wire) < HEADER:
            raise MalformedMessage(f"a message of {len(wire)} octets")
        self._count()
        self._open += 1
        self.idle_since = self._reading.deadline = math.inf
        try:
            while self._open > self._pipeline:
                await self._room.park()
            if reply := self._front.recall(wire, self._peer, self._transport):
                self._counters.hits += 1
                self._put(wire, reply)
                return
            room = self._intake.room(self.host)
            await room.wait()
        except trio.Cancelled:
            self._leave(1)
            raise
        self._counters.misses += 1
        try:
            self._front.begin(wire, self._peer, self._transport, begun, partial(self._answered, wire, room))
        except Exception:
            room.leave()
            raise

    def _wait_for_more(self) -> None:
        """Set how long the client may take: to complete a message, or to ask again."""
        if self._unframer.amid_message:
            self._reading.deadline = self._message_began + self._patience
        elif not self._open:
            self._reading.deadline = self.idle_since + self._patience

    def _answered(self, wire: bytes, room: Room, reply: bytes) -> None:
        """Take the reply, to be sent soon. Raises nothing, for who tells it is innocent; a defect ends the connection."""
        room.leave()
        try:
            self._put(wire, reply)
        except Exception as defect:  # noqa: BLE001 -- told
            tell("a reply", defect)
            self.close()

    def _count(self) -> None:
        if self._encrypted:
            self._counters.dot_queries += 1
        else:
            self._counters.tcp_queries += 1

    def _put(self, wire: bytes, reply: bytes) -> None:
        """Have the writer send a reply; there is nothing to send where silence is the answer."""
        if reply:
            if wants_keepalive(wire):
                reply = with_keepalive(reply, 0.0 if self._ended else self._patience)
            if self._encrypted and wants_padding(wire):
                reply = padded(reply)
            self._counters.rcodes[reply[3] & 15] += 1
            self._outgoing.append(frame(reply))
        else:
            self._leave(1)
        self._to_write.unpark()

    async def _write(self) -> None:
        while not (self._ended and not self._open):
            if not self._outgoing:
                await self._to_write.park()
                continue
            batch = self._next_batch()
            with trio.move_on_after(self._patience) as sending:
                await self._stream.send_all(b"".join(batch))
            if sending.cancelled_caught:
                raise trio.BrokenResourceError("the client does not read")
            self._leave(len(batch))

    def _next_batch(self) -> list[bytes]:
        batch, size = [], 0
        while self._outgoing and size < WRITE:
            batch.append(self._outgoing.popleft())
            size += len(batch[-1])
        return batch

    def _leave(self, count: int) -> None:
        """Note that this many queries are done with."""
        self._open -= count
        self._room.unpark(count=count)
        if not self._open:
            self.idle_since = trio.current_time()
            self._wait_for_more()
