"""Answers on disk: shared by the processes of a machine, and there again after a restart. A file of LMDB's.

Every process has it mapped: what one has fetched and judged the others read without asking it. It is bounded by two halves:
when the one that is written to is full, the other is emptied and written to from then on.
"""

from __future__ import annotations

import os
import stat
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

import lmdb

from dohproxy.cache.answers import Found, Key, unpacked
from dohproxy.errors import DohproxyError
from dohproxy.model import Answer, Security

LEAST_LIFETIME: Final = 2
"""Seconds: what is gone sooner is not worth a disk."""
MOST_WAITING: Final = 16384
"""Answers that may wait to be written; beyond that the newest are left out."""

_FORMAT: Final = b"dohproxy answers 1"
_HALVES: Final = (b"0", b"1")
_CURRENT: Final = b"current"
_FIRST: Final = bytes(4)
_DIGEST: Final = 8
_TIMES: Final = struct.Struct("=dd")
"""When the answer was born and until when it is fresh, both in seconds since 1970; behind a digest of all that follows it."""
_HEAD: Final = _DIGEST + _TIMES.size
_DAMAGED: Final = (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.PanicError)
_JUDGED: Final = (Security.SECURE, Security.INSECURE, Security.UNCHECKED)


class BadSharedFile(DohproxyError):
    """The file cannot be used."""


class SharedFile:
    """The file, at most `size` octets of it; opened once a process. Raises BadSharedFile. A damaged one is made anew.

    It must be ours alone to write: what stands in it is believed without being validated again.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._half = path, size // 2
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._epochs: dict[bytes, bytes] = {}
        self.lost = 0
        """Answers that could not be written."""
        self.trouble = ""
        """Why it is of no use any more."""
        _check_owner(path)
        try:
            try:
                self._open(size)
            except _DAMAGED:  # by a machine that went down at the wrong moment: what is lost is only a cache
                self._remove()
                self._open(size)
            except FileNotFoundError:  # another process has just removed it
                self._open(size)
        except (lmdb.Error, OSError) as error:
            raise BadSharedFile(f"{path} cannot be used: {error}") from error

    def _open(self, size: int) -> None:
        self._file = _opened(self._path, size)
        try:
            found, pages = self._path.stat(), self._file.info()["last_pgno"] + 1
            self._inode = found.st_ino
            if found.st_size < pages * self._file.stat()["psize"]:
                raise lmdb.CorruptedError("it was cut off")  # what is mapped of that would end the process
            self._meta = self._file.open_db(b"meta")
            self._halves = tuple(self._file.open_db(name) for name in _HALVES)
            self._file.reader_check()  # of processes that were killed
        except (lmdb.Error, OSError):
            self._file.close()
            raise

    def _remove(self) -> None:
        """Others may go on with what they have open; the locks are of the file, and go with it."""
        for path in (self._path, self._path.with_name(self._path.name + "-lock")):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it, with what waits written."""
        self.flush()
        self._file.close()

    def read(self, meaning: bytes, key: bytes) -> list[bytes]:
        """What is there under this key with this meaning, in either half; nothing once there was trouble."""
        if self.trouble:
            return []
        try:
            with self._file.begin() as reading:
                key = meaning + self._epoch(reading, meaning) + key
                return [value for half in self._halves if (value := reading.get(key, db=half)) is not None]
        except lmdb.Error as error:
            self._give_up(error)
            return []

    def epoch(self, meaning: bytes) -> bytes:
        """How often its answers had been forgotten when that was last looked at: a part of the keys of those that are not.

        What was found out before another process forgot is so never believed after that.
        """
        if meaning not in self._epochs:
            self.read(meaning, b"")
        return self._epochs.get(meaning, _FIRST)

    def _epoch(self, reading: lmdb.Transaction, meaning: bytes) -> bytes:
        epoch = self._epochs[meaning] = bytes(reading.get(meaning, _FIRST, db=self._meta))
        return epoch

    def forget(self, meaning: bytes) -> None:
        """Have nobody believe what was written with this meaning so far. Where that cannot be told, the file goes."""
        try:
            with self._file.begin(write=True) as writing:
                epoch = (int.from_bytes(self._epoch(writing, meaning)) + 1).to_bytes(len(_FIRST))
                writing.put(meaning, epoch, db=self._meta)
        except lmdb.Error as error:
            self._give_up(error)
        else:
            self._epochs[meaning] = epoch

    def _give_up(self, error: lmdb.Error) -> None:
        """It goes, so that the next start makes it anew; not if another process has done so already."""
        self.trouble = str(error)
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._remove()

    def put(self, key: bytes, value: bytes) -> None:
        """Have this written by the next `flush`."""
        if len(self._waiting) < MOST_WAITING and not self.trouble:
            self._waiting.append((key, value))
        else:
            self.lost += 1

    @property
    def waits(self) -> bool:
        """Whether there is something to write."""
        return bool(self._waiting)

    def flush(self) -> None:
        """Write what waits. May block, for as long as another process writes; a disk that fails costs what waited."""
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not batch:
            return
        try:
            self._write(batch)
        except lmdb.MapFullError:
            self._start_over()
            self.lost += len(batch)
        except lmdb.Error:
            self.lost += len(batch)

    def _write(self, batch: list[tuple[bytes, bytes]]) -> None:
        with self._file.begin(write=True) as writing:
            current = _index(writing.get(_CURRENT, b"\0", db=self._meta))
            half = self._halves[current]
            for key, value in batch:
                writing.put(key, value, db=half)
            told = writing.stat(half)
            pages = told["branch_pages"] + told["leaf_pages"] + told["overflow_pages"]
            if pages * told["psize"] > 0.8 * self._half:
                writing.drop(self._halves[1 - current], delete=False)
                writing.put(_CURRENT, bytes([1 - current]), db=self._meta)

    def _start_over(self) -> None:
        with self._file.begin(write=True) as writing:
            for half in self._halves:
                writing.drop(half, delete=False)


def _opened(path: Path, size: int) -> lmdb.Environment:
    return lmdb.open(
        str(path),
        map_size=size,
        subdir=False,
        mode=0o600,
        max_dbs=3,
        sync=False,
        metasync=False,
        readahead=False,
        max_readers=512,
    )


def _index(value: bytes) -> int:
    return value[0] & 1 if value else 0


def _check_owner(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadSharedFile(f"{path} cannot be used: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise BadSharedFile(f"{path} is not a file that only we may write")


class SharedAnswers:
    """The answers of one meaning, which is all that they depend on besides the question, told as octets: Others.

    `now` is the monotonic time that answers count by, `wall` the time of day: the file knows only the latter.
    """

    def __init__(self, file: SharedFile, meaning: bytes, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self._file, self._now, self._wall = file, now, wall
        self._meaning = blake2b(_FORMAT + meaning, digest_size=_DIGEST).digest()

    def get(self, key: Key) -> Found | None:
        """The answer that is there, perhaps past its time; None for what is broken, or not from the past."""
        best: tuple[float, float, bytes] | None = None
        wall = self._wall()
        for value in self._file.read(self._meaning, key):
            if len(value) < _HEAD or value[:_DIGEST] != _digest_of(value[_DIGEST:]):
                continue
            born, fresh_until = _TIMES.unpack_from(value, _DIGEST)
            if born <= wall and (best is None or fresh_until > best[1]):
                best = born, fresh_until, value[_HEAD:]
        if best is None:
            return None
        since = self._now() - wall
        answer = unpacked(best[2], best[0] + since)
        return Found(answer, best[1] + since)

    def put(self, key: Key, answer: Answer, octets: bytes, fresh_until: float) -> None:
        """Have this answer written, if it is one that was judged and lasts."""
        if answer.security not in _JUDGED or fresh_until - answer.born < LEAST_LIFETIME:
            return
        since = self._wall() - self._now()
        value = _TIMES.pack(answer.born + since, fresh_until + since) + octets
        self._file.put(self._meaning + self._file.epoch(self._meaning) + key, _digest_of(value) + value)

    def clear(self) -> None:
        """Have no process of this meaning believe what is there by now."""
        self._file.forget(self._meaning)


def _digest_of(value: bytes) -> bytes:
    return blake2b(value, digest_size=_DIGEST).digest()
