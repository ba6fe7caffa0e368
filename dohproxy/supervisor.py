"""Several workers under one small process: starts them, starts them again, has them reload, adds up what they count.

Workers are programs of their own (exec) and not copies of this one (fork): a copy would have its event loop, threads and
locks in whatever state they are. What the copy would have saved in memory, the lists, is mapped from files anyway. The
sockets are opened here and stay open here: what waits in them outlives a worker, and needs no privileges to be opened again.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial

import trio

from dohproxy.channel import seal
from dohproxy.config.settings import Settings
from dohproxy.contained import kept
from dohproxy.errors import DohproxyError
from dohproxy.listen.privileges import become
from dohproxy.listen.sockets import Sockets, open_for_workers
from dohproxy.listen.steering import steer
from dohproxy.listen.systemd import Notifier, passed_sockets
from dohproxy.master import FAILED, OK, Order, guarded, obey, signalled, tell_kept, warn
from dohproxy.seat import PROGRAM, Seat
from dohproxy.spread import LOOK, Spread
from dohproxy.telemetry import logs
from dohproxy.telemetry.tally import summed, told

log = logging.getLogger(__name__)

END = 2.8
"""Seconds that workers have to end before they are ended."""
REPORT = 1.0
"""Seconds that workers have to tell their counters."""
FIRST_WAIT, MAX_WAIT = 0.25, 4.0
"""Seconds before a worker that has not lived long is replaced: at first, and at most."""
LONG_LIFE = 60.0
"""Seconds after which the end of a worker has nothing to do with the one before."""


def run(settings: Settings, reread: Callable[[], Settings]) -> int:
    """Have `workers.count` workers serve until SIGTERM or SIGINT; the exit status. As `worker.run` in all else."""
    sink = logs.set_up(settings.log)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it is listened to: what it asks for is about to be read
    try:
        return guarded(partial(_run, settings, reread))
    finally:
        sink.close()


def _run(settings: Settings, reread: Callable[[], Settings]) -> int:
    count = settings.workers.count or len(os.sched_getaffinity(0))
    places = open_for_workers(settings.listen, count, passed_sockets())
    try:
        become(settings.listen.user)
        return trio.run(Supervisor(settings, reread, places).run)
    finally:
        for sockets in places:
            sockets.close()


class BackOff:
    """How long to wait before a worker is replaced: not at all, unless those before it did not live long either."""

    def __init__(self) -> None:
        self._next = 0.0

    def after(self, lived: float) -> float:
        """Seconds to wait, once a worker has ended that lived so long."""
        wait = 0.0 if lived >= LONG_LIFE else self._next
        self._next = min(max(2 * wait, FIRST_WAIT), MAX_WAIT)
        return wait


class Supervisor:
    """The workers of these places, one for each, and what the operator tells them by signals.

    The first worker goes ahead: the others start when it serves, and find compiled what it had to compile; they reload what
    it could reload. So what is wrong with a configuration is found once, and changes nothing.
    """

    def __init__(
        self,
        settings: Settings,
        reread: Callable[[], Settings],
        places: Sequence[Sockets],
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._settings, self._reread = settings, reread
        self._notifier = Notifier()
        self._sealed = seal(settings)
        self._seats = [Seat(number, sockets, program, self._steer) for number, sockets in enumerate(places)]
        self._spread = Spread(self._seats)
        self._equals = [alike for alike in zip(*(place.udp for place in places), strict=True) if alike[0] is not alike[-1]]
        """The sockets of the workers, by address; not those that they share."""
        self._restarts = 0
        self._ready = False
        self._stopping = trio.Event()
        self._serving = trio.CancelScope()
        self._status = OK

    async def run(self) -> int:
        """Supervise until told to stop, or until a worker cannot even be started; the exit status."""
        try:
            with signalled() as orders, self._serving:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._reassure)
                    nursery.start_soon(kept, "weighing the load", self._weigh)
                    nursery.start_soon(self._obey, orders, nursery)
                    await self._serve()
                    nursery.cancel_scope.cancel()
        finally:
            os.close(self._sealed)
        if self._serving.cancelled_caught:
            log.warning("not every worker ended in time")
        log.info("stopped: %s", self.summary())
        return self._status

    def summary(self) -> str:
        """What all workers have counted, those that are gone too, in one line."""
        return told(summed([*(seat.counted for seat in self._seats), {"worker_restarts": self._restarts}]))

    async def _serve(self) -> None:
        async with trio.open_nursery() as nursery:
            first, *others = self._seats
            nursery.start_soon(self._fill, first)
            await first.settled.wait()
            for seat in others:
                nursery.start_soon(self._fill, seat)
            for seat in others:
                await seat.settled.wait()
            if not self._stopping.is_set():
                self._ready = True
                self._notifier.ready()
                log.info("ready: %d workers", len(self._seats))

    def _steer(self) -> None:
        """Have each name asked of one worker, among those that are to be asked."""
        if targets := self._spread.targets():
            self._equals = [alike for alike in self._equals if steer(alike[0], targets)]

    async def _weigh(self) -> None:
        """Have more workers asked, or fewer, as the load is."""
        while self._equals:
            await trio.sleep(LOOK)
            if self._spread.weigh(trio.current_time()):
                self._steer()
                log.info("names are asked of %d of %d workers", len(self._spread.targets()), len(self._seats))

    async def _fill(self, seat: Seat) -> None:
        """Have this seat filled until the end."""
        back_off = BackOff()
        while not self._stopping.is_set():
            began = trio.current_time()
            status = await seat.serve(lambda: self._sealed)
            if self._stopping.is_set():
                break
            if not self._ready:
                self._give_up(seat, status)
                break
            wait = back_off.after(trio.current_time() - began)
            self._restarts += 1
            log.error("worker %d ended (%s); another takes its place in %g s", seat.number, _how(status), wait)
            with trio.move_on_after(wait):
                await self._stopping.wait()
        seat.settled.set()

    def _give_up(self, seat: Seat, status: int) -> None:
        """End because a worker did before all served: what keeps it from starting would keep all of them."""
        log.critical("worker %d ended (%s) before all workers served", seat.number, _how(status))
        self._status = status if status > 0 else FAILED
        self._stop()

    async def _obey(self, orders: AsyncIterator[Order], nursery: trio.Nursery) -> None:
        await obey(orders, stop=self._asked_to_stop, report=lambda: nursery.start_soon(self._report), reload=self._reload)

    def _asked_to_stop(self) -> None:
        self._notifier.stopping()
        log.info("stopping")
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        self._serving.deadline = min(self._serving.deadline, trio.current_time() + END)
        for seat in self._seats:
            seat.stop()

    async def _report(self) -> None:
        with trio.move_on_after(REPORT):
            for seat in self._seats:
                await seat.report()
        log.info("counters: %s", self.summary())

    async def _reload(self) -> None:
        """Have all serve by the configuration as it is now; or none, and say why."""
        self._notifier.reloading()
        try:
            settings = await trio.to_thread.run_sync(self._reread, abandon_on_cancel=True)
        except (DohproxyError, OSError) as error:
            tell_kept(error)
        else:
            await self._adopt(settings)
        self._notifier.ready()

    async def _adopt(self, settings: Settings) -> None:
        """Have one worker try, and then all others follow; where none serves, the next to start have these."""
        fresh, before = seal(settings), self._sealed
        serving = sorted((seat for seat in self._seats if seat.serves), key=lambda seat: not seat.takes)
        if serving and not (took := await serving[0].reload(fresh)):
            if took is None and not self._stopping.is_set():
                tell_kept(f"worker {serving[0].number} does not tell whether it can use it")
            os.close(fresh)
            return
        self._sealed = fresh
        async with trio.open_nursery() as nursery:
            for seat in self._seats:
                if seat.sealed == before:
                    nursery.start_soon(self._follow, seat)
        os.close(before)
        warn(settings, self._settings)
        log.info("reloaded")

    async def _follow(self, seat: Seat) -> None:
        """Have a worker do what another could; one that cannot is replaced by one that never knew anything else."""
        await seat.settled.wait()
        if seat.sealed != self._sealed and not await seat.reload(self._sealed):
            seat.kill()

    async def _reassure(self) -> None:
        """Tell the service manager's watchdog that the event loop turns; a seat sees to its worker's."""
        while True:
            await trio.sleep(self._notifier.watchdog / 2 or math.inf)
            self._notifier.alive()


def _how(status: int) -> str:
    if status >= 0:
        return f"status {status}"
    with suppress(ValueError):  # real-time signals but the first and the last have no names
        return f"by {signal.Signals(-status).name}"
    return f"by signal {-status}"
