"""A worker under a supervisor, as a process of its own: `python -m dohproxy.supervised NUMBER`, the channel for standard input.

It obeys the channel alone, and ends when that does: no worker outlives its supervisor.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from socket import socket

from dohproxy.channel import Alive, Counted, End, Ready, Reload, Reloaded, Report, Stop, handed_over, unseal
from dohproxy.config.settings import Settings
from dohproxy.listen.sockets import Sockets
from dohproxy.master import FAILED, OK, Order, guarded
from dohproxy.telemetry import logs
from dohproxy.telemetry.counters import Counters
from dohproxy.telemetry.sink import LineSink
from dohproxy.worker import serve

HEARTBEAT = 2.0
"""Seconds from one sign of life to the next."""
NOT_OURS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What a terminal or a service manager may send to all processes at once, and is meant for the supervisor."""


class Supervisor:
    """The supervisor as its worker sees it: a Master."""

    interval = HEARTBEAT

    def __init__(self, channel: End, counters: Counters) -> None:
        self._channel, self._counters = channel, counters
        self._sealed: int | None = None

    @contextmanager
    def orders(self) -> Iterator[AsyncIterator[Order]]:
        """What comes through the channel."""
        yield self._read()

    async def _read(self) -> AsyncIterator[Order]:
        while (received := await self._channel.get()) is not None:
            message, files = received
            if isinstance(message, Stop):
                yield Order.STOP
            elif isinstance(message, Report):
                yield Order.REPORT
            elif isinstance(message, Reload):
                [self._sealed] = files
                yield Order.RELOAD
        yield Order.STOP

    def reread(self) -> Settings:
        """The settings that were sent last."""
        assert self._sealed is not None
        return unseal(self._sealed)

    def ready(self) -> None:
        """Tell it."""
        self._channel.put(Ready())

    def alive(self) -> None:
        """Tell it, and the counters, in case there will be no other chance."""
        self._channel.put(Alive())
        self.report()

    def report(self) -> None:
        """Tell the counters."""
        self._channel.put(Counted(self._counters.snapshot()))

    def reloading(self) -> None:
        """It knows."""

    def reloaded(self, settings: Settings) -> None:  # noqa: ARG002 -- it knows them
        """Tell it."""
        self._channel.put(Reloaded(True))

    def not_reloaded(self) -> None:
        """Tell it; why is in the log."""
        self._channel.put(Reloaded(False))

    def stopping(self) -> None:
        """It knows, unless it is gone."""

    def stopped(self) -> None:
        """Tell the last counters."""
        self.report()


def main() -> int:
    """Serve what comes through the channel, until it ends or has us end; the exit status."""
    for number in NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    channel = End(socket(fileno=sys.stdin.fileno()))
    try:
        received = channel.take_over()
    except OSError as error:
        print(f"worker {sys.argv[1]} cannot take its sockets: {error.strerror}", file=sys.stderr)
        return FAILED
    if received is None:
        return OK
    message, files = received
    settings, sockets = unseal(files[0]), handed_over(files[1:], message.sockets)
    sink = logs.set_up(settings.log)
    _sign(sys.argv[1])
    try:
        return guarded(partial(_serve, settings, sockets, sink, channel, keeps=message.keeps))
    finally:
        sink.close()


def _serve(settings: Settings, sockets: Sockets, sink: LineSink, channel: End, *, keeps: bool) -> int:
    counters = Counters()
    serve(settings, sockets, sink, counters, Supervisor(channel, counters), keeps=keeps)
    return OK


def _sign(number: str) -> None:
    """Have what we log say who said it."""

    def sign(record: logging.LogRecord) -> bool:
        record.msg = f"worker {number}: {record.msg}"
        return True

    for handler in logging.getLogger(logs.ROOT).handlers:
        handler.addFilter(sign)


if __name__ == "__main__":
    sys.exit(main())
