"""The file of TLS secrets (SSLKEYLOGFILE): whoever reads it reads all that we say, so that is we alone."""

from __future__ import annotations

import os
from pathlib import Path


def private_log(path: Path) -> str:
    """The path, of a file that is there now and that its owner alone may read; raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)
    return str(path)
