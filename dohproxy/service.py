"""What serves behind the listeners, through reloads: one core and one pipeline at a time, and those that are leaving."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import trio

from dohproxy.build import REPLY_SHARE, Core, Meaning, Pipeline, workload_of
from dohproxy.cache.replies import ReplyStore
from dohproxy.cache.shared import BadSharedFile, SharedFile
from dohproxy.clock import Clock
from dohproxy.config.settings import Cache, Settings
from dohproxy.errors import NotReady
from dohproxy.front import Front, Generation, Observer
from dohproxy.resolve.sharing import keep_written
from dohproxy.resolve.witness import Recorder

log = logging.getLogger(__name__)


class Service:
    """Everything behind the listeners: `front` answers while `run` does, through any number of reloads."""

    def __init__(
        self,
        settings: Settings,
        observers: Sequence[Observer],
        *,
        tell_hits: bool = False,
        recorder: Recorder | None = None,
        keeps: bool = True,
    ) -> None:
        """Opens nothing but the file of shared answers; raises ConfigError.

        Of several processes that serve the same, one `keeps` the anchors' state.
        """
        self._is_keeper = keeps
        self._nursery: trio.Nursery | None = None
        self._clock = Clock()
        self._shared = _shared_file(settings.cache)
        self.workload = workload_of(settings)
        """Who says who we are, and whom to trust, where the configuration leaves that to it."""
        self._make = partial(
            Core,
            clock=self._clock,
            forget=self._forget,
            recorder=recorder,
            shared=self._shared,
            workload=self.workload,
        )
        self._core, self._timeout = self._make(Meaning.of(settings)), settings.forwarding.timeout
        self._ends: trio.CancelScope | None = None
        self._keeps: trio.CancelScope | None = None
        self.front = Front(_generation(settings, self._core, self._clock), observers, self._clock, tell_hits)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the core that serves, and those that are leaving, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            if self.workload is not None:
                await self._nursery.start(self.workload.run)
            self._ends = await self._nursery.start(_run_until_replaced, self._core.run)
            self._keeps = await self._nursery.start(_run_until_replaced, partial(self._core.keep, self._is_keeper))
            if self._shared is not None:
                await self._nursery.start(keep_written, self._shared)
            task_status.started()
            await trio.sleep_forever()

    def _forget(self) -> None:
        self.front.forget()

    async def reload(self, settings: Settings) -> None:
        """Answer by these settings from now on, or raise ConfigError and go on as before.

        Connections, caches and what is known of zones stay, unless what they are made of has changed. Building takes a
        thread, so that queries are answered meanwhile.
        """
        if self._nursery is None:
            raise NotReady("the service does not run")
        build = partial(_rebuilt, settings, self._core, self._clock, self._make)
        core, generation = await trio.to_thread.run_sync(build, abandon_on_cancel=True)
        if core is not self._core:
            ends = await self._nursery.start(_run_until_replaced, core.run)
            self._nursery.start_soon(_end_later, self._ends, self._timeout)
            if self._keeps is not None:
                self._keeps.cancel()
            self._keeps = await self._nursery.start(_run_until_replaced, partial(core.keep, self._is_keeper))
            self._core, self._ends, self._timeout = core, ends, settings.forwarding.timeout
        self.front.replace(generation)


def _shared_file(cache: Cache) -> SharedFile | None:
    """The file of shared answers, if there is to be one; it does not take one to serve."""
    if cache.shared is None:
        return None
    try:
        return SharedFile(cache.shared, cache.shared_size)
    except BadSharedFile as error:
        log.warning("answers are not shared: %s", error)
        return None


def _generation(settings: Settings, core: Core, clock: Clock) -> Generation:
    pipeline = Pipeline(settings, core, clock)
    return Generation(
        pipeline.stage,
        pipeline.gate,
        ReplyStore(int(settings.cache.size * REPLY_SHARE)),
        settings.access.drop,
        settings.listen.udp_payload_size,
        settings.forwarding.timeout,
        pipeline.straight,
    )


def _rebuilt(settings: Settings, running: Core, clock: Clock, make: Callable[[Meaning], Core]) -> tuple[Core, Generation]:
    """The core for these settings, the one that runs if it would be the same, and what stands on it."""
    meaning = Meaning.of(settings)
    core = running if running.meaning == meaning else make(meaning)
    return core, _generation(settings, core, clock)


async def _run_until_replaced(run: Callable[..., Awaitable[None]], task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            task_status.started(scope)


async def _end_later(scope: trio.CancelScope | None, seconds: float) -> None:
    """End a core once the last query that it may still have is out of time."""
    await trio.sleep(seconds)
    if scope is not None:
        scope.cancel()
