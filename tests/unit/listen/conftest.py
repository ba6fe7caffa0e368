import socket

import pytest
import trio
from fronts import Begins

from dohproxy.config.settings import Endpoint, Listen
from dohproxy.courses import as_task
from dohproxy.listen.intake import Intake
from dohproxy.listen.sockets import open_sockets
from dohproxy.model import Transport
from dohproxy.telemetry.counters import Counters


class FakeRecall:
    now = staticmethod(trio.current_time)

    def __call__(self, wire, host, transport, now=None):  # noqa: ARG002
        return wire.upper() if wire.startswith(b"hit") else None


class FakeFront(Begins):
    """Recalls what starts with b"hit", echoes the rest in capitals once its gate, if any, is open; silent to b"drop"."""

    def __init__(self):
        self.asked: list[tuple[bytes, str, Transport]] = []
        self.gates: dict[bytes, trio.Event] = {}
        self.size = 0
        self.cancelled = 0
        self.recall = FakeRecall()

    async def answer(self, wire, host, transport):
        self.asked.append((wire, host, transport))
        try:
            if wire[:4] in self.gates:
                await as_task()
                await self.gates[wire[:4]].wait()
        except trio.Cancelled:
            self.cancelled += 1
            raise
        return b"" if wire.startswith(b"drop") else wire.upper() + bytes(self.size)


@pytest.fixture
def front():
    return FakeFront()


@pytest.fixture
def make_intake(front):
    def make(**limits):
        return Intake(front, Listen(**limits), Counters())

    return make


@pytest.fixture
def intake(make_intake):
    return make_intake()


@pytest.fixture
def listening():
    """Open a socket as configured; closed at the end of the test."""
    opened = []

    def open_(key, address="127.0.0.1"):
        endpoints = {"udp": (), "tcp": ()} | {key: (Endpoint(address, 0),)}
        [sock] = getattr(open_sockets(Listen(**endpoints)), key)
        opened.append(sock)
        return sock

    yield open_
    for sock in opened:
        sock.close()


@pytest.fixture
def client():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        yield sock
