"""One serving process: sockets, then privileges, then one `trio.run` that ends with the last answer out."""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import trio

from dohproxy import core
from dohproxy.config.settings import Settings
from dohproxy.contained import contained, kept, tell
from dohproxy.errors import DohproxyError
from dohproxy.front import Observer
from dohproxy.listen.intake import Intake
from dohproxy.listen.privileges import become
from dohproxy.listen.sockets import Sockets, open_sockets
from dohproxy.listen.systemd import passed_sockets
from dohproxy.listen.tcp import ConnectionTable, TcpListener
from dohproxy.listen.udp import UdpListener
from dohproxy.master import OK, Master, ServiceManager, guarded, obey, tell_kept
from dohproxy.service import Service
from dohproxy.telemetry import logs
from dohproxy.telemetry.counters import Counters
from dohproxy.telemetry.evidence import EvidenceLog
from dohproxy.telemetry.querylog import QueryLog
from dohproxy.telemetry.sink import LineSink

if TYPE_CHECKING:
    from dohproxy.listen.quic import QuicListener
    from dohproxy.listen.secured import Secured

log = logging.getLogger(__name__)

GRACE = 2.5
"""Seconds that queries under way have to be answered once the process is told to stop."""
COLLECTED = 20_000
"""Objects made, and not gone, before the young are looked through for cycles."""


def run(settings: Settings, reread: Callable[[], Settings]) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. `reread`, at SIGHUP, gives new settings or raises ConfigError."""
    sink = logs.set_up(settings.log)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is listened to: what it asks for is about to be read
    try:
        return guarded(partial(_run, settings, reread, sink))
    finally:
        sink.close()


def _run(settings: Settings, reread: Callable[[], Settings], sink: LineSink) -> int:
    sockets = open_sockets(settings.listen, passed_sockets())
    try:
        become(settings.listen.user)
        counters = Counters()
        serve(settings, sockets, sink, counters, ServiceManager(settings, reread, counters))
    finally:
        sockets.close()
    return OK


def serve(
    settings: Settings, sockets: Sockets, sink: LineSink, counters: Counters, master: Master, *, keeps: bool = True
) -> None:
    """Serve on these sockets until the master has it end; raises ConfigError if the service cannot be built.

    Of several processes that serve the same, one `keeps` the anchors' state.
    """
    trio.run(Worker(settings, sockets, sink, counters, master, keeps=keeps).run)


class Worker:
    """The listeners and the service behind them, and what its master has it do."""

    def __init__(
        self, settings: Settings, sockets: Sockets, sink: LineSink, counters: Counters, master: Master, *, keeps: bool = True
    ) -> None:
        """Compiles lists, if need be; raises ConfigError if the service cannot be built."""
        self._settings = settings
        self._sockets = sockets
        self._sink = sink
        self._counters = counters
        self._master = master
        self._limits = settings.access.limits
        self._secured: Secured | None = None
        self._stopping = False
        self._serving = trio.CancelScope()
        """Around the listeners and the service, whose flights end with it alone: its deadline is set at the word to stop."""
        self._evidence = EvidenceLog(settings, counters)
        self._service = Service(
            settings, self._observers(), tell_hits=settings.log.queries, recorder=self._evidence, keeps=keeps
        )
        counters.recalled = self._service.front.recall.secured
        self._intake = Intake(self._service.front, settings.listen, counters, settings.access.limits)
        self._listeners = self._make_listeners()

    async def run(self) -> None:
        """Serve until told to stop."""
        with self._master.orders() as orders:
            log.info("core: %s%s", core.KIND, "" if core.KIND == "compiled" else ": cache hits take longer")
            with self._serving:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self._service.run)
                    nursery.start_soon(partial(obey, orders, stop=self._stop, report=self._report, reload=self._reload))
                    nursery.start_soon(kept, "telling that we are alive", self._reassure)
                    await self._listen()
                    nursery.cancel_scope.cancel()
            if self._serving.cancelled_caught:
                log.warning("not every query under way could be answered in time")
        self._evidence.close()
        self._master.stopped()

    def _observers(self) -> list[Observer]:
        return [self._counters, self._evidence, QueryLog(self._settings.log, self._sink)]

    def _make_listeners(self) -> list[UdpListener | TcpListener | QuicListener]:
        intake, sockets, settings = self._intake, self._sockets, self._settings
        table = ConnectionTable(settings.listen, self._counters)
        listeners: list[UdpListener | TcpListener | QuicListener] = [UdpListener(sock, intake) for sock in sockets.udp]
        listeners += [TcpListener(sock, intake, table) for sock in sockets.tcp]
        if sockets.dot or sockets.doh or sockets.doq or sockets.doh3:
            from dohproxy.listen.secured import Secured  # noqa: PLC0415 -- for those who want it

            self._secured = Secured(settings.tls, settings.listen, sockets, intake, table, self._service.workload)
            listeners += [*self._secured.by_tcp, *self._secured.by_quic]
        return listeners

    async def _listen(self) -> None:
        async with trio.open_nursery() as nursery:
            for listener in self._listeners:
                nursery.start_soon(listener.run)
            _settle_memory()
            self._master.ready()

    def _stop(self) -> None:
        """Take no more queries and let answers out; the second time, end at once."""
        if self._stopping:
            self._serving.cancel()
            return
        self._stopping = True
        self._master.stopping()
        self._serving.deadline = trio.current_time() + GRACE
        for listener in self._listeners:
            listener.stop()

    def _report(self) -> None:
        with contained("the report of the counters"):
            self._master.report()

    async def _reload(self) -> None:
        """Serve by the configuration as it is now, or go on as before and say why."""
        self._master.reloading()
        try:
            settings = await trio.to_thread.run_sync(self._master.reread, abandon_on_cancel=True)
            shown = self._secured.credentials(settings.tls) if self._secured is not None else None
            await self._service.reload(settings)
        except (DohproxyError, OSError) as error:
            tell_kept(error)
            self._master.not_reloaded()
        except Exception as defect:  # noqa: BLE001 -- told
            tell("reloading", defect)
            self._master.not_reloaded()
        else:
            self._evidence.use(settings)
            self._limit(settings)
            if self._secured is not None and shown is not None:
                self._secured.show(settings.tls, shown)
            self._master.reloaded(settings)

    def _limit(self, settings: Settings) -> None:
        """Keep the clients' limits as they are now. Who was over one stays so, unless the limits have changed."""
        if settings.access.limits == self._limits:
            return
        self._limits = settings.access.limits
        self._intake.limit(self._limits)
        for listener in self._listeners:
            if isinstance(listener, UdpListener):
                listener.renew()

    async def _reassure(self) -> None:
        """Tell the master, who may have a watchdog, that the event loop turns."""
        while True:
            await trio.sleep(self._master.interval)
            self._master.alive()


def _settle_memory() -> None:
    """Keep what the start made out of every later collection, and collect seldom: a query leaves next to no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECTED)
