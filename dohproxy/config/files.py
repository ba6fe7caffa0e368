"""The files that a configuration names: found from where it stands, and tried before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

from dohproxy.config import lines
from dohproxy.config.report import Report


class Files:
    """Turns paths as written into paths as used; relative ones start at `base`."""

    def __init__(self, base: Path, report: Report) -> None:
        self.base, self.report = base, report

    def readable(self, text: str, at: lines.Path) -> Path:
        """A file that is there and can be read."""
        path = self._path(text)
        try:
            with path.open("rb"):
                pass
        except (OSError, ValueError) as error:
            self._unreadable(path, error, at)
        return path

    def certificates(self, text: str, at: lines.Path) -> Path:
        """A file with certificates in PEM (RFC 7468)."""
        path = self._path(text)
        try:
            if b"-----BEGIN CERTIFICATE-----" not in path.read_bytes():
                self.report.problem(at, f"{path} has no certificate", allowed="a file with certificates in PEM")
        except (OSError, ValueError) as error:
            self._unreadable(path, error, at)
        return path

    def writable(self, text: str, at: lines.Path) -> Path:
        """A file that may not be there yet, in a directory that is."""
        path = self._path(text)
        if path.is_dir():
            self.report.problem(at, f"{path} is a directory", allowed="a file")
        elif not path.parent.is_dir():
            self.report.problem(at, f"there is no directory {path.parent}")
        elif path.exists() and not os.access(path, os.R_OK | os.W_OK):
            self.report.problem(at, f"{path} cannot be read and written")
        return path

    def named(self, text: str) -> Path:
        """A file that need not be there yet."""
        return self._path(text)

    def _path(self, text: str) -> Path:
        try:
            return self.base / Path(text).expanduser()
        except RuntimeError:  # nobody has that home
            return self.base / text

    def _unreadable(self, path: Path, error: OSError | ValueError, at: lines.Path) -> None:
        reason = error.strerror if isinstance(error, OSError) else error
        self.report.problem(at, f"{path} cannot be read: {reason}", allowed="a file that can be read")
