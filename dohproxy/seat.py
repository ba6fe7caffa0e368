"""A worker's place: whichever process serves there, with the sockets that stay, and what those before it counted."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from socket import socket

import trio

from dohproxy.channel import Counted, End, Message, Ready, Reload, Reloaded, Report, Serve, Stop, ends
from dohproxy.listen.sockets import KEYS, Sockets
from dohproxy.master import FAILED
from dohproxy.telemetry.tally import summed

log = logging.getLogger(__name__)

PROGRAM = (sys.executable, "-P", "-m", "dohproxy.supervised")
SILENCE, PATIENCE = 5.0, 20.0
"""Seconds without a sign of life after which a worker counts as busy, and then as stuck: it is ended."""
NOW = frozenset({"tcp_open", "quic_open"})
"""Counters that tell how many there are, and not how many there were."""
NOT_INHERITED = frozenset({"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"})
"""What the service manager tells the supervisor alone."""


class Seat:
    """The place of one worker. All that it is told never waits for it."""

    def __init__(
        self,
        number: int,
        sockets: Sockets,
        program: Sequence[str] = PROGRAM,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.number = number
        self._sockets, self._changed = sockets, changed
        self._command = (*program, str(number))
        self._channel: End | None = None
        self._process: trio.Process | None = None
        self._heard = 0.0
        self._before: Mapping[str, int | dict[str, int]] = {}
        self._current: Mapping[str, int | dict[str, int]] = {}
        self._told, self._answered = trio.Event(), trio.Event()
        self._took: bool | None = None
        self._stopping = False
        self.serves = False
        """Whether a worker serves here now."""
        self._silent = False
        self.settled = trio.Event()
        """Set once that has been so, or will not be any more; not while a worker starts."""
        self.sealed = -1
        """The settings that the worker serves by, as they were sent to it."""

    @property
    def counted(self) -> Mapping[str, int | dict[str, int]]:
        """What was counted here, by this worker and those before it, as far as they told."""
        return summed([self._before, self._current])

    @property
    def pid(self) -> int:
        """The worker's process; 0 if there is none."""
        return self._process.pid if self._process else 0

    @property
    def takes(self) -> bool:
        """Whether a worker serves here now, and gives signs of life; `changed` is called when that changes."""
        return self.serves and not self._silent

    async def serve(self, sealed: Callable[[], int]) -> int:
        """Have a worker serve here until it ends; its exit status, negative for a signal."""
        if self.settled.is_set():
            self.settled = trio.Event()
        self._channel, theirs = ends()
        try:
            with theirs:
                self._process = await _start(self._command, theirs)
            self._hand_over(self._channel, sealed())
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch)
                await self._hear(self._channel)
                nursery.cancel_scope.cancel()
            return await self._process.wait()
        except OSError as error:
            log.error("worker %d cannot be started: %s: %s", self.number, self._command[0], error.strerror)
            return FAILED
        finally:
            await self._clear()

    def _hand_over(self, channel: End, sealed: int) -> None:
        self.sealed = sealed
        files = [sealed, *(sock.fileno() for sock in self._sockets.all())]
        counts = tuple(len(getattr(self._sockets, key)) for key in KEYS)
        try:
            channel.hand_over(Serve(counts, self.number == 0), files)
        except OSError as error:
            log.error("worker %d cannot be given its %d sockets: %s", self.number, len(files) - 1, error.strerror)
            self.kill()
        if self._stopping:
            self.kill()

    async def _clear(self) -> None:
        """The worker is gone, or will be in a moment."""
        if self._process is not None:
            self.kill()
            with trio.CancelScope(shield=True):
                await self._process.wait()
        if self._channel is not None:
            self._channel.close()
        self._channel = self._process = None
        self._before = {name: 0 if name in NOW else value for name, value in self.counted.items()}
        self._current = {}
        self.serves, self._silent, self._took, self.sealed = False, False, None, -1
        self._changed()
        self._answered.set()
        self._told.set()

    async def _hear(self, channel: End) -> None:
        while (received := await channel.get()) is not None:
            self._heard = trio.current_time()
            self._take(received[0])
            self._note(False)

    def _take(self, message: Message) -> None:
        if isinstance(message, Ready):
            log.info("worker %d serves (process %d)", self.number, self.pid)
            self.serves = True
            self._changed()
            self.settled.set()
        elif isinstance(message, Counted):
            self._current = message.counters
            self._told.set()
        elif isinstance(message, Reloaded):
            self._took = message.done
            self._answered.set()

    async def _watch(self) -> None:
        """End the worker once it is stuck. While it starts it may be silent: it may have lists to compile."""
        await self.settled.wait()
        while (silence := trio.current_time() - self._heard) < PATIENCE:
            self._note(silence >= SILENCE)
            await trio.sleep((PATIENCE if self._silent else min(SILENCE, PATIENCE)) - silence)
        log.error("worker %d has not been heard of for %g s", self.number, PATIENCE)
        self.kill()

    def _note(self, silent: bool) -> None:
        if silent is not self._silent:
            self._silent = silent
            log.warning("worker %d %s", self.number, "is silent, and is asked nothing" if silent else "is heard of again")
            self._changed()

    async def reload(self, sealed: int) -> bool | None:
        """Have the worker serve by these settings; whether it does, or None if it does not tell."""
        self._took, self._answered = None, trio.Event()
        if self._channel is None or not self._channel.put(Reload(), sealed):
            return None
        await self._answered.wait()
        if self._took:
            self.sealed = sealed
        return self._took

    async def report(self) -> None:
        """Have the worker tell its counters, and wait for them."""
        self._told = trio.Event()
        if self.serves and self._channel is not None and self._channel.put(Report()):
            await self._told.wait()

    def stop(self) -> None:
        """Have the worker end once its queries are answered; the second time, at once. One that only starts is ended."""
        self._stopping = True
        if not (self.serves and self._channel is not None and self._channel.put(Stop())):
            self.kill()

    def kill(self) -> None:
        """End the worker."""
        if self._process is not None:
            self._process.kill()


async def _start(command: Sequence[str], channel: socket) -> trio.Process:
    """A worker, in a session of its own: what is typed at a terminal reaches the supervisor alone.

    It finds modules where we do (PYTHONPATH), and nowhere else (-P).
    """
    environ = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return await trio.lowlevel.open_process(command, stdin=channel, env=environ, start_new_session=True)
