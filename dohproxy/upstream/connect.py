"""A TCP connection to the first of several addresses that takes it (RFC 8305, without the name resolution)."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

import trio

STAGGER = 0.25
"""Seconds before the next address is tried as well (RFC 8305 5)."""

USER_TIMEOUT = 5.0
"""Seconds after which a connection is given up on that the peer acknowledges nothing of any more (RFC 5482)."""

_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)
_QUICKACK = getattr(socket, "TCP_QUICKACK", None)


class Closable(Protocol):
    """What an attempt brings."""

    def close(self) -> None:
        """It is not wanted after all."""
        ...


_T = TypeVar("_T", bound=Closable)


async def connect(addresses: tuple[str, ...], port: int) -> socket.socket:
    """A non-blocking socket, connected; raises OSError, the last there was, if no address takes it."""

    async def attempt(address: str) -> socket.socket:
        return await _connect_one(address, port)

    return await first(addresses, attempt)


async def first(addresses: tuple[str, ...], attempt: Callable[[str], Awaitable[_T]]) -> _T:
    """What the attempt at the first of the addresses to succeed brings; raises OSError, the last there was, if none does."""
    race = _Race(attempt)
    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                lost = trio.Event()
                nursery.start_soon(race.run, address, lost, nursery.cancel_scope)
                with trio.move_on_after(STAGGER):
                    await lost.wait()
    except BaseException:
        race.close()
        raise
    return race.result()


class _Race(Generic[_T]):
    """Attempts at several addresses, of which the first to succeed ends the others."""

    def __init__(self, attempt: Callable[[str], Awaitable[_T]]) -> None:
        self._attempt = attempt
        self._winners: list[_T] = []
        self._errors: list[OSError] = []

    async def run(self, address: str, lost: trio.Event, all: trio.CancelScope) -> None:
        try:
            self._winners.append(await self._attempt(address))
        except OSError as error:
            self._errors.append(error)
            lost.set()
        else:
            all.cancel()

    def result(self) -> _T:
        if not self._winners:
            raise self._errors[-1]
        winner = self._winners.pop(0)
        self.close()
        return winner

    def close(self) -> None:
        for winner in self._winners:
            winner.close()


async def _connect_one(address: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _USER_TIMEOUT is not None:
            sock.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(USER_TIMEOUT * 1000))
        await _connected(sock, address, port)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connected(sock: socket.socket, address: str, port: int) -> None:
    try:
        sock.connect((address, port))
    except BlockingIOError:
        await trio.lowlevel.wait_writable(sock)
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, os.strerror(code)) from None


def is_local(sock: socket.socket | None) -> bool:
    """Whether the address that a connected socket is bound to is still the one that packets to its peer leave from."""
    if sock is None:
        return False
    try:
        return str(sock.getsockname()[0]) == way_to(sock.getpeername()[0])
    except OSError:
        return False


def way_to(address: str) -> str:
    """The address of ours that packets to this one would leave from; "" if no route leads there. Sends nothing."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 53))
            return str(sock.getsockname()[0])
        except OSError:
            return ""


def acknowledge_quickly(sock: socket.socket) -> None:
    """Ask for the next ACK at once: Linux forgets it with every read. Without it small answers wait for delayed ACKs."""
    if _QUICKACK is not None:
        sock.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
