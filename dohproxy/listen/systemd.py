"""What a service manager and its service tell each other: sd_listen_fds(3) and sd_notify(3), on their own terms."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

FIRST_FD = 3


def passed_sockets(environ: MutableMapping[str, str] = os.environ, first: int = FIRST_FD) -> tuple[socket.socket, ...]:
    """The sockets that the service manager opened for us; () without socket activation.

    The variables are taken out of the environment: they are meant for this process alone.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return ()
    fds = range(first, first + int(count))
    for fd in fds:
        os.set_inheritable(fd, False)
    return tuple(socket.socket(fileno=fd) for fd in fds)


class Notifier:
    """Tells the service manager how we are; silent where there is none."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog = _watchdog_seconds(environ)
        """Seconds within which the service manager wants to hear from us; 0.0 if it does not care."""

    def ready(self) -> None:
        """Serving, for the first time or again after a reload."""
        self._send("READY=1", "STATUS=serving")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """No more queries are taken."""
        self._send("STOPPING=1", "STATUS=letting answers out")

    def alive(self) -> None:
        """The event loop turns."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """A line for a person."""
        self._send(f"STATUS={text}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.sendto("\n".join(lines).encode(), address)


def _watchdog_seconds(environ: MutableMapping[str, str]) -> float:
    pid, microseconds = environ.get("WATCHDOG_PID", str(os.getpid())), environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() and pid == str(os.getpid()) else 0.0
