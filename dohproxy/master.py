"""Whom a process obeys, and whom it tells how it is: by default the service manager, with its signals and sd_notify(3)."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from typing import Protocol

import trio

from dohproxy.config.settings import Settings
from dohproxy.errors import ConfigError, DohproxyError
from dohproxy.listen.systemd import Notifier

log = logging.getLogger(__name__)

OK, FAILED, BAD_CONFIGURATION = 0, 1, 2
"""How a process may end."""
FIXED = ("listen", "log", "spiffe", "workers")
"""Tables of the configuration that only a restart changes."""


class Order(Enum):
    """What a process may be told to do."""

    STOP = "stop"
    """Take no more queries, and end once those under way are answered; the second time, at once."""
    RELOAD = "reload"
    REPORT = "report"
    """Tell the counters."""


_MEANT = {
    signal.SIGTERM: Order.STOP,
    signal.SIGINT: Order.STOP,
    signal.SIGHUP: Order.RELOAD,
    signal.SIGUSR1: Order.REPORT,
}


class Tally(Protocol):
    """The counters of a process."""

    def summary(self) -> str:
        """In one line."""
        ...


class Master(Protocol):
    """Whom a worker obeys and tells."""

    interval: float
    """Seconds between two words that the worker is alive; math.inf where nobody waits for them."""

    def orders(self) -> AbstractContextManager[AsyncIterator[Order]]:
        """What to do, as it comes."""
        ...

    def reread(self) -> Settings:
        """The settings as they should be now. May block; raises ConfigError."""
        ...

    def ready(self) -> None:
        """The worker serves."""
        ...

    def alive(self) -> None:
        """Its event loop turns."""
        ...

    def reloading(self) -> None:
        """It has begun to reload."""
        ...

    def reloaded(self, settings: Settings) -> None:
        """It serves by these now."""
        ...

    def not_reloaded(self) -> None:
        """It serves as before, and has logged why."""
        ...

    def report(self) -> None:
        """The counters were asked for."""
        ...

    def stopping(self) -> None:
        """It takes no more queries."""
        ...

    def stopped(self) -> None:
        """It is about to end."""
        ...


class ServiceManager:
    """Signals are orders, and the log is what a person reads: the master of a process that nobody supervises."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings], tally: Tally) -> None:
        self._settings, self._tally = settings, tally
        self._notifier = Notifier()
        self.reread, self.orders = reread, signalled
        self.alive, self.reloading = self._notifier.alive, self._notifier.reloading
        self.not_reloaded = self._notifier.ready
        self.interval = self._notifier.watchdog / 2 or math.inf

    def ready(self) -> None:
        """Tell that queries are answered."""
        self._notifier.ready()
        log.info("ready")

    def reloaded(self, settings: Settings) -> None:
        """Tell what is doubtful in these settings, and what of them has to wait for a restart."""
        warn(settings, self._settings)
        log.info("reloaded")
        self._notifier.ready()

    def report(self) -> None:
        """Log the counters."""
        log.info("counters: %s", self._tally.summary())

    def stopping(self) -> None:
        """Tell that the end has begun."""
        self._notifier.stopping()
        log.info("stopping")

    def stopped(self) -> None:
        """Log what became of it all."""
        log.info("stopped: %s", self._tally.summary())


@contextmanager
def signalled() -> Iterator[AsyncIterator[Order]]:
    """Orders by signals, which end nothing within the block."""
    with trio.open_signal_receiver(*_MEANT) as signals:
        yield _read(signals)


async def _read(signals: AsyncIterator[int]) -> AsyncIterator[Order]:
    async for number in signals:
        yield _MEANT[signal.Signals(number)]


async def obey(
    orders: AsyncIterator[Order],
    *,
    stop: Callable[[], None],
    report: Callable[[], None],
    reload: Callable[[], Awaitable[None]],
) -> None:
    """Do as told until cancelled. Reloads come one after the other, and keep no other order waiting."""
    asked, reloads = trio.open_memory_channel[None](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_reload_when_asked, reloads, reload)
        async for order in orders:
            if order is Order.STOP:
                stop()
            elif order is Order.REPORT:
                report()
            elif asked.statistics().current_buffer_used == 0:  # one that waits will read what is there then
                asked.send_nowait(None)


async def _reload_when_asked(asked: trio.MemoryReceiveChannel[None], reload: Callable[[], Awaitable[None]]) -> None:
    async for _ in asked:
        await reload()


def guarded(serve: Callable[[], int]) -> int:
    """The exit status of this, which is the whole process; why it failed is logged."""
    try:
        return serve()
    except ConfigError as error:
        tell_problems(error)
        return BAD_CONFIGURATION
    except DohproxyError as error:
        log.critical("%s", error)
        return FAILED
    except KeyboardInterrupt:  # before the signals were taken over
        return OK
    except Exception:
        log.exception("ended by a defect of the program")
        return FAILED


def tell_problems(error: ConfigError) -> None:
    """Log everything that is wrong with a configuration."""
    for problem in error.problems:
        log.error("configuration: %s", problem)


def tell_kept(error: Exception | str) -> None:
    """Log why a configuration was not taken."""
    if isinstance(error, ConfigError):
        tell_problems(error)
        log.error("not reloaded: serving by the configuration from before")
    else:
        log.error("not reloaded: %s; serving by the configuration from before", error)


def warn(settings: Settings, started_with: Settings) -> None:
    """Log what is doubtful in these settings, and what of them takes a restart."""
    for warning in settings.warnings:
        log.warning("configuration: %s", warning)
    for table in FIXED:
        if getattr(settings, table) != getattr(started_with, table):
            log.warning("[%s] was changed: that takes a restart", table)
