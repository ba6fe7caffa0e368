"""Where log lines go: a file descriptor that may be slow, full or closed, without anyone waiting for it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from select import PIPE_BUF


class LineSink:
    """Writes lines from a thread of its own; beyond `limit` waiting lines the newest are lost, and their number is told.

    A blocked write holds up that thread and nothing else: standard error belongs to others too and may not be made
    non-blocking.
    """

    def __init__(self, fd: int, tell_loss: Callable[[int], bytes], limit: int = 10_000, batch: int = 256) -> None:
        self._fd = fd
        self._tell_loss = tell_loss
        self._limit, self._batch = limit, batch
        self._waiting: deque[bytes] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.lost = 0
        """Lines not written, since the start."""
        self._told = 0

    def start(self) -> None:
        """Start writing; lines put before are kept."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> None:
        """Take a line, which ends in a newline. Never blocks; safe from any thread."""
        if len(self._waiting) >= self._limit:
            self._lose(1)
            return
        self._waiting.append(line)
        if not self._wake.is_set():
            self._wake.set()

    def close(self, patience: float = 0.5) -> None:
        """Write what waits, for at most `patience` seconds, and end."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(patience)

    def _run(self) -> None:
        while not (self._closing and not self._waiting):
            self._wake.wait()
            self._wake.clear()
            self._write_waiting()

    def _write_waiting(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            if not self._write(b"".join(batch)):
                self._lose(len(batch))
            elif self.lost > self._told:
                told, self._told = self._told, self.lost
                self._write(self._tell_loss(self.lost - told))

    def _next_batch(self) -> list[bytes]:
        """Lines that are written at once: so few that those of several processes stay whole in a pipe (pipe(7))."""
        batch, size = [self._waiting.popleft()], 0
        while self._waiting and len(batch) < self._batch:
            size += len(batch[-1])
            if size + len(self._waiting[0]) > PIPE_BUF:
                break
            batch.append(self._waiting.popleft())
        return batch

    def _lose(self, lines: int) -> None:
        self.lost += lines

    def _write(self, octets: bytes) -> bool:
        try:
            while octets:
                octets = octets[os.write(self._fd, octets) :]
        except OSError:  # a full disk, a closed pipe: the log is lost, resolution goes on
            return False
        return True
