"""Upstreams that do what they are told, in a group that runs."""

from __future__ import annotations

from collections.abc import Callable

import trio
from stages import answer
from trio.testing import wait_all_tasks_blocked

from dohproxy.config.settings import Forwarding
from dohproxy.errors import NotReady, Overloaded, ResolveError
from dohproxy.model import Answer, Query
from dohproxy.resolve.selected import Group

GOOD = answer("www.example. 300 A 192.0.2.1")
OTHER = answer("www.example. 300 A 192.0.2.2")
SILENCE = float("inf")

Manner = Answer | ResolveError | tuple[float, Answer | ResolveError] | float
"""What a question gets: an answer or error at once, or after so many seconds; or silence."""


class Fake:
    """An upstream that does what it is told: each manner once, the last for ever."""

    def __init__(self, name: str, *manners: Manner) -> None:
        self.name = name
        self.manners = list(manners)
        self.asked: list[Query] = []
        self.probes = 0
        self.probed: Manner | None = None
        """What probes get, unless it is what the next question does."""
        self.dropped = 0
        self.renewed = 0
        self.spoke = float("-inf")

    def begin(self, asked: Query) -> FakeExchange:
        if asked.question.qname == b"\0":
            self.probes += 1
            return FakeExchange(Fake("", GOOD), self.manners[0] if self.probed is None else self.probed)
        self.asked.append(asked)
        manner = self.manners.pop(0) if len(self.manners) > 1 else self.manners[0]
        if isinstance(manner, NotReady | Overloaded):
            raise manner
        return FakeExchange(self, manner)

    def renew(self) -> None:
        self.renewed += 1

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        await trio.sleep_forever()


class FakeExchange:
    def __init__(self, upstream: Fake, manner: Manner) -> None:
        self._upstream = upstream
        delay, self._what = manner if isinstance(manner, tuple) else (manner if isinstance(manner, float) else 0.0, manner)
        self._at = trio.current_time() + delay
        self._over = False
        self._began = trio.current_time()

    @property
    def silent(self) -> bool:
        return self._upstream.spoke <= self._began

    async def answer(self, until: float) -> Answer | None:
        await trio.sleep_until(min(until, self._at))
        if trio.current_time() < self._at:
            return None
        self._over = True
        self._upstream.spoke = trio.current_time()
        if isinstance(self._what, ResolveError):
            raise type(self._what)(str(self._what))
        assert isinstance(self._what, Answer)
        return self._what

    def drop(self) -> None:
        self._upstream.dropped += not self._over


class Start:
    """Makes groups, and runs them in the test's nursery."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    async def __call__(self, *upstreams: Fake, on_return: Callable[[], None] = lambda: None, **forwarding: object) -> Group:
        group = Group(upstreams, Forwarding(**forwarding), on_return=on_return, secret=b"secret")  # type: ignore[arg-type]
        await self._nursery.start(group.run)
        await wait_all_tasks_blocked()
        return group
