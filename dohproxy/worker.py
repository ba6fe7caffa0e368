"""One serving process: sockets, then privileges, then one `trio.run` that ends with the last answer out."""

from __future__ import annotations

import gc
import logging
import math
import signal
from collections.abc import AsyncIterator, Callable

import trio

from dohproxy import core
from dohproxy.build import Service
from dohproxy.config.settings import Settings
from dohproxy.errors import ConfigError, DohproxyError
from dohproxy.front import Observer
from dohproxy.listen.intake import Intake
from dohproxy.listen.privileges import become
from dohproxy.listen.sockets import Sockets, open_sockets
from dohproxy.listen.systemd import Notifier, passed_sockets
from dohproxy.listen.tcp import ConnectionTable, TcpListener
from dohproxy.listen.udp import UdpListener
from dohproxy.telemetry import logs
from dohproxy.telemetry.counters import Counters
from dohproxy.telemetry.evidence import EvidenceLog
from dohproxy.telemetry.querylog import QueryLog
from dohproxy.telemetry.sink import LineSink

log = logging.getLogger(__name__)

OK, FAILED, BAD_CONFIGURATION = 0, 1, 2
GRACE = 2.5
"""Seconds that queries under way have to be answered once the process is told to stop."""
SIGNALS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
COLLECTED = 20_000
"""Objects made, and not gone, before the young are looked through for cycles."""
FIXED = ("listen", "log", "workers")
"""Tables of the configuration that only a restart changes."""


def run(settings: Settings, reread: Callable[[], Settings]) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. `reread`, at SIGHUP, gives new settings or raises ConfigError."""
    sink = logs.set_up(settings.log)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is listened to: what it asks for is about to be read
    try:
        return _run(settings, reread, sink)
    finally:
        sink.close()


def _run(settings: Settings, reread: Callable[[], Settings], sink: LineSink) -> int:
    try:
        sockets = open_sockets(settings.listen, passed_sockets())
        try:
            become(settings.listen.user)
            trio.run(Worker(settings, reread, sockets, sink).run)
        finally:
            sockets.close()
    except ConfigError as error:
        tell_problems(error)
        return BAD_CONFIGURATION
    except DohproxyError as error:
        log.critical("%s", error)
        return FAILED
    except KeyboardInterrupt:  # before the worker took over the signals
        return OK
    except Exception:
        log.exception("ended by a defect of the program")
        return FAILED
    return OK


def tell_problems(error: ConfigError) -> None:
    """Log everything that is wrong with a configuration."""
    for problem in error.problems:
        log.error("configuration: %s", problem)


class Worker:
    """The listeners and the service behind them, and what the operator tells them by signals."""

    def __init__(self, settings: Settings, reread: Callable[[], Settings], sockets: Sockets, sink: LineSink) -> None:
        """Compiles lists, if need be; raises ConfigError if the service cannot be built."""
        self._settings = settings
        self._reread = reread
        self._sockets = sockets
        self._sink = sink
        self._counters = Counters()
        self._notifier = Notifier()
        self._stopping = False
        self._serving = trio.CancelScope()
        """Around the listeners and the service, whose flights end with it alone: its deadline is set at the word to stop."""
        self._evidence = EvidenceLog(settings, self._counters)
        self._service = Service(settings, self._observers(), tell_hits=settings.log.queries, recorder=self._evidence)
        self._counters.recalled = self._service.front.recall.secured
        self._listeners = self._make_listeners(self._service)

    async def run(self) -> None:
        """Serve until told to stop."""
        with trio.open_signal_receiver(*SIGNALS) as signals:
            log.info("core: %s%s", core.KIND, "" if core.KIND == "compiled" else ": cache hits take longer")
            if self._settings.workers.count > 1:
                log.warning("workers.count is %d: this version serves with one process", self._settings.workers.count)
            with self._serving:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._service.run)
                    nursery.start_soon(self._obey, signals, self._service)
                    nursery.start_soon(self._reassure)
                    await self._listen()
                    nursery.cancel_scope.cancel()
            if self._serving.cancelled_caught:
                log.warning("not every query under way could be answered in time")
        self._evidence.close()
        log.info("stopped: %s", self._counters.summary())

    def _observers(self) -> list[Observer]:
        observers: list[Observer] = [self._counters, self._evidence]
        if self._settings.log.queries:
            observers.append(QueryLog(self._settings.log, self._sink))
        return observers

    def _make_listeners(self, service: Service) -> list[UdpListener | TcpListener]:
        intake = Intake(service.front, self._settings.listen, self._counters)
        table = ConnectionTable(self._settings.listen, self._counters)
        udp = [UdpListener(sock, intake) for sock in self._sockets.udp]
        return udp + [TcpListener(sock, intake, table) for sock in self._sockets.tcp]

    async def _listen(self) -> None:
        async with trio.open_nursery() as nursery:
            for listener in self._listeners:
                nursery.start_soon(listener.run)
            _settle_memory()
            self._notifier.ready()
            log.info("ready")

    async def _obey(self, signals: AsyncIterator[int], service: Service) -> None:
        asked, reloads = trio.open_memory_channel[None](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._reload_when_asked, reloads, service)
            async for number in signals:
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop()
                elif number == signal.SIGUSR1:
                    log.info("counters: %s", self._counters.summary())
                elif asked.statistics().current_buffer_used == 0:  # one that waits will read what is there then
                    asked.send_nowait(None)

    def _stop(self) -> None:
        """Take no more queries and let answers out; the second time, end at once."""
        if self._stopping:
            self._serving.cancel()
            return
        self._stopping = True
        self._notifier.stopping()
        log.info("stopping")
        self._serving.deadline = trio.current_time() + GRACE
        for listener in self._listeners:
            listener.stop()

    async def _reload_when_asked(self, asked: trio.MemoryReceiveChannel[None], service: Service) -> None:
        async for _ in asked:
            self._notifier.reloading()
            await self._reload(service)
            self._notifier.ready()

    async def _reload(self, service: Service) -> None:
        """Serve by the configuration as it is now, or go on as before and say why."""
        try:
            settings = await trio.to_thread.run_sync(self._reread, abandon_on_cancel=True)
            await service.reload(settings)
        except ConfigError as error:
            tell_problems(error)
            log.error("not reloaded: serving by the configuration from before")
        except (DohproxyError, OSError) as error:
            log.error("not reloaded: %s; serving by the configuration from before", error)
        else:
            self._evidence.use(settings)
            self._warn(settings)
            log.info("reloaded")

    def _warn(self, settings: Settings) -> None:
        for warning in settings.warnings:
            log.warning("configuration: %s", warning)
        for table in FIXED:
            if getattr(settings, table) != getattr(self._settings, table):
                log.warning("[%s] was changed: that takes a restart", table)

    async def _reassure(self) -> None:
        """Tell the service manager's watchdog that the event loop turns."""
        interval = self._notifier.watchdog / 2 or math.inf
        while True:
            await trio.sleep(interval)
            self._notifier.alive()


def _settle_memory() -> None:
    """Keep what the start made out of every later collection, and collect seldom: a query leaves next to no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED)
