"""Lines in a file that is kept from growing without end, and whose disk may be full."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from dohproxy.telemetry.sink import LineSink

log = logging.getLogger(__name__)

_FLAGS: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_MODE: Final = 0o600
_BATCH: Final = 16
"""Lines written at once: what a file may grow beyond its size by."""


class Journal(LineSink):
    """A sink that appends to a file; at `max_size` octets the file becomes `NAME.1` and a new one is begun.

    A file that was moved or removed is begun again too, so any other way to rotate it will do; and several processes may
    write to one. What cannot be written is
    lost: `on_loss` is told how many lines, from any thread, and the log says so once.
    """

    def __init__(self, path: Path, max_size: int, tell_loss: Callable[[int], bytes], on_loss: Callable[[int], None]) -> None:
        super().__init__(-1, tell_loss, limit=1000, batch=_BATCH)
        self._path, self._max_size, self._on_loss = path, max_size, on_loss
        self._torn = False
        """Whether half a line may stand at the end of the file."""
        self._failing = False

    def _lose(self, lines: int) -> None:
        super()._lose(lines)
        self._on_loss(lines)

    def _write(self, octets: bytes) -> bool:
        try:
            self._make_ready(len(octets))
        except OSError as error:
            return self._failed(error.strerror or str(error))
        if not super()._write(b"\n" + octets if self._torn else octets):
            self._torn = True
            return self._failed("cannot be written to")
        self._torn = self._failing = False
        return True

    def _make_ready(self, octets: int) -> None:
        """Have the file open that is to be written to; raises OSError."""
        self._follow()
        size = os.fstat(self._fd).st_size
        if size and size + octets > self._max_size:
            fcntl.flock(self._fd, fcntl.LOCK_EX)  # of several processes that write to it, one moves it away
            if self._is_here():
                self._path.replace(self._path.with_name(self._path.name + ".1"))
            self._follow()

    def _follow(self) -> None:
        """Open the file that has the name now, and let go of any other, its lock too."""
        if not self._is_here():
            self._close_file()
            self._fd, self._torn = os.open(self._path, _FLAGS, _MODE), False

    def _is_here(self) -> bool:
        """Whether what is open still has the name."""
        if self._fd < 0:
            return False
        with suppress(FileNotFoundError):
            return os.path.samestat(self._path.stat(follow_symlinks=False), os.fstat(self._fd))
        return False

    def _failed(self, why: str) -> bool:
        if not self._failing:
            self._failing = True
            log.warning("%s: %s: what belongs there is lost until that is mended", self._path, why)
        return False

    def _close_file(self) -> None:
        if self._fd >= 0:
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1

    def _run(self) -> None:
        super()._run()
        self._close_file()
