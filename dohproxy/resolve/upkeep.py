"""What goes on beside the queries: anchors and negative anchors looked after, a clock waited for, keys signalled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import trio
from msgspec import Struct

from dohproxy.contained import kept
from dohproxy.resolve.boot_clock import BootClock
from dohproxy.resolve.excepted import Excepted
from dohproxy.resolve.following import Following
from dohproxy.resolve.trusted import Trusted


class Upkeep(Struct, frozen=True):
    """The tasks of one validator; `boot` and `signal` are None where they are not configured."""

    trusted: Trusted
    following: Following
    excepted: Excepted
    boot: BootClock | None = None
    signal: Callable[[], Awaitable[None]] | None = None

    async def run(self, keeps: bool, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do it all until cancelled. Of several processes one `keeps` the state file; the others read what it writes."""
        async with trio.open_nursery() as nursery:
            if self.boot is not None:
                nursery.start_soon(kept, "waiting for the clock", partial(self.boot.run, self.trusted.forget))
            follow = self.following.run if keeps else self.following.read_along
            nursery.start_soon(kept, "following trust anchors", partial(follow, self.trusted))
            nursery.start_soon(kept, "looking after negative trust anchors", partial(self.excepted.run, self.trusted))
            if self.signal is not None and keeps:
                nursery.start_soon(kept, "signalling trust anchors", self.signal)
            task_status.started()
