"""The worker as a process, with a service that echoes: told what to do by signals, as an operator would."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

PROGRAM = """
import sys
import time
import trio
from dohproxy import worker
from dohproxy.config.settings import *
from dohproxy.core import recaller
from dohproxy.courses import as_task
from dohproxy.errors import ConfigError, Problem, NotReady

FAULT = sys.argv[1]

class Front:
    recall = recaller(time.monotonic, print)

    def begin(self, wire, host, transport, courses, done):
        async def answered():
            done(await self.answer(wire, host, transport))
        courses.begin(answered())

    async def answer(self, wire, host, transport):
        if wire.startswith(b"slow"):
            await as_task()
            await trio.sleep(float(wire[4:8]))
        if wire.startswith(b"crash"):
            raise ZeroDivisionError
        return wire.upper()

class Service:
    def __init__(self, settings, observers, *, tell_hits, recorder, keeps):
        if FAULT == "build":
            raise ConfigError((Problem("x.toml", 3, "policy.list", "the list is gone"),))
        self.front, self.workload = Front(), None

    async def run(self, task_status):
        task_status.started()
        if FAULT == "service":
            await trio.sleep(0)
            raise ZeroDivisionError
        await trio.sleep_forever()

    async def reload(self, settings):
        if FAULT == "reload":
            raise NotReady("no such CA file")
        if FAULT == "reload-defect":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.fail)

    async def fail(self):
        raise ZeroDivisionError

worker.Service = Service

def settings(address="127.0.0.1"):
    here = (Endpoint(address, PORT),)
    return Settings(
        Listen(udp=here, tcp=here), Access(()), (), Forwarding(), Dnssec(), (), Policy(), Cache(), Local(),
        Log(format="json"), Workers(),
    )

def reread():
    if FAULT == "reread-defect":
        raise ZeroDivisionError
    if FAULT == "reread":
        raise ConfigError((Problem("x.toml", 1, "listne", "unknown key"), Problem("", 0, "upstream", "gone")))
    return settings("127.0.0.2" if FAULT == "listen" else "127.0.0.1")

PORT = int(sys.argv[2])
sys.exit(worker.run(settings(), reread))
"""

HAND_OVER = """
import fcntl, os, sys
for target, fd in enumerate([fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1].split(",")], 3):
    os.dup2(fd, target)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Process:
    """The worker, its log as it comes, and a socket to ask it with."""

    def __init__(self, fault="", environ=None, port=0, passed=()):
        command = [sys.executable, "-c", PROGRAM, fault, str(port)]
        if passed:  # as a service manager does it: descriptors from 3 on, for the process that is named
            command = [sys.executable, "-c", HAND_OVER, ",".join(str(sock.fileno()) for sock in passed), *command]
            environ = (environ or {}) | {"LISTEN_FDS": str(len(passed))}
        self.popen = subprocess.Popen(
            command, stderr=subprocess.PIPE, env=os.environ | (environ or {}), pass_fds=tuple(sock.fileno() for sock in passed)
        )
        self._lines: queue.Queue[dict] = queue.Queue()
        self.seen: list[dict] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.settimeout(5)

    def wait_until_ready(self):
        self.ports = {}
        for _ in range(2):
            told = self.wait_for("listening on ")["message"]
            self.ports[told[-4:-1]] = int(told.split(":")[1].split(" ")[0])
        self.wait_for("ready")

    def _read(self):
        for line in self.popen.stderr:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def wait_for(self, start):
        while True:
            event = self._lines.get(timeout=10)
            assert event is not None, f"{start!r} was not logged: {self.seen}"
            self.seen.append(event)
            if event["message"].startswith(start):
                return event

    def ask(self, wire):
        self.udp.sendto(wire.ljust(12), ("127.0.0.1", self.ports["udp"]))

    def answer(self):
        return self.udp.recv(4096).rstrip()

    def end(self, *signals):
        for number in signals:
            self.popen.send_signal(number)
        return self.popen.wait(timeout=10)

    def messages(self):
        self._reader.join()
        while not self._lines.empty():
            if event := self._lines.get():
                self.seen.append(event)
        return [(event["level"], event["message"]) for event in self.seen]

    def close(self):
        self.popen.kill()
        self.popen.wait()
        self._reader.join()
        self.popen.stderr.close()
        self.udp.close()


@pytest.fixture
def start():
    started = []

    def start_(*args, wait=True, **keywords):
        started.append(Process(*args, **keywords))
        if wait:
            started[-1].wait_until_ready()
        return started[-1]

    yield start_
    for process in started:
        process.close()


def test_serves_udp_and_tcp_until_sigterm(start):
    process = start()
    process.ask(b"one")
    assert process.answer() == b"ONE"
    with socket.create_connection(("127.0.0.1", process.ports["tcp"]), timeout=5) as stream:
        stream.sendall(b"\0\x0c" + b"two".ljust(12))
        assert stream.recv(100)[2:].rstrip() == b"TWO"
    assert process.end(signal.SIGTERM) == 0
    level, message = process.messages()[-1]
    assert level == "info"
    assert message.startswith("stopped: udp_queries=1 tcp_queries=1 misses=2 tcp_accepted=1 ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_answers_under_way_leave_before_the_end(start, number):
    process = start()
    process.ask(b"slow 0.3")
    process.ask(b"first")
    assert process.answer() == b"FIRST"
    assert process.end(number) == 0
    assert process.answer() == b"SLOW 0.3"


def test_the_end_waits_no_longer_than_three_seconds(start):
    process = start()
    process.ask(b"slow 999")
    process.ask(b"first")
    process.answer()
    before = time.monotonic()
    assert process.end(signal.SIGTERM) == 0
    assert time.monotonic() - before < 3
    assert ("warning", "not every query under way could be answered in time") in process.messages()


def test_asked_twice_it_ends_at_once(start):
    process = start()
    process.ask(b"slow 999")
    process.ask(b"first")
    process.answer()
    process.popen.send_signal(signal.SIGTERM)
    process.wait_for("stopping")
    before = time.monotonic()
    assert process.end(signal.SIGINT) == 0
    assert time.monotonic() - before < 1


def test_sighup_reloads(start):
    process = start()
    process.popen.send_signal(signal.SIGHUP)
    process.wait_for("reloaded")
    process.ask(b"one")
    assert process.answer() == b"ONE"


def test_what_takes_a_restart_is_said(start):
    process = start("listen")
    process.popen.send_signal(signal.SIGHUP)
    process.wait_for("reloaded")
    assert "[listen] was changed: that takes a restart" in [event["message"] for event in process.seen]


def test_a_bad_configuration_keeps_the_old_one_and_every_problem_is_told(start):
    process = start("reread")
    process.popen.send_signal(signal.SIGHUP)
    process.wait_for("not reloaded")
    told = [event["message"] for event in process.seen if event["level"] == "error"]
    assert told[:-1] == ["configuration: x.toml:1: listne: unknown key", "configuration: upstream: gone"]
    process.ask(b"one")
    assert process.answer() == b"ONE"


def test_a_service_that_cannot_be_rebuilt_stays_as_it_was(start):
    process = start("reload")
    process.popen.send_signal(signal.SIGHUP)
    assert "no such CA file" in process.wait_for("not reloaded")["message"]
    process.ask(b"one")
    assert process.answer() == b"ONE"


def test_sigusr1_tells_the_counters(start):
    process = start()
    process.ask(b"one")
    process.answer()
    process.popen.send_signal(signal.SIGUSR1)
    assert process.wait_for("counters: ")["message"].startswith("counters: udp_queries=1 misses=1 ")


def test_a_configuration_that_cannot_be_used_is_status_2(start):
    process = start("build", wait=False)
    assert process.end() == 2
    assert ("error", "configuration: x.toml:3: policy.list: the list is gone") in process.messages()


def test_a_defect_costs_its_query_and_is_logged(start):
    process = start()
    process.ask(b"crash")
    process.ask(b"still there")
    assert process.answer() == b"STILL THERE"
    assert process.end(signal.SIGTERM) == 0
    assert ("error", "a query failed by a defect of the program") in process.messages()
    assert any("ZeroDivisionError" in line.get("traceback", "") for line in process.seen)


@pytest.mark.parametrize("fault", ["reload-defect", "reread-defect"])
def test_a_defect_in_reloading_changes_nothing(start, fault):
    process = start(fault)
    process.popen.send_signal(signal.SIGHUP)
    process.wait_for("reloading failed by a defect of the program")
    process.ask(b"still there")
    assert process.answer() == b"STILL THERE"
    assert process.end(signal.SIGTERM) == 0


def test_a_service_that_fails_is_status_1(start):
    process = start("service", wait=False)
    assert process.end() == 1
    assert ("error", "ended by a defect of the program") in process.messages()


def test_a_port_in_use_is_status_1(start):
    first = start()
    second = start(port=first.ports["udp"], wait=False)
    assert second.end() == 1
    assert second.messages()[-1][0] == "critical"
    assert second.messages()[-1][1].startswith(f'listen.udp "127.0.0.1:{first.ports["udp"]}": Address already in use')


def test_can_be_started_again_at_once(start):
    first = start()
    with socket.create_connection(("127.0.0.1", first.ports["tcp"]), timeout=5) as stream:
        stream.sendall(b"\0\x0c" + b"two".ljust(12))
        stream.recv(100)
        assert first.end(signal.SIGTERM) == 0
    second = start(port=first.ports["tcp"])
    second.ask(b"one")
    assert second.answer() == b"ONE"


def test_sockets_are_taken_over_from_the_service_manager_and_lose_nothing(start, passed):
    udp, _ = passed
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as early:
        early.settimeout(10)
        early.sendto(b"early".ljust(12), udp.getsockname())
        process = start(port=udp.getsockname()[1], passed=passed)
        assert early.recv(100).rstrip() == b"EARLY"
        assert process.end(signal.SIGTERM) == 0
        early.sendto(b"between".ljust(12), udp.getsockname())
        start(port=udp.getsockname()[1], passed=passed)
        assert early.recv(100).rstrip() == b"BETWEEN"


@pytest.fixture
def passed():
    """A UDP and a TCP socket of one port, as a service manager holds them."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(tcp.getsockname())
        yield udp, tcp


def test_the_service_manager_is_told(start, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        process = start(environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"})
        heard = [manager.recv(200).decode().split("\n")[0] for _ in range(2)]
        assert heard == ["READY=1", "WATCHDOG=1"]
        process.popen.send_signal(signal.SIGHUP)
        process.wait_for("reloaded")
        process.end(signal.SIGTERM)
        heard = []
        while "STOPPING=1" not in heard:
            heard.append(manager.recv(200).decode().split("\n")[0])
    assert [told for told in heard if told != "WATCHDOG=1"] == ["RELOADING=1", "READY=1", "STOPPING=1"]
