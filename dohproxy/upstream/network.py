"""The machine's network, as far as upstreams are concerned: whether it is still the one that connections were made in."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from dohproxy.upstream.connect import way_to

POLL = 1.0
"""Seconds between looks at what the kernel sends no word of."""
QUIET, UNREST = 0.2, 1.0
"""Seconds without news after which a change is over; and how long it may last before it is told all the same."""
SLEEP = 2.0
"""Seconds of sleep that make a difference."""

_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR and RTMGRP_IPV6_ROUTE of rtnetlink(7)."""
_MESSAGES = 65536

_log = logging.getLogger("dohproxy.upstream")


def slept() -> float:
    """Seconds that the machine has slept since it was started; 0 where that is not known."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def news_of_routes() -> socket.socket | None:
    """A socket that has something to read whenever addresses, routes or links change; None where there is no such thing."""
    if not hasattr(socket, "AF_NETLINK"):
        return None
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)  # NETLINK_ROUTE
        sock.bind((0, _GROUPS))
    except OSError as error:
        _log.info("the kernel sends no news of routes (%s): they are looked at every second", error.strerror)
        return None
    return sock


class Network:
    """Calls `changed` when packets to one of `addresses` would leave from another address, or the machine has slept.

    What the messages of the kernel say is not read: they are a reason to look.
    """

    def __init__(
        self,
        addresses: Iterable[str],
        changed: Callable[[], None],
        *,
        way_to: Callable[[str], str] = way_to,
        slept: Callable[[], float] = slept,
        news: Callable[[], socket.socket | None] = news_of_routes,
    ) -> None:
        self._addresses = tuple(dict.fromkeys(addresses))
        self._changed, self._way_to, self._slept, self._news = changed, way_to, slept, news
        self._ways: dict[str, str] = {}
        self._asleep = 0.0

    async def run(self) -> None:
        """Watch until cancelled."""
        sock = self._news()
        try:
            self._ways, self._asleep = self._look(), self._slept()
            while True:
                has_news = await _heard(sock, POLL)
                if sock is None or has_news:
                    await self._compare(sock)
                self._tell_if_slept()
        finally:
            if sock is not None:
                sock.close()

    def _look(self) -> dict[str, str]:
        return {address: self._way_to(address) for address in self._addresses}

    async def _compare(self, sock: socket.socket | None) -> None:
        """Tells of a change once it is over, even if all is then as it was: it may be another network that looks the same."""
        if self._look() == self._ways:
            return
        until = trio.current_time() + UNREST
        while trio.current_time() < until and await _heard(sock, QUIET):
            pass
        before, self._ways = self._ways, self._look()
        changes = {f"{before[address] or 'nowhere'} to {way or 'nowhere'}" for address, way in self._ways.items()}
        _log.info("the network is another one (from %s): upstreams are connected to anew", ", ".join(sorted(changes)))
        self._changed()

    def _tell_if_slept(self) -> None:
        before, self._asleep = self._asleep, self._slept()
        if self._asleep - before >= SLEEP:
            _log.info("the machine slept for %.0f s: upstreams are connected to anew", self._asleep - before)
            self._ways = self._look()
            self._changed()


async def _heard(sock: socket.socket | None, patience: float) -> bool:
    """Whether the kernel has sent news within so many seconds."""
    with trio.move_on_after(patience):
        if sock is None:
            await trio.sleep_forever()
        else:
            await trio.lowlevel.wait_readable(sock)
            _drain(sock)
            return True
    return False


def _drain(sock: socket.socket) -> None:
    with suppress(OSError):  # nothing left, or more than fits: either way there is something to look at
        while sock.recv(_MESSAGES):
            pass
