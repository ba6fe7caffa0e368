"""One question under way on a connection, and whoever waits for its answer."""

from __future__ import annotations

from typing import Protocol

import trio
from msgspec import Struct

from dohproxy.courses import Course, parked, stepped
from dohproxy.errors import ResolveError, UpstreamFailed
from dohproxy.model import Answer, Question, Transport
from dohproxy.upstream.addresses import Addresses
from dohproxy.upstream.answers import answer_from


class Route(Struct, frozen=True):
    """Where a connection leads, and its times in seconds."""

    upstream: str
    transport: Transport
    addresses: Addresses
    port: int
    connect_timeout: float
    idle_timeout: float
    pipeline: int
    """Questions that may wait for a connection that is not open yet."""


class Line(Protocol):
    """The connection, as its exchanges know it."""

    route: Route

    def now(self) -> float:
        """Monotonic time in seconds."""
        ...

    def expect(self, until: float) -> None:
        """Somebody waits until then."""
        ...

    def forget(self, exchange: Exchange) -> None:
        """Its answer is not wanted any more."""
        ...

    def heard_since(self, began: float) -> bool:
        """Whether the server has said anything after that."""
        ...


class Exchange(Struct, eq=False):
    """One question under way on a connection."""

    _connection: Line
    question: Question
    cd: bool
    began: float
    """When it was asked, or put into the queue."""
    key: int = -1
    """The session's; -1 while it has not begun."""
    until: float = 0.0
    """When whoever waits has waited long enough."""
    _waiter: Course | trio.lowlevel.Task | None = None
    _reply: bytes | ResolveError | None = None
    _age: int = 0

    async def answer(self, until: float) -> Answer | None:
        """The answer, or None if there is none by the monotonic time `until`: then ask again, or drop it.

        Raises Disconnected, NoReachableUpstream or UpstreamFailed. A caller that is cancelled drops the exchange.
        """
        if self._reply is None:
            self.until = until
            self._connection.expect(until)
            await self._settled()
        if self._reply is None:
            return None
        if isinstance(self._reply, ResolveError):
            raise self._reply
        return self.made(self._connection.now())

    def leave_to(self, course: Course, until: float) -> Exchange | None:
        """Have the course go on with it, instead of whoever would await `answer`."""
        if self._reply is not None:
            return None
        self.until, self._waiter = until, course
        self._connection.expect(until)
        return self

    def made(self, now: float) -> Answer:
        """The answer of the reply that is there, born by the clock that says `now`; raises UpstreamFailed."""
        route, reply = self._connection.route, self._reply
        if not isinstance(reply, bytes):
            raise UpstreamFailed("there is no reply")
        return answer_from(reply, route.upstream, route.transport, now - self._age)

    async def octets(self, until: float) -> bytes | None:
        """As `answer`, and as it came: of what is no DNS message."""
        if self._reply is None:
            self.until = until
            self._connection.expect(until)
            await self._settled()
        if isinstance(self._reply, ResolveError):
            raise self._reply
        return self._reply

    def drop(self) -> None:
        """Nobody wants the answer any more; does nothing to an exchange that is over."""
        if self._reply is None:
            self._connection.forget(self)

    async def _settled(self) -> None:
        """Returns when there is a reply, or it is too late."""
        self._waiter = course = stepped()
        if course is None:
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
            return
        try:
            await parked()
        except GeneratorExit:
            self._abort()
            raise

    def settle(self, reply: bytes, age: int) -> None:
        """It is answered: a course goes on here and now."""
        self._reply, self._age = reply, age
        if isinstance(self._waiter, Course):
            course, self._waiter = self._waiter, None
            course.step()
        else:
            self.wake()

    def fail(self, error: ResolveError) -> None:
        """It will not be answered."""
        self._reply = error
        self.wake()

    def wake(self) -> None:
        """Let who waits see soon what there is: not now, as the connection is in the midst of things."""
        waiter, self._waiter = self._waiter, None
        if isinstance(waiter, Course):
            waiter.go_on()
        elif waiter is not None:
            trio.lowlevel.reschedule(waiter)

    @property
    def silent(self) -> bool:
        """Whether nothing at all was heard on its connection since it was asked."""
        return not self._connection.heard_since(self.began)

    def move(self, connection: Line) -> None:
        """Wait for another connection."""
        self._connection = connection
        if self.waits:
            connection.expect(self.until)

    @property
    def waits(self) -> bool:
        """Whether a course or a task is parked in it."""
        return self._waiter is not None

    def _abort(self, _: object = None) -> trio.lowlevel.Abort:
        self._waiter = None
        self.drop()
        return trio.lowlevel.Abort.SUCCEEDED
