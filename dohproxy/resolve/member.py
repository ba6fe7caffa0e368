"""An upstream of a group, and all that is known of it there."""

from __future__ import annotations

from typing import Protocol

import trio

from dohproxy.courses import Exchange
from dohproxy.model import Query
from dohproxy.resolve.doubts import Doubts
from dohproxy.resolve.health import Health
from dohproxy.resolve.pace import Pace


class Upstream(Protocol):
    """Whom a question can be put to, while it runs."""

    @property
    def name(self) -> str:
        """As configured."""
        ...

    def begin(self, query: Query) -> Exchange:
        """Ask, without waiting; raises ResolveError."""
        ...

    def renew(self) -> None:
        """The network is another one: connections take no more questions, and end where they cannot be answered any more."""
        ...

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Owns what the upstream needs, until cancelled; started once questions can be put."""
        ...


class Member:
    """An upstream in a group."""

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.name = upstream.name
        self.health = Health()
        self.pace = Pace()
        self.doubts = Doubts()
        self.under_way = 0
        """Questions."""
        self.rank = 0
        """0: up and trusted; 1: up, and doubted; 2: down."""
        self.probing: trio.CancelScope | None = None
        """Of the task that asks in the background whether it answers."""
