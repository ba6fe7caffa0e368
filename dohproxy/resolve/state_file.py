"""The state file of RFC 5011 on disk: always whole, the old one or the new one, whenever the machine stops."""

from __future__ import annotations

import os
from pathlib import Path

from dohproxy.dnssec.rfc5011 import TrustPoint
from dohproxy.dnssec.rfc5011_state import StateError, read_state, write_state


class StateFile:
    """Reads and replaces the file at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[TrustPoint, ...]:
        """What it holds, () if there is none; raises StateError for one that cannot be read, whatever the reason."""
        try:
            return read_state(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StateError(f"{self.path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise StateError(f"{self.path} is no text") from None

    def version(self) -> tuple[int, int]:
        """Tells one content from another: each is a file of its own. (0, 0) if there is none, or none that can be seen."""
        try:
            found = self.path.stat()
        except OSError:
            return 0, 0
        return found.st_ino, found.st_mtime_ns

    def write(self, points: tuple[TrustPoint, ...]) -> None:
        """Put these in its place; blocks until they are on the disk. Raises OSError, and then the old file stands."""
        fresh = self.path.with_name(f".{self.path.name}.new")
        with fresh.open("w", encoding="utf-8") as file:
            file.write(write_state(points))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def put_aside(self) -> Path:
        """Rename it, for a person to look at; where to. Raises OSError."""
        return self.path.replace(self.path.with_name(f"{self.path.name}.bad"))
