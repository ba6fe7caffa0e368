"""Fronts of tests, which answer in their own way."""

from __future__ import annotations

from collections.abc import Callable

from dohproxy.courses import Courses
from dohproxy.model import Peer, Transport


class Begins:
    """Has `begin` do as `answer` does, in a course."""

    async def answer(self, wire: bytes, peer: Peer, transport: Transport) -> bytes:
        raise NotImplementedError

    def begin(self, wire: bytes, peer: Peer, transport: Transport, courses: Courses, done: Callable[[bytes], None]) -> None:
        courses.begin(self._answered(wire, peer, transport, done))

    async def _answered(self, wire: bytes, peer: Peer, transport: Transport, done: Callable[[bytes], None]) -> None:
        reply = b""
        try:
            reply = await self.answer(wire, peer, transport)
        finally:
            done(reply)
