"""Files that are replaced while we run: read again when they change, and kept as they were when they make no sense."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from dohproxy.errors import DohproxyError

T = TypeVar("T")
Complain = Callable[[str], None]
"""Is told, in a sentence, of what should not be."""


def nobody(_: str) -> None:
    """Whom nothing has to be told."""


class Followed(Generic[T]):
    """What `read` makes of these files. Where it raises DohproxyError at first that is the caller's; later it is told once."""

    def __init__(self, files: Iterable[Path], read: Callable[[], T], complain: Complain = nobody) -> None:
        self._files, self._read, self._complain = tuple(files), read, complain
        self._seen = self._look()
        self._value = read()

    def current(self) -> T:
        """What they say, or said when they last made sense: the same object while nothing changed."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._value = self._read()
            except DohproxyError as error:
                self._complain(f"{error}: what was there before stays in use")
        return self._value

    def _look(self) -> tuple[object, ...]:
        return tuple(map(_state, self._files))


def _state(file: Path) -> tuple[int, int, int] | None:
    """What changes whenever the file does; None for one that is not there."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
