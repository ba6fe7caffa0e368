"""The server on quic-go: another implementation of QUIC, TLS and HTTP/3 than the one that we are made of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Self

from programs import SEARCH, need

SOURCE = Path(__file__).parent / "quic_go" / "main.go"
CLIENT = Path(__file__).parent / "quic_go_client" / "main.go"
LIBRARIES = "/usr/share/gocode"
"""Where Debian has them."""


def build(directory: Path, source: Path = SOURCE) -> Path:
    """The server, or another program, made of what is installed; skips the test where that is not there."""
    need("go", f"{LIBRARIES}/src/github.com/lucas-clemente/quic-go")
    program = directory / source.parent.name
    environment = {
        "HOME": str(directory),
        **os.environ,
        "PATH": SEARCH,
        "GO111MODULE": "off",
        "GOPATH": LIBRARIES,
        "GOFLAGS": "",
    }
    subprocess.run(["go", "build", "-o", program, source], env=environment, check=True, timeout=300)
    return program


class QuicGo:
    """It runs until the block ends."""

    def __init__(self, program: Path, certificate: tuple[Path, Path], *options: str | Path) -> None:
        self._command = [program, "-certificate", certificate[0], "-key", certificate[1], *options]
        self.doq_port = self.doh3_port = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert self._process.stdout is not None
        self.doq_port, self.doh3_port = map(int, self._process.stdout.readline().split())
        return self

    def send(self, number: int) -> None:
        """A signal."""
        self._process.send_signal(number)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
