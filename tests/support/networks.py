"""Two network namespaces and the wire between them, which does to packets what the test asks for.

The wire is ours, of two TUN devices, rather than netem's and nftables': kernels without these are common, and it can do all
that is needed at the level of real IP packets to real TCP.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

import pytest
from programs import execute, need

NEAR, FAR = "10.53.0.2", "10.53.0.1"
ELSEWHERE = "10.53.0.3"
"""Another address of the near side."""

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_TCP, _UDP = 6, 17
_numbers = count()


def need_namespaces() -> None:
    """Skips the test where namespaces cannot be made; in CI fails it."""
    need("ip", "ss")
    if os.geteuid() == 0 and Path("/dev/net/tun").exists():
        return
    if "CI" in os.environ:
        pytest.fail("network namespaces take root and /dev/net/tun")
    pytest.skip("network namespaces take root and /dev/net/tun")


class Namespace:
    """A network namespace. Within its block this thread makes sockets and starts programs there."""

    def __init__(self) -> None:
        self.name = f"dohproxy-{os.getpid()}-{next(_numbers)}"
        self._before: list[int] = []

    def run(self, command: str) -> str:
        """What a command says that is run there."""
        return execute("ip", "netns", "exec", self.name, *command.split())

    def create(self) -> None:
        execute("ip", "netns", "add", self.name)
        self.run("ip link set lo up")

    def delete(self) -> None:
        execute("ip", "netns", "delete", self.name)

    def __enter__(self) -> Self:
        self._before.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        _set_namespace(there)
        os.close(there)
        return self

    def __exit__(self, *_: object) -> None:
        before = self._before.pop()
        _set_namespace(before)
        os.close(before)


def _set_namespace(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _device(namespace: Namespace, name: str) -> int:
    """A TUN device in there, and its other end here."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    execute("ip", "link", "set", name, "netns", namespace.name)
    return descriptor


class Wire(threading.Thread):
    """Carries packets between two devices. What happens to them may be changed at any time."""

    def __init__(self, near: int, far: int) -> None:
        super().__init__(daemon=True)
        self._ends = {near: far, far: near}
        self._near = near
        self._chance = random.Random(53)
        self._late: list[tuple[float, int, int, bytes]] = []
        self._flows: set[int] = set()
        self._over = False
        self.repair()

    def repair(self) -> None:
        """All packets arrive, at once."""
        self.loss = 0.0
        """The share of packets that is lost, each way; of a flow no more than two in a row, so that no test hangs on chance."""
        self._lost_in_a_row: dict[tuple[int, bool], int] = {}
        self.delay = 0.0
        """Seconds, each way."""
        self.cut = False
        self.no_udp = False
        """Whether a firewall swallows all UDP."""
        self.mtu = 65535
        """Octets of packets that pass; of others it is told (RFC 1191)."""
        self.shift = 0
        """What is added to the ports that connections come from, as by a translator that forgot them."""
        self._swallowed: frozenset[int] = frozenset()

    def forget_flows(self) -> None:
        """From now on swallow all packets of the connections that there are."""
        self._swallowed = frozenset(self._flows)

    def run(self) -> None:
        while not self._over:
            wait = max(0.0, min(0.1, self._late[0][0] - time.monotonic())) if self._late else 0.1
            for end in select.select(list(self._ends), [], [], wait)[0]:
                self._read(end)
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(self._late)
                _write(end, packet)

    def _read(self, end: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(end, 65535)
            except OSError:
                return
            if packet[0] >> 4 == 4:
                self._carry(end, packet)

    def _carry(self, end: int, packet: bytes) -> None:
        if len(packet) > self.mtu:
            _write(end, _too_big(packet, self.mtu))
            return
        from_near = end == self._near
        translated = _shifted(packet, 0 if from_near else 2, self.shift if from_near else -self.shift)
        port = _port(packet if from_near else translated, 0 if from_near else 2)
        self._flows.add(port)
        if self.no_udp and packet[9] == _UDP:
            return
        if self.cut or port in self._swallowed or self._is_lost(port, from_near):
            return
        if self.delay:
            heapq.heappush(self._late, (time.monotonic() + self.delay, next(_numbers), self._ends[end], translated))
        else:
            _write(self._ends[end], translated)

    def _is_lost(self, port: int, from_near: bool) -> bool:
        before = self._lost_in_a_row.get((port, from_near), 0)
        lost = before < 2 and self._chance.random() < self.loss
        self._lost_in_a_row[port, from_near] = before + 1 if lost else 0
        return lost

    def close(self) -> None:
        self._over = True
        self.join()
        for end in self._ends:
            os.close(end)


def _write(end: int, packet: bytes) -> None:
    with suppress(OSError):  # the device is down
        os.write(end, packet)


def _port(packet: bytes, at: int) -> int:
    offset = (packet[0] & 15) * 4 + at
    return int.from_bytes(packet[offset : offset + 2])


def _shifted(packet: bytes, at: int, by: int) -> bytes:
    """The packet with the port at this place of its TCP or UDP header changed, and the checksum too (RFC 1624)."""
    if not by or packet[9] not in (_TCP, _UDP):
        return packet
    header = (packet[0] & 15) * 4
    port, checksum = header + at, header + (16 if packet[9] == _TCP else 6)
    before = int.from_bytes(packet[port : port + 2])
    after = (before - 1024 + by) % 64512 + 1024
    total = (~int.from_bytes(packet[checksum : checksum + 2]) & 0xFFFF) + (~before & 0xFFFF) + after
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    changed = bytearray(packet)
    changed[port : port + 2] = after.to_bytes(2)
    changed[checksum : checksum + 2] = (~total & 0xFFFF).to_bytes(2)
    return bytes(changed)


def _too_big(packet: bytes, mtu: int) -> bytes:
    """ICMP: fragmentation needed (RFC 1191 4), to whoever sent this."""
    quoted = packet[: (packet[0] & 15) * 4 + 8]
    icmp = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
    icmp = icmp[:2] + _checksum(icmp) + icmp[4:]
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(icmp), 0, 0, 64, 1, 0, packet[16:20], packet[12:16])
    return head[:10] + _checksum(head) + head[12:] + icmp


def _checksum(octets: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets[: len(octets) // 2 * 2]))
    if len(octets) % 2:
        total += octets[-1] << 8
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2)


@dataclass
class Network:
    """The near side, the far side, and the wire."""

    near: Namespace
    far: Namespace
    wire: Wire
    near_device: str

    def take_down(self) -> None:
        """The near side loses its network: no address has a way any more."""
        self.near.run(f"ip link set {self.near_device} down")

    def bring_up(self, address: str = NEAR) -> None:
        """The near side has a network, in which it has this address."""
        self.near.run(f"ip addr flush dev {self.near_device}")
        self.near.run(f"ip addr add {address}/24 dev {self.near_device}")
        self.near.run(f"ip link set {self.near_device} up")
        self.near.run(f"ip route replace default dev {self.near_device}")


@contextmanager
def network() -> Iterator[Network]:
    """A network for a block."""
    need_namespaces()
    near, far = Namespace(), Namespace()
    near.create()
    far.create()
    names = [f"dp{os.getpid() % 100000}{side}{next(_numbers)}" for side in "nf"]
    ends = [_device(namespace, name) for namespace, name in zip((near, far), names, strict=True)]
    made = Network(near, far, Wire(*ends), names[0])
    made.wire.start()
    try:
        made.bring_up()
        far.run(f"ip addr add {FAR}/24 dev {names[1]}")
        far.run(f"ip link set {names[1]} up")
        yield made
    finally:
        made.wire.close()
        near.delete()
        far.delete()


# Clients


@dataclass
class Asked:
    """A question, and what became of it."""

    at: float
    name: str
    took: float | None = None
    rcode: int | None = None


@dataclass
class Told:
    """What clients were told in a stretch of time."""

    asked: list[Asked]

    @property
    def errors(self) -> int:
        return sum(one.rcode != 0 for one in self.asked)

    @property
    def slowest(self) -> float:
        return max((one.took for one in self.asked if one.took is not None), default=0.0)

    def quantile(self, share: float) -> float:
        times = sorted(one.took for one in self.asked if one.took is not None)
        return times[min(len(times) - 1, int(share * len(times)))]

    def __str__(self) -> str:
        rcodes = dict(Counter("no reply" if one.rcode is None else one.rcode for one in self.asked))
        times = " ".join(f"p{int(share * 100)} {self.quantile(share) * 1000:.0f} ms" for share in (0.5, 0.95))
        return f"{len(self.asked)} questions, rcodes {rcodes}, {times}, slowest {self.slowest * 1000:.0f} ms"


class Clients(threading.Thread):
    """Ask 127.0.0.1 in a namespace by UDP, so many names a second that nobody asked for before, while the block runs."""

    PATIENCE = 7.0

    def __init__(self, namespace: Namespace, port: int, name: Callable[[], str], rate: float = 25.0) -> None:
        super().__init__()
        self._namespace, self._port, self._name, self._rate = namespace, port, name, rate
        self._over = threading.Event()
        self.asked: list[Asked] = []

    def run(self) -> None:
        with self._namespace, socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", self._port))
            while not self._over.is_set():
                self._ask(sock)
                self._listen(sock, self.asked[-1].at + 1 / self._rate)
            until = time.monotonic() + self.PATIENCE
            while time.monotonic() < until and any(one.rcode is None for one in self.asked):
                self._listen(sock, min(until, time.monotonic() + 0.1))

    def _ask(self, sock: socket.socket) -> None:
        name = self._name()
        wire = b"".join(bytes((len(label),)) + label.encode() for label in name.rstrip(".").split("."))
        sock.send(struct.pack("!HHHHHH", len(self.asked), 0x0120, 1, 0, 0, 0) + wire + b"\0\0\1\0\1")
        self.asked.append(Asked(time.monotonic(), name))

    def _listen(self, sock: socket.socket, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                reply = sock.recv(4096)
            except OSError:
                return
            one = self.asked[int.from_bytes(reply[:2])]
            one.took, one.rcode = time.monotonic() - one.at, reply[3] & 15

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def between(self, begin: float, end: float = float("inf")) -> Told:
        """What those were told that asked in this time."""
        return Told([one for one in self.asked if begin <= one.at < end])
