"""Servers as child processes (pinned, watched, ended by their own PIDs), and runs of the load generator."""

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

ANSWER_EVERY = 0.005  # seconds between the questions that wait for a server's first answer


class ServerFailed(Exception):
    """A server ended, or did not answer, when it should have."""


def question(query_id: int, name: str) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return query_id.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"


def is_answer(reply: bytes) -> bool:
    """Whether a reply is NOERROR with at least one record."""
    return len(reply) > 12 and reply[3] & 15 == 0 and reply[6:8] != b"\0\0"


class Server:
    """A running server on 127.0.0.1. `ready_after` is the time in seconds from its start to its first right answer."""

    def __init__(
        self, name: str, command: Sequence[str], port: int, cpus: str, log: Path, *, ready_zone: str, patience: float = 20
    ) -> None:
        self.name, self.port, self._log = name, port, log
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as e:
                raise ServerFailed(f"{name}: UDP port {port}: {e.strerror}") from e
        wrapped = ["taskset", "-c", cpus, "setpriv", "--pdeathsig", "TERM", *command]
        self._started = time.perf_counter()
        with log.open("wb") as out:
            self._process = subprocess.Popen(wrapped, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        try:
            self.ready_after = self._wait(ready_zone, patience)
        except BaseException:
            self.stop()
            raise

    def _wait(self, zone: str, patience: float) -> float:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("127.0.0.1", self.port))
            probe.settimeout(ANSWER_EVERY)
            for serial in itertools.count():  # always a new name: a SERVFAIL of the first moment may be cached
                elapsed = time.perf_counter() - self._started
                if not self.alive:
                    raise ServerFailed(f"{self.name} ended with status {self._process.returncode}: {self.log_tail()}")
                if elapsed > patience:
                    raise ServerFailed(f"{self.name} gave no right answer in {patience:.0f} s: {self.log_tail()}")
                try:
                    probe.send(question(serial & 0xFFFF, f"ready{serial}.{zone}"))
                    if is_answer(probe.recv(4096)):
                        return time.perf_counter() - self._started
                    time.sleep(ANSWER_EVERY)
                except ConnectionRefusedError:
                    time.sleep(ANSWER_EVERY)
                except TimeoutError:
                    pass
        raise AssertionError

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def log_tail(self) -> str:
        return " | ".join(self._log.read_text(errors="replace").splitlines()[-3:]) or "(its log is empty)"

    def ask(self, name: str) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.connect(("127.0.0.1", self.port))
            client.settimeout(2)
            client.send(question(1, name))
            return client.recv(4096)

    def pids(self) -> list[int]:
        """The process and its descendants."""
        found, todo = [], [self._process.pid]
        while todo:
            found.append(todo.pop())
            for children in Path(f"/proc/{found[-1]}/task").glob("*/children"):
                with contextlib.suppress(OSError):  # it ended meanwhile
                    todo += map(int, children.read_text().split())
        return found

    def _sum(self, pattern: str, number: str) -> int:
        total = 0
        for pid in self.pids():
            for path in Path(f"/proc/{pid}").glob(pattern):
                with contextlib.suppress(OSError):
                    match = re.search(number, path.read_text(), re.MULTILINE)
                    total += int(match[1]) if match else 0
        return total

    def cpu_seconds(self) -> float:
        return self._sum("task/*/schedstat", r"^(\d+)") / 1e9

    def rss_mib(self) -> float:
        return self._sum("status", r"^VmRSS:\s+(\d+)") / 1024

    def stop(self) -> None:
        pids = self.pids()
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, sign)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()


@contextlib.contextmanager
def counted(pids: Sequence[int], events: Sequence[str]) -> Iterator[dict[str, int]]:
    """How often the kernel saw each of perf's events in these processes meanwhile; there when it ends."""
    counts: dict[str, int] = {}
    (control, order), (told, acknowledge) = os.pipe(), os.pipe()
    command = ["perf", "stat", "-x,", "-D", "-1", f"--control=fd:{control},{acknowledge}", "-e", ",".join(events), "-p"]
    with subprocess.Popen(
        [*command, ",".join(map(str, pids))], stderr=subprocess.PIPE, text=True, pass_fds=(control, acknowledge)
    ) as perf:
        os.close(control)
        os.close(acknowledge)
        with contextlib.suppress(BrokenPipeError):
            os.write(order, b"enable\n")
        if not os.read(told, 16):
            raise ServerFailed(f"perf stat: {perf.communicate()[1].strip()}")
        try:
            yield counts
        finally:
            perf.send_signal(signal.SIGINT)
            report = perf.communicate()[1]
            os.close(order)
            os.close(told)
    counts |= {event: int(value) for value, event in re.findall(r"^(\d+),[^,]*,([^,]+),", report, re.MULTILINE)}


def blast(
    tool: Path,
    port: int,
    queries: Path,
    cpu: int,
    *,
    seconds: float,
    window: int = 0,
    rate: float = 0,
    once: bool = False,
    ad: bool = False,
    timeout: float = 2,
    ports: int = 8,
) -> dict[str, float]:
    """One run of the load generator, which asks from so many ports; its report (see blast.c)."""
    command: list[object] = ["taskset", "-c", cpu, tool, "-p", port, "-d", queries, "-l", seconds, "-t", timeout, "-c", ports]
    command += (["-Q", rate] if rate else ["-w", window]) + ["-1"] * once + ["-a"] * ad
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=seconds + 30, check=True)
    report: dict[str, float] = json.loads(done.stdout)
    return report
