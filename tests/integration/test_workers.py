"""Two workers under load: one is killed, all reload, all end."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import lmdb
import pytest
from programs import wait_until
from real_peers import Proxy, World, ask, facts

SECURE = ("NOERROR", True)
TWO = "[workers]\ncount = 2\n"
NAMES = ("www.rsa.peers.", "www.p256.peers.", "www.ed25519.peers.")


class Two(Proxy):
    """dohproxy with two workers."""

    def said(self) -> str:
        return self.log.read_text()

    def pids(self) -> dict[int, int]:
        """The process that serves in each place."""
        return {int(number): int(pid) for number, pid in re.findall(r"worker (\d) serves \(process (\d+)\)", self.said())}

    def served(self, number: int) -> int:
        """How many workers have come to serve in this place."""
        return len(re.findall(rf"worker {number} serves", self.said()))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@pytest.fixture
def two(world: World, tmp_path: Path) -> Iterator[Two]:
    with Two(tmp_path, world.config(more=TWO)) as running:
        yield running


class Asker(threading.Thread):
    """A client that asks over and over from one port, each time once the last question was answered or given up."""

    def __init__(self, port: int, ending: threading.Event) -> None:
        super().__init__()
        self.right = self.lost = 0
        self.wrong: list[str] = []
        self._port, self._ending = port, ending

    def run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", self._port))
            sock.settimeout(6)
            while not self._ending.is_set():
                name = NAMES[self.right % len(NAMES)]
                query = dns.message.make_query(name, "A", flags=dns.flags.RD | dns.flags.AD)
                try:
                    sock.send(query.to_wire())
                    answer = dns.message.from_wire(sock.recv(4096))
                except (TimeoutError, ConnectionRefusedError):
                    self.lost += 1
                    continue
                if query.is_response(answer) and facts(answer)[:2] == SECURE:
                    self.right += 1
                else:
                    self.wrong.append(str(answer))


class Load:
    """So many clients at once, until the block ends."""

    def __init__(self, port: int, clients: int = 16) -> None:
        self._ending = threading.Event()
        self.askers = [Asker(port, self._ending) for _ in range(clients)]

    def __enter__(self) -> Load:
        for asker in self.askers:
            asker.start()
        wait_until(lambda: min(asker.right for asker in self.askers) > 5, 20, "load")
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for asker in self.askers:
            asker.join()

    def goes_on(self) -> bool:
        """Waits until every client was answered again, and more than once."""
        before = [asker.right for asker in self.askers]
        wait_until(
            lambda: all(asker.right > start + 5 for asker, start in zip(self.askers, before, strict=True)), 20, "an answer"
        )
        return True


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_costs_no_more_than_what_it_was_answering(two: Two, killed: int) -> None:
    before = two.pids()
    with Load(two.port) as load:
        os.kill(before[killed], signal.SIGKILL)
        wait_until(lambda: two.served(killed) == 2, 20, "another worker")
        assert load.goes_on()
    assert two.pids()[1 - killed] == before[1 - killed]
    assert not any(asker.wrong for asker in load.askers)
    assert max(asker.lost for asker in load.askers) <= 1


def test_what_workers_have_found_out_is_there_after_them(world: World, tmp_path: Path) -> None:
    shared = tmp_path / "answers"
    with Two(tmp_path, world.config(more=f'{TWO}[cache]\nshared = "{shared}"\n[log]\nqueries = true\n')) as two:
        found = [facts(ask(two.port, name)) for name in NAMES]
        wait_until(lambda: kept_in(shared) >= len(NAMES), 20, "the file")
        for pid in two.pids().values():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: two.served(0) == two.served(1) == 2, 20, "other workers")
        before = len(two.said())
        assert [facts(ask(two.port, name)) for name in NAMES] == found
        wait_until(lambda: two.said()[before:].count("source=cache") == len(NAMES), 5, "the log of answers that were at hand")
    assert {answer[:2] for answer in found} == {SECURE}


def kept_in(shared: Path) -> int:
    """How many answers stand in a file of shared ones."""
    with lmdb.open(str(shared), subdir=False, readonly=True, lock=False, max_dbs=3) as file, file.begin() as reading:
        return sum(reading.stat(file.open_db(half, reading, create=False))["entries"] for half in (b"0", b"1"))


def test_a_reload_under_load_loses_nothing(two: Two, world: World) -> None:
    with Load(two.port) as load:
        two.write(world.config(more=TWO + '[local]\nrecords = ["printer.lan. 300 IN A 192.0.2.77"]\n'))
        two.signal(signal.SIGHUP)
        wait_until(lambda: "supervisor: reloaded" in two.said(), 20, "the reload")
        assert load.goes_on()
        for _ in range(10):
            assert ("printer.lan.", "A", "192.0.2.77") in facts(ask(two.port, "printer.lan."))[2]
    assert not any(asker.wrong or asker.lost for asker in load.askers)


@pytest.mark.parametrize(
    "bad", ["[listne]\n", '[[policy.list]]\nname = "ads"\nfile = "gone.txt"\n', '[[zone]]\nname = "x."\nupstream = []\n']
)
def test_a_bad_reload_changes_nothing(two: Two, world: World, bad: str) -> None:
    pids = two.pids()
    two.write(world.config(more=TWO + bad))
    two.signal(signal.SIGHUP)
    wait_until(lambda: "not reloaded" in two.said(), 20, "the refusal")
    assert [facts(ask(two.port, name))[:2] for name in NAMES * 4] == [SECURE] * 12
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: two.served(0) == 2, 20, "another worker")
    assert [facts(ask(two.port, name))[:2] for name in NAMES * 4] == [SECURE] * 12


def test_counters_are_those_of_all_and_the_end_is_soon(two: Two) -> None:
    for name in NAMES * 20:
        ask(two.port, name)
    two.signal(signal.SIGUSR1)
    wait_until(lambda: "counters: udp_queries=60 " in two.said(), 5, "the counters")
    with Load(two.port) as load:
        assert two.stop(signal.SIGTERM) < 3.2
    stopped = two.said().partition("stopped: ")[2]
    counted = dict(re.findall(r"(\S+)=(\d+)", stopped))
    answered = 60 + sum(asker.right for asker in load.askers)
    assert int(counted["udp_queries"]) == int(counted.get("hits", 0)) + int(counted["misses"]) == answered
    assert int(counted["rcodes[0]"]) == int(counted["security[secure]"]) == answered


def test_a_killed_worker_is_back_within_seconds(two: Two) -> None:
    begin = time.monotonic()
    os.kill(two.pids()[0], signal.SIGKILL)
    wait_until(lambda: two.served(0) == 2, 20, "another worker")
    assert time.monotonic() - begin < 10
