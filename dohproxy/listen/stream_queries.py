"""The queries of one connection on whose streams each is asked and answered: recalled, under way, or waiting for room."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

import trio

from dohproxy.contained import contained, tell
from dohproxy.courses import Alone
from dohproxy.listen.intake import Intake, Room
from dohproxy.model import Attested, Peer, Transport
from dohproxy.wire.padding import padded, wants_padding

Put = Callable[[int, bytes], None]
"""Takes the answer to what was asked on a stream; b"" where silence is the answer."""
Asked = tuple[int, bytes, Put]


class StreamQueries:
    """Asks on behalf of `peer`, which may change, until `cancel`. `settled` is called whenever none is left, `spoilt` after a
    defect, which ends the connection.

    Where there is no room for a query, it and those that follow wait in a row: as many as the connection may have streams.
    """

    def __init__(
        self,
        peer: Peer,
        transport: Transport,
        intake: Intake,
        nursery: trio.Nursery,
        settled: Callable[[], None],
        spoilt: Callable[[], None],
    ) -> None:
        self.peer = peer
        self._transport, self._intake, self._nursery = transport, intake, nursery
        self._settled, self._spoilt = settled, spoilt
        self._counters, self._front = intake.counters, intake.front
        self._under_way: dict[int, Alone] = {}
        self._waiting: deque[Asked] = deque()
        self._admitting: trio.CancelScope | None = None

    def __len__(self) -> int:
        return len(self._under_way) + len(self._waiting)

    def ask(self, stream: int, wire: bytes, put: Put) -> None:
        """Answer at once if the reply is at hand; otherwise as soon as there is one."""
        if reply := self._front.recall(wire, self.peer, self._transport):
            self._counters.hits += 1
            self._put(stream, wire, reply, put)
            return
        if self._waiting or not (room := self._room()).enter():
            self._waiting.append((stream, wire, put))
            self._admit()
        else:
            self._start((stream, wire, put), room)

    def withdraw(self, stream: int) -> bool:
        """Nobody waits for the answer on this stream any longer; whether anybody did."""
        if (alone := self._under_way.pop(stream, None)) is not None:
            alone.close()
        else:
            waiting = [asked for asked in self._waiting if asked[0] == stream]
            if not waiting:
                return False
            self._waiting.remove(waiting[0])
        return True

    def cancel(self) -> None:
        """Nobody waits for any."""
        under_way, self._under_way = self._under_way, {}
        self._waiting.clear()
        for alone in under_way.values():
            alone.close()
        if self._admitting is not None:
            self._admitting.cancel()

    def _room(self) -> Room:
        return self._intake.room(self.peer.address if isinstance(self.peer, Attested) else self.peer)

    def _admit(self) -> None:
        if self._admitting is None:
            self._admitting = trio.CancelScope()
            self._nursery.start_soon(self._admit_waiting, self._admitting)

    async def _admit_waiting(self, scope: trio.CancelScope) -> None:
        with contained("the queue of a client's queries", self._spoilt), scope:
            while self._waiting:
                room = self._room()
                await room.wait()
                if self._waiting:
                    self._start(self._waiting.popleft(), room)
                else:
                    room.leave()
        self._admitting = None

    def _start(self, asked: Asked, room: Room) -> None:
        stream, wire, _ = asked
        self._counters.misses += 1
        alone = self._under_way[stream] = Alone(self._nursery)
        try:
            self._front.begin(wire, self.peer, self._transport, alone, partial(self._answered, asked, room, alone))
        except Exception:
            room.leave()
            raise

    def _answered(self, asked: Asked, room: Room, alone: Alone, reply: bytes) -> None:
        """Pass the reply on, if it is still wanted. Raises nothing, for who tells it is innocent."""
        room.leave()
        stream, wire, put = asked
        if self._under_way.get(stream) is not alone:
            return
        del self._under_way[stream]
        try:
            self._put(stream, wire, reply, put)
        except Exception as defect:  # noqa: BLE001 -- told
            tell("a reply", defect)
            self._spoilt()

    def _put(self, stream: int, wire: bytes, reply: bytes, put: Put) -> None:
        if reply:
            self._counters.rcodes[reply[3] & 15] += 1
        put(stream, padded(reply) if reply and wants_padding(wire) else reply)
        if not self:
            self._settled()
