"""Real software as tests run it: found or missed, started, waited for, ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import pytest

from dohproxy.lab.main import free_port

SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))


def need(*programs: str) -> None:
    """Skips the test where a program, or a path, is not installed; in CI, where nothing may be left out, fails it."""
    missing = [one for one in programs if not (Path(one).exists() if one[0] == "/" else shutil.which(one, path=SEARCH))]
    if missing and "CI" in os.environ:
        pytest.fail(f"not installed: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


def execute(*command: str | Path, cwd: Path | None = None, timeout: float = 60) -> str:
    """What the command says on standard output; fails the test, with all it said, if the command fails."""
    environment = {**os.environ, "PATH": SEARCH}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def wait_until(true: Callable[[], bool], within: float = 10.0, what: str = "that") -> float:
    """Polls until it is true, and answers how many seconds it took; fails the test after `within` seconds."""
    begin = time.monotonic()
    while not true():
        if time.monotonic() - begin > within:
            pytest.fail(f"{what} did not happen within {within} s")
        time.sleep(0.01)
    return time.monotonic() - begin


def accepts(port: int) -> bool:
    """Whether something accepts TCP connections there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


class Running:
    """A program that serves on loopback until the block ends; `ports` are those that accept TCP once it is ready."""

    def __init__(self, command: Sequence[str | Path], log: Path, ports: Sequence[int]) -> None:
        self.command, self.log, self.ports = command, log, ports
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Starts it; answers the seconds until it was ready."""
        with self.log.open("ab") as log:
            environment = {**os.environ, "PATH": SEARCH}
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        return wait_until(self._ready, what=f"start of {self.command[0]} ({self.log})")

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"{self.command} ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
        return all(accepts(port) for port in self.ports)

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM, within: float = 10.0) -> float:
        """Ends it, and answers the seconds that this took."""
        assert self.process is not None
        begin = time.monotonic()
        self.process.send_signal(number)
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"{self.command[0]} did not end within {within} s")
        return time.monotonic() - begin

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.stop(signal.SIGKILL)


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that are free for TCP and UDP, all different, and from those that were given before."""
    found: list[int] = []
    while len(found) < count:
        if (port := free_port(0)) not in _given:
            _given.add(port)
            found.append(port)
    return found
