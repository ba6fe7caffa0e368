"""The supervisor as a process, over workers that are told to misbehave: with signals, as an operator would."""

import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import trio
from programs import wait_until

from dohproxy.channel import ends
from dohproxy.config.settings import Access, Cache, Dnssec, Forwarding, Listen, Local, Log, Policy, Settings, Workers
from dohproxy.listen.sockets import Sockets
from dohproxy.seat import NOW, Seat
from dohproxy.supervisor import FIRST_WAIT, LONG_LIFE, MAX_WAIT, BackOff, Supervisor
from dohproxy.telemetry.counters import Counters

FAKES = """
import os, sys, time
import trio
from dohproxy import supervised, worker
from dohproxy.courses import as_task
from dohproxy.model import Security

FAULT = os.environ["FAULT"]

class Front:
    class recall:
        secured = [0] * len(Security)
        now = staticmethod(trio.current_time)
        def __new__(cls, *_): return None

    def begin(self, wire, host, transport, courses, done):
        async def answered():
            done(await self.answer(wire, host, transport))
        courses.begin(answered())

    async def answer(self, wire, host, transport):
        if wire.startswith(b"slow"):
            await as_task()
            await trio.sleep(float(wire[4:8]))
        if wire.startswith(b"crash"):
            os.kill(os.getpid(), 9)
        if wire.startswith(b"hang"):
            time.sleep(float(wire[4:8].strip() or 99))
        return str(os.getpid()).encode().ljust(12) + GENERATION.encode()

GENERATION = ""

class Service:
    def __init__(self, settings, observers, *, tell_hits, recorder, keeps):
        global GENERATION
        GENERATION = settings.file
        if FAULT == "start" or FAULT == "second" and not keeps:
            sys.exit(3)
        if FAULT == "late" and os.path.exists(os.environ["FLAG"]):
            sys.exit(3)
        self.front, self.workload = Front(), None
        self.keeps = keeps

    async def run(self, task_status):
        task_status.started()
        await trio.sleep_forever()

    async def reload(self, settings):
        global GENERATION
        from dohproxy.errors import NotReady
        if FAULT == "reload" or FAULT == "follow" and not self.keeps:
            raise NotReady("no such CA file")
        if FAULT == "dies":
            os.kill(os.getpid(), 9)
        if FAULT == "ponders":
            open(os.environ["FLAG"], "w").close()
            await trio.sleep(60)
        GENERATION = settings.file

worker.Service = Service
if FAULT == "few":
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
sys.exit(supervised.main())
"""

PROGRAM = """
import os, sys
from pathlib import Path
import dohproxy.seat, dohproxy.spread, dohproxy.supervisor as supervisor
from dohproxy.config.settings import *
from dohproxy.errors import ConfigError, Problem

dohproxy.seat.PATIENCE = float(os.environ.get("PATIENCE", "20"))
dohproxy.seat.SILENCE = float(os.environ.get("SILENCE", "5"))
dohproxy.spread.PROC = Path(os.environ.get("PROC", "/nowhere"))
dohproxy.spread.USUALLY = 1.0
command = (sys.executable if os.environ["FAULT"] != "gone" else "/nowhere/python", "-c", open(sys.argv[1]).read())
supervisor.Supervisor.__init__.__defaults__ = (command,)
here = tuple(Endpoint(f"127.0.0.{number + 1}", 0) for number in range(int(os.environ.get("ADDRESSES", "1"))))
reads = 0

def settings(file):
    return Settings(
        Listen(udp=here, tcp=here), Access(()), (), Forwarding(), Dnssec(), (), Policy(), Cache(), Local(),
        Log(), Workers(2), file=file,
    )

def reread():
    global reads
    reads += 1
    if os.environ["FAULT"] == "reread":
        raise ConfigError((Problem("x.toml", 1, "listne", "unknown key"),))
    return settings(f"new{reads}")

sys.exit(supervisor.run(settings("old"), reread))
"""


class Supervised:
    """The supervisor's process, its log, and ways to ask its workers."""

    def __init__(self, directory, fault, environ):
        (directory / "fakes.py").write_text(FAKES)
        self.names = itertools.count()
        self.log, self.flag = directory / "log", directory / "flag"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, directory / "fakes.py"],
                stderr=log,
                env=os.environ | {"FAULT": fault, "FLAG": str(self.flag)} | environ,
            )

    def said(self):
        return self.log.read_text()

    def wait_for(self, pattern, count=1, within=15):
        until = time.monotonic() + within
        while len(found := re.findall(pattern, self.said())) < count:
            assert time.monotonic() < until, f"{pattern!r} was not logged: {self.said()}"
            assert self.popen.poll() is None or re.search(pattern, self.said()), self.said()
            time.sleep(0.02)
        return found

    def wait_until_ready(self):
        self.wait_for("ready: 2 workers")
        self.port = {kind: int(port) for port, kind in re.findall(r"listening on 127.0.0.1:(\d+) \((\w+)\)", self.said())}

    def ask(self, wire=b"hello", timeout=5.0):
        """Which process answers, and by which settings; None if nobody does. By a name of its own each time."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(timeout)
            sock.sendto(wire.ljust(12) + b"%08d" % next(self.names), ("127.0.0.1", self.port["udp"]))
            try:
                pid, generation = sock.recv(100).split()
            except TimeoutError:
                return None
            return int(pid), generation.decode()

    def pids(self):
        found = self.wait_for(r"worker (\d) serves \(process (\d+)\)")
        return {int(number): int(pid) for number, pid in found}

    def answered_by(self, wanted):
        """Ask until each of these has answered."""
        seen = set()
        for _ in range(200):
            seen.add(self.ask())
            if wanted <= seen:
                return
        raise AssertionError(f"{wanted} did not all answer: {seen}")

    def end(self, *signals):
        for number in signals:
            self.popen.send_signal(number)
        return self.popen.wait(timeout=10)


@pytest.fixture
def start(tmp_path):
    started = []

    def start_(fault="", wait=True, **environ):
        started.append(Supervised(tmp_path, fault, environ))
        if wait:
            started[-1].wait_until_ready()
        return started[-1]

    yield start_
    for one in started:
        one.popen.kill()
        one.popen.wait()


def test_two_workers_answer(start):
    two = start()
    pids = two.pids()
    two.answered_by({(pid, "old") for pid in pids.values()})
    with socket.create_connection(("127.0.0.1", two.port["tcp"]), timeout=5) as stream:
        stream.sendall(b"\0\x0c" + b"hello".ljust(12))
        assert int(stream.recv(100)[2:].split()[0]) in pids.values()
    two.popen.send_signal(signal.SIGUSR1)
    [counted] = two.wait_for(r"counters: udp_queries=(\d+) tcp_queries=1 ")
    assert int(counted) >= 2
    assert two.end(signal.SIGTERM) == 0
    assert re.search(rf"stopped: udp_queries={counted} tcp_queries=1 misses={int(counted) + 1} tcp_accepted=1 ", two.said())
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_killed_worker_is_back_and_what_waited_for_it_is_answered(start):
    two = start()
    before = two.pids()
    os.kill(before[1], signal.SIGKILL)
    answered = [two.ask() for _ in range(40)]
    assert None not in answered, "its socket outlives it"
    two.wait_for("worker 1 serves", 2)
    after = two.pids()
    assert after[0] == before[0] and after[1] != before[1]
    two.answered_by({(pid, "old") for pid in after.values()})
    assert "worker 1 ended (by SIGKILL); another takes its place in 0 s" in two.said()
    two.popen.send_signal(signal.SIGUSR1)
    two.wait_for("counters: .*worker_restarts=1")


class Accounts:
    """What the kernel tells of the processors: all idle, and workers that run so much."""

    def __init__(self, directory):
        self.directory = directory
        self.tell(0, [])

    def tell(self, seconds, pids):
        """Idle, and run by each of these, so long since the system started."""
        for pid in ["self", *pids]:
            (self.directory / str(pid)).mkdir(parents=True, exist_ok=True)
            (self.directory / str(pid) / "schedstat").write_text(f"{seconds * 10**9 + 1} 0 1")
        ticks = seconds * os.sysconf("SC_CLK_TCK")
        (self.directory / "stat").write_text("".join(f"cpu{number} 0 0 0 {ticks} 0\n" for number in os.sched_getaffinity(0)))


def test_as_many_are_asked_as_the_load_needs(start, tmp_path):
    accounts = Accounts(tmp_path / "proc")
    two = start(PROC=str(accounts.directory))
    pids = two.pids()
    accounts.tell(0, pids.values())
    assert {two.ask() for _ in range(40)} == {(pids[0], "old")}
    seconds = itertools.count(1000, 1000)  # more than can be, whenever it is looked at
    seen = set()

    def short():
        accounts.tell(next(seconds), pids.values())
        seen.add(two.ask())
        return seen == {(pid, "old") for pid in pids.values()}

    wait_until(short, what="that both are asked")
    assert "names are asked of 2 of 2 workers" in two.said()
    two.wait_for("names are asked of 1 of 2 workers")
    assert {two.ask() for _ in range(40)} == {(pids[0], "old")}


def test_who_stands_in_for_a_worker_that_ended_goes_on_to(start, tmp_path):
    two = start(PROC=str(Accounts(tmp_path / "proc").directory))
    before = two.pids()
    os.kill(before[0], signal.SIGKILL)
    two.wait_for("worker 0 serves", 2)
    assert {two.ask() for _ in range(40)} == {(before[1], "old")}


def test_a_signal_without_a_name_costs_a_worker_and_no_more(start):
    two = start()
    os.kill(two.pids()[1], signal.SIGRTMIN + 1)
    two.wait_for("worker 1 serves", 2)
    assert f"worker 1 ended (by signal {signal.SIGRTMIN + 1}); another takes its place" in two.said()
    assert "Traceback" not in two.said()


def test_a_worker_that_hangs_is_replaced(start):
    two = start(PATIENCE="3")
    two.ask(b"hang", timeout=0.01)
    two.wait_for(r"has not been heard of for 3 s")
    two.wait_for(r"worker \d serves", 3)


def test_a_worker_that_is_silent_is_asked_nothing_until_it_is_heard_of_again(start):
    two = start(SILENCE="3")
    two.ask(b"hang 4", timeout=0.01)
    two.wait_for(r"worker \d is silent, and is asked nothing")
    assert None not in [two.ask(timeout=0.5) for _ in range(40)], "the other takes its names"
    two.wait_for(r"worker \d is heard of again")
    two.answered_by({(pid, "old") for pid in two.pids().values()})


def test_a_lost_worker_is_asked_nothing(start):
    two = start("late")
    two.flag.touch()
    os.kill(two.pids()[1], signal.SIGKILL)
    two.wait_for("worker 1 ended")
    assert {two.ask() for _ in range(40)} == {(two.pids()[0], "old")}


def test_what_a_lost_worker_had_counted_is_not_lost(start):
    two = start()
    [two.ask() for _ in range(20)]
    two.popen.send_signal(signal.SIGUSR1)
    two.wait_for("counters: udp_queries=20 ")
    os.kill(two.pids()[0], signal.SIGKILL)
    two.wait_for("worker 0 serves", 2)
    assert two.end(signal.SIGTERM) == 0
    assert re.search("stopped: udp_queries=20 ", two.said())


def test_all_reload(start):
    two = start()
    two.popen.send_signal(signal.SIGHUP)
    two.wait_for("supervisor: reloaded")
    two.answered_by({(pid, "new1") for pid in two.pids().values()})
    os.kill(two.pids()[1], signal.SIGKILL)
    two.wait_for("worker 1 serves", 2)
    two.answered_by({(pid, "new1") for pid in two.pids().values()})


@pytest.mark.parametrize(("fault", "why"), [("reread", "x.toml:1: listne: unknown key"), ("reload", "no such CA file")])
def test_what_cannot_be_used_changes_nothing(start, fault, why):
    two = start(fault)
    before = two.pids()
    two.popen.send_signal(signal.SIGHUP)
    two.wait_for("not reloaded")
    assert why in two.said()
    two.answered_by({(pid, "old") for pid in before.values()})
    os.kill(before[1], signal.SIGKILL)
    two.wait_for("worker 1 serves", 2)
    two.answered_by({(two.pids()[1], "old")})
    assert "supervisor: reloaded" not in two.said()


def test_an_end_during_a_reload_is_no_error(start):
    two = start("ponders")
    two.popen.send_signal(signal.SIGHUP)
    wait_until(two.flag.exists, what="a reload")
    assert two.end(signal.SIGTERM, signal.SIGTERM) == 0
    assert "not reloaded" not in two.said()


def test_a_silent_worker_does_not_go_ahead(start):
    two = start(SILENCE="3")
    before = two.pids()
    os.kill(before[0], signal.SIGSTOP)
    two.wait_for("worker 0 is silent")
    two.popen.send_signal(signal.SIGHUP)
    wait_until(lambda: two.ask() == (before[1], "new1"), what="a reload")
    os.kill(before[0], signal.SIGCONT)
    two.wait_for("supervisor: reloaded")
    two.answered_by({(pid, "new1") for pid in before.values()})


def test_what_a_worker_dies_of_changes_nothing(start):
    two = start("dies")
    two.popen.send_signal(signal.SIGHUP)
    two.wait_for("not reloaded: worker 0 does not tell whether it can use it; serving by the configuration from before")
    two.wait_for("worker 0 serves", 2)
    two.answered_by({(pid, "old") for pid in two.pids().values()})


def test_a_worker_that_cannot_follow_is_replaced(start):
    two = start("follow")
    before = two.pids()
    two.popen.send_signal(signal.SIGHUP)
    two.wait_for("worker 1 serves", 2)
    after = two.pids()
    assert after[0] == before[0] and after[1] != before[1]
    two.answered_by({(pid, "new1") for pid in after.values()})


def test_answers_under_way_leave_before_the_end(start):
    two = start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(b"slow 0.5".ljust(12), ("127.0.0.1", two.port["udp"]))
        two.ask()
        assert two.end(signal.SIGTERM) == 0
        assert sock.recv(100)


def test_the_end_waits_no_longer_than_three_seconds(start):
    two = start()
    two.ask(b"slow 999", timeout=0.01)
    two.ask(b"hang", timeout=0.01)
    begin = time.monotonic()
    assert two.end(signal.SIGTERM) == 0
    assert time.monotonic() - begin < 3.2
    assert "not every worker ended in time" in two.said()


def test_asked_twice_it_ends_at_once(start):
    two = start()
    two.ask(b"slow 999", timeout=0.01)
    two.popen.send_signal(signal.SIGTERM)
    two.wait_for("stopping")
    begin = time.monotonic()
    assert two.end(signal.SIGINT) == 0
    assert time.monotonic() - begin < 1.5


def test_workers_take_any_number_of_sockets(start):
    two = start(ADDRESSES="125")  # 250, which with the settings are one file more than a message takes
    assert two.said().count("listening on") == 250
    [port] = re.findall(r"listening on 127.0.0.125:(\d+) \(tcp\)", two.said())
    with socket.create_connection(("127.0.0.125", port), timeout=5) as last:
        last.sendall(b"\0\x0c" + b"hello".ljust(12))
        assert int(last.recv(100)[2:].split()[0]) in two.pids().values()
    assert two.end(signal.SIGTERM) == 0


def test_a_worker_with_too_few_files_to_open_says_so(start):
    few = start("few", wait=False, ADDRESSES="125")
    assert few.end() == 1
    assert "worker 0 cannot take its sockets: Too many open files" in few.said()
    assert "Traceback" not in few.said()


def test_that_sockets_cannot_be_handed_over_is_told(caplog):
    ours, theirs = ends()
    theirs.close()
    Seat(3, Sockets())._hand_over(ours, 0)
    ours.close()
    assert "worker 3 cannot be given its 0 sockets: Broken pipe" in caplog.text


def test_no_worker_outlives_its_supervisor(start):
    two = start()
    pids = two.pids()
    two.end(signal.SIGKILL)
    until = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids.values()):  # noqa: PTH110
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_is_sent_to_all_processes_is_the_supervisors_business(start):
    two = start()
    for pid in two.pids().values():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            os.kill(pid, number)
    two.answered_by({(pid, "old") for pid in two.pids().values()})


@pytest.mark.parametrize("fault", ["start", "second"])
def test_workers_that_cannot_start_end_it_with_their_status(start, fault):
    assert start(fault, wait=False).end() == 3


def test_a_program_that_cannot_be_run_is_told(start):
    gone = start("gone", wait=False)
    assert gone.end() == 1
    assert "worker 0 cannot be started: /nowhere/python: No such file or directory" in gone.said()
    assert "Traceback" not in gone.said()


def test_a_worker_that_cannot_be_replaced_is_tried_again_and_others_serve(start):
    two = start("late")
    before = two.pids()
    two.flag.touch()
    os.kill(before[1], signal.SIGKILL)
    two.wait_for(r"worker 1 ended \(status 3\); another takes its place in 0.25 s")
    two.flag.unlink()
    two.wait_for("worker 1 serves", 2)
    two.answered_by({(pid, "old") for pid in two.pids().values()})


def test_the_service_manager_is_told_once_all_serve(start, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        two = start(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="400000")
        heard = [manager.recv(200).decode().split("\n")[0]]
        while "READY=1" not in heard:
            heard.append(manager.recv(200).decode().split("\n")[0])
        two.popen.send_signal(signal.SIGHUP)
        two.wait_for("supervisor: reloaded")
        two.end(signal.SIGTERM)
        while "STOPPING=1" not in heard:
            heard.append(manager.recv(200).decode().split("\n")[0])
    assert [told for told in heard if told != "WATCHDOG=1"] == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert "WATCHDOG=1" in heard


def test_a_supervisor_is_small():
    told = "import sys, dohproxy.supervisor; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"cryptography", "h2", "dns", "marisa_trie", "dohproxy.worker", "dohproxy.service", "dohproxy.build"}
    assert not heavy & set(loaded)


def test_what_a_lost_worker_had_open_is_open_no_more():
    assert {name for name in Counters.__struct_fields__ if name.endswith("_open")} == NOW


async def test_a_worker_that_cannot_live_is_waited_for_longer_and_longer(autojump_clock):
    began = []

    class Doomed:
        number, settled = 0, trio.Event()

        async def serve(self, sealed):  # noqa: ARG002 -- nor does it get that far
            began.append(trio.current_time())
            if len(began) == 6:
                supervisor._stopping.set()
            return 1

    here = Settings(Listen(), Access(()), (), Forwarding(), Dnssec(), (), Policy(), Cache(), Local(), Log(), Workers(2))
    supervisor = Supervisor(here, lambda: here, [])
    supervisor._ready = True
    await supervisor._fill(Doomed())
    os.close(supervisor._sealed)
    assert [after - before for before, after in itertools.pairwise(began)] == pytest.approx([0, FIRST_WAIT, 0.5, 1, 2])


def test_backing_off():
    back_off = BackOff()
    assert [back_off.after(0.1) for _ in range(7)] == [0, FIRST_WAIT, 0.5, 1, 2, MAX_WAIT, MAX_WAIT]
    assert [back_off.after(LONG_LIFE), back_off.after(1)] == [0, FIRST_WAIT]
