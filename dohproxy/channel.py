"""Between a supervisor and its workers: messages that arrive whole or not at all, with open files beside them (unix(7)).

Settings travel in a file in memory: they may be large, and every worker has the same, whatever happens to the file that
they were read from.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Sequence
from contextlib import suppress
from errno import EMFILE
from itertools import islice

import msgspec
import trio
from msgspec import Struct

from dohproxy.config.settings import Settings
from dohproxy.listen.sockets import Sockets

MAX_MESSAGE, MAX_FILES = 256 << 10, 250
"""Octets, and files beside them; the kernel takes 253 files with a message."""


class Serve(Struct, frozen=True, tag=True):
    """To a worker, first of all: beside it are the settings, then sockets, so many of each of the `KEYS` of Sockets."""

    sockets: tuple[int, ...]
    keeps: bool = True
    """Whether this worker is the one that keeps the anchors' state."""


class More(Struct, frozen=True, tag=True):
    """To a worker, after Serve: beside it are those of its files that found no room there."""


class Reload(Struct, frozen=True, tag=True):
    """To a worker: serve by the settings beside it."""


class Report(Struct, frozen=True, tag=True):
    """To a worker: tell the counters."""


class Stop(Struct, frozen=True, tag=True):
    """To a worker: end; the second time, at once."""


class Ready(Struct, frozen=True, tag=True):
    """From a worker: it serves."""


class Reloaded(Struct, frozen=True, tag=True):
    """From a worker: whether it serves by the settings that it was sent."""

    done: bool


class Alive(Struct, frozen=True, tag=True):
    """From a worker: its event loop turns."""


class Counted(Struct, frozen=True, tag=True):
    """From a worker: its counters."""

    counters: dict[str, int | dict[str, int]]


Message = Serve | More | Reload | Report | Stop | Ready | Reloaded | Alive | Counted
_decode = msgspec.json.Decoder(Message).decode
_encode = msgspec.json.Encoder().encode


class End:
    """One end of the channel. It owns its socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock

    def put(self, message: Message, *files: int) -> bool:
        """Send it, with these open files beside it; whether that was possible. Never blocks."""
        try:
            self._send(message, files)
        except OSError:  # the other end is gone, or does not read
            return False
        return True

    def hand_over(self, message: Serve, files: Sequence[int]) -> None:
        """Send it, with any number of files beside it. Raises OSError where the kernel does not take them. Never blocks."""
        for start in range(0, len(files), MAX_FILES):
            self._send(More() if start else message, files[start : start + MAX_FILES])

    def _send(self, message: Message, files: Sequence[int]) -> None:
        socket.send_fds(self._socket, [_encode(message)], files)

    async def get(self) -> tuple[Message, list[int]] | None:
        """The next message, and the files beside it, which are then the caller's; None when the other end is gone."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            with suppress(BlockingIOError):
                return self._receive()

    def take_over(self) -> tuple[Serve, list[int]] | None:
        """What is handed over; None when the other end is gone. Outside an event loop. Raises OSError."""
        self._socket.setblocking(True)
        try:
            if (received := self._receive()) is None:
                return None
            message, files = received
            assert isinstance(message, Serve), "what comes first"
            while len(files) <= sum(message.sockets):
                if (received := self._receive()) is None:
                    return None
                files += received[1]
            return message, files
        finally:
            self._socket.setblocking(False)

    def _receive(self) -> tuple[Message, list[int]] | None:
        try:
            octets, files, flags, _ = socket.recv_fds(self._socket, MAX_MESSAGE, MAX_FILES, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None
        if flags & socket.MSG_CTRUNC:
            raise OSError(EMFILE, os.strerror(EMFILE))
        return (_decode(octets), files) if octets else None

    def close(self) -> None:
        """Let the other end know that nothing more will come."""
        self._socket.close()


def ends() -> tuple[End, socket.socket]:
    """A new channel: the supervisor's end, and what a worker makes its own of."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return End(ours), theirs


def seal(settings: Settings) -> int:
    """A file in memory that holds these; to be closed by the caller."""
    file = os.memfd_create("settings", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(file), "wb") as out:
        pickle.dump(settings, out)
    return file


def unseal(file: int) -> Settings:
    """The settings in a file of our own supervisor's, which is closed."""
    try:
        settings = pickle.loads(os.pread(file, os.fstat(file).st_size, 0))
    finally:
        os.close(file)
    assert isinstance(settings, Settings)
    return settings


def handed_over(files: list[int], counts: tuple[int, ...]) -> Sockets:
    """The sockets that these files are, so many of each of the KEYS."""
    socks = iter([socket.socket(fileno=file) for file in files])
    return Sockets(*(list(islice(socks, count)) for count in counts))
