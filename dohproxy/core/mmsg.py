"""recvmmsg and sendmmsg (Linux) by way of ctypes: a batch of datagrams in one call, without the compiled core."""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
from array import array
from collections.abc import Sequence
from ctypes import c_char, c_char_p, c_int, c_size_t, c_uint, c_ulong, c_void_p
from itertools import accumulate
from struct import Struct
from typing import Any, Final, Literal

from dohproxy.core.pktinfo import Ancillary, reply_ancillary

BATCH: Final = 64
"""Datagrams taken before other tasks have their turn."""
SLOT: Final = 4096
"""Octets of a datagram that are read, or written; a longer one is no query that anybody sends, and is answered FORMERR."""
_ADDRESS: Final = 32
"""Octets kept for a sender's address; a sockaddr_in takes 16 of them, a sockaddr_in6 28."""
_CONTROL: Final = 128
"""Octets kept for control data."""
_CONTROLS: Final = array("L", [_CONTROL] * BATCH)
_PORT: Final = Struct("!2xHI")
_SCOPE: Final = Struct("=I")
_CONTROL_HEAD: Final = Struct("@Nii")
"""A struct cmsghdr: its size with the data that follows, level, type."""
_UDP_SEGMENT: Final = 103
"""What has the kernel cut a message into datagrams of one length (Linux; udp(7))."""
_CUT: Final = Struct("@NiiH6x")
_CUT_SIZE: Final = 18
"""The control data for that, and its size without padding."""
_FEWEST: Final = 3
"""Replies that leave as one message: of two, mostly a stub's for A and AAAA, whoever watches the network shall see each."""
_LONGEST: Final = 65000
"""Octets of a message. The kernel cuts one into 64 at most (UDP_MAX_SEGMENTS), which are as many as a batch has."""

Address = Any
"""As the socket module has it: a tuple whose first item is the IP address as text."""

_libc = ctypes.PyDLL(None, use_errno=True)  # the GIL is kept: the calls do not block
_libc.recvmmsg.argtypes = [c_int, c_void_p, c_uint, c_int, c_void_p]
_libc.sendmmsg.argtypes = [c_int, c_void_p, c_uint, c_int]
_libc.sendmsg.argtypes = [c_int, c_void_p, c_int]


class _Vector(ctypes.Structure):
    _fields_ = [("base", c_void_p), ("size", c_ulong)]


class _Header(ctypes.Structure):
    """A struct msghdr (recvmsg(2))."""

    _fields_ = [
        ("address", c_ulong),
        ("address_size", c_uint),
        ("vectors", c_void_p),
        ("count", c_size_t),
        ("control", c_ulong),
        ("control_size", c_ulong),
        ("flags", c_int),
    ]


class _Message(ctypes.Structure):
    """A struct mmsghdr (recvmmsg(2))."""

    _fields_ = [("header", _Header), ("size", c_uint)]


class _Memory(ctypes.Structure):
    """What the kernel reads and writes: for each datagram of a batch a query, where it came from, and a reply."""

    _fields_ = [
        ("received", _Message * BATCH),
        ("sent", _Message * BATCH),
        ("to_read", _Vector * BATCH),
        ("to_write", _Vector * BATCH),
        ("addresses", c_char * _ADDRESS * BATCH),
        ("controls", c_char * _CONTROL * BATCH),
        ("cuts", c_char * _CUT.size * BATCH),
        ("queries", c_char * SLOT * BATCH),
        ("replies", c_char * SLOT * BATCH),
    ]


_MESSAGE: Final = ctypes.sizeof(_Message)


def _can_cut(sock: socket.socket) -> bool:
    """Whether the kernel, and the socket, know UDP_SEGMENT."""
    try:
        sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def _parts(run: int, size: int) -> list[int]:
    """Of how many replies each message is, where there are so many alike of so many octets."""
    if run < _FEWEST or not size:
        return [1] * run
    most = _LONGEST // size
    whole, rest = divmod(run, most)
    return [most] * whole + ([rest] if rest >= _FEWEST else [1] * rest)


class Batch:
    """Datagrams of one non-blocking socket, received and sent by the batch."""

    def __init__(self, sock: socket.socket, wildcard: bool) -> None:
        self._socket, self._wildcard, self._six = sock, wildcard, sock.family == socket.AF_INET6
        self._address_size = 28 if self._six else 16
        self._octets = mmap.mmap(-1, ctypes.sizeof(_Memory))
        self._memory = _Memory.from_buffer(self._octets)
        self._base = ctypes.addressof(self._memory)
        self._received, self._sent = (self._base + field.offset for field in (_Memory.received, _Memory.sent))
        self._addresses, self._controls = _Memory.addresses.offset, _Memory.controls.offset
        self._clients = Struct("8x16s8x" if self._six else "4x4s24x").iter_unpack
        self._queries, self._replies = (
            [field.offset + SLOT * i for i in range(BATCH)] for field in (_Memory.queries, _Memory.replies)
        )
        self._senders = [self._base + self._addresses + _ADDRESS * i for i in range(BATCH)]
        self._sizes_read = self._column("I", _Memory.received, _Message, _Message.size.offset)
        self._controls_read = self._column("L", _Memory.received, _Message, _Header.control_size.offset)
        self._sizes_written = self._column("L", _Memory.to_write, _Vector, _Vector.size.offset)
        self._targets = self._column("L", _Memory.sent, _Message, _Header.address.offset)
        self._vectors = self._column("L", _Memory.sent, _Message, _Header.vectors.offset)
        self._counts = self._column("L", _Memory.sent, _Message, _Header.count.offset)
        self._cuts = self._column("L", _Memory.sent, _Message, _Header.control_size.offset)
        self._joins = not wildcard and _can_cut(sock)
        self._names = Struct("28s4x" if self._six else "16s16x").iter_unpack
        for i in range(BATCH):
            self._connect(i)
        self._apart = [array("L", column.tolist()) for column in (self._vectors, self._counts, self._cuts)]

    def _connect(self, i: int) -> None:
        """Have the headers of a datagram point to its parts."""
        memory, base = self._memory, self._base
        memory.to_read[i] = _Vector(base + self._queries[i], SLOT)
        memory.to_write[i] = _Vector(base + self._replies[i], 0)
        for messages, vectors in ((memory.received, _Memory.to_read), (memory.sent, _Memory.to_write)):
            header = messages[i].header
            header.address, header.address_size = self._senders[i], self._address_size
            header.vectors, header.count = base + vectors.offset + ctypes.sizeof(_Vector) * i, 1
        if self._wildcard:
            memory.received[i].header.control = base + self._controls + _CONTROL * i
        else:
            memory.sent[i].header.control = base + _Memory.cuts.offset + _CUT.size * i

    def _column(self, code: Literal["I", "L"], array_of: Any, struct: type[ctypes.Structure], offset: int) -> memoryview:
        """One field of an array of structs, to be read and written at once for many."""
        size = array(code).itemsize
        start, step = (array_of.offset + offset) // size, ctypes.sizeof(struct) // size
        return memoryview(self._octets).cast(code)[start : start + BATCH * step : step]

    def receive(self) -> tuple[list[bytes], list[bytes]]:
        """The datagrams that are there, at most BATCH, and their senders' packed IP addresses; raises OSError."""
        if self._wildcard:
            self._controls_read[:] = _CONTROLS
        count = _libc.recvmmsg(self._socket.fileno(), self._received, BATCH, socket.MSG_DONTWAIT, None)
        if count < 0:
            raise OSError(ctypes.get_errno(), "recvmmsg")
        octets, first = self._octets, self._addresses
        sizes = self._sizes_read[:count].tolist()
        queries = [octets[at : at + size] for at, size in zip(self._queries, sizes, strict=False)]
        return queries, [client for (client,) in self._clients(octets[first : first + _ADDRESS * count])]

    def address(self, i: int, host: str) -> Address:
        """Where a datagram came from, as the socket module has it."""
        at = self._addresses + _ADDRESS * i
        port, flow_info = _PORT.unpack_from(self._octets, at)
        return (host, port, flow_info, *_SCOPE.unpack_from(self._octets, at + 24)) if self._six else (host, port)

    def origin(self, i: int) -> bytes:
        """Where a datagram came from, and on a wildcard socket where its reply is to leave from; as the kernel has them."""
        at = self._addresses + _ADDRESS * i
        address = self._octets[at : at + self._address_size]
        control = self._controls + _CONTROL * i
        return address + b"".join(
            self._octets[control : control + _CONTROL_HEAD.size] + data for _, _, data in self.back(i) or ()
        )

    def back(self, i: int) -> Ancillary | None:
        """What makes the reply to a datagram leave from the address that was asked; None if the socket has but one."""
        if not self._wildcard:
            return None
        at = self._controls + _CONTROL * i
        if self._controls_read[i] < _CONTROL_HEAD.size:
            return []
        size, level, kind = _CONTROL_HEAD.unpack_from(self._octets, at)
        return reply_ancillary([(level, kind, self._octets[at + _CONTROL_HEAD.size : at + size])])

    def send(self, replies: Sequence[tuple[int, bytes]]) -> int:
        """Send replies, of at most SLOT octets, each to where the datagram of that number came from; how many failed."""
        octets, count = self._octets, len(replies)
        runs: list[int] = []
        if self._joins and count >= _FEWEST:
            replies, runs = self._grouped(replies)
        for at, (_, reply) in zip(self._replies, replies, strict=False):
            octets[at : at + len(reply)] = reply
        self._sizes_written[:count] = array("L", [len(reply) for _, reply in replies])
        self._targets[:count] = array("L", [self._senders[i] for i, _ in replies])
        if self._wildcard:
            self._send_back([i for i, _ in replies])
        return self._send_joined(runs) if runs else self._send(self._sent, count)

    def _grouped(self, replies: Sequence[tuple[int, bytes]]) -> tuple[Sequence[tuple[int, bytes]], list[int]]:
        """The same with those alike in a row, and of how many each message is; the latter empty if there are too few alike."""
        at = self._addresses
        clients = list(self._names(self._octets[at : at + _ADDRESS * (replies[-1][0] + 1)]))
        groups: dict[tuple[object, int], list[tuple[int, bytes]]] = {}
        for reply in replies:
            like = clients[reply[0]], len(reply[1])
            if like in groups:
                groups[like].append(reply)
            else:
                groups[like] = [reply]
        if max(map(len, groups.values())) < _FEWEST:
            return replies, []
        runs = [part for (_, size), group in groups.items() for part in _parts(len(group), size)]
        return [reply for group in groups.values() for reply in group], runs

    def _send_joined(self, runs: list[int]) -> int:
        """Send messages of so many replies each, which the kernel cuts: most of the cost of a reply is to go through it."""
        count, starts = len(runs), [end - run for run, end in zip(runs, accumulate(runs), strict=True)]
        self._targets[:count] = array("L", [self._targets[start] for start in starts])
        self._vectors[:count] = array("L", [self._vectors[start] for start in starts])
        self._counts[:count] = array("L", runs)
        self._cuts[:count] = array("L", [_CUT.size if run > 1 else 0 for run in runs])
        for k, start in enumerate(starts):
            at, size = _Memory.cuts.offset + _CUT.size * k, self._sizes_written[start]
            _CUT.pack_into(self._octets, at, _CUT_SIZE, socket.IPPROTO_UDP, _UDP_SEGMENT, size)
        failed = self._send(self._sent, count)
        self._vectors[:], self._counts[:], self._cuts[:] = self._apart
        return failed

    def post(self, replies: Sequence[tuple[bytes, bytes]]) -> int:
        """Send replies, each to the origin of its query; how many failed."""
        return sum(self._post(replies[start : start + BATCH]) for start in range(0, len(replies), BATCH))

    def _post(self, replies: Sequence[tuple[bytes, bytes]]) -> int:
        count, size = len(replies), self._address_size
        messages, vectors = (_Message * count)(), (_Vector * count)()
        origins, octets = ((c_char_p * count)(*column) for column in zip(*replies, strict=True))  # these keep them alive
        at = zip(memoryview(origins).cast("B").cast("L"), memoryview(octets).cast("B").cast("L"), strict=True)
        for i, (origin, octets_at) in enumerate(at):
            vectors[i] = _Vector(octets_at, len(replies[i][1]))
            control = len(replies[i][0]) - size
            messages[i].header = _Header(
                origin, size, ctypes.addressof(vectors[i]), 1, origin + size if control else 0, control, 0
            )
        return self._send(ctypes.addressof(messages), count)

    def _send(self, messages: int, count: int) -> int:
        """Send so many messages, whose headers begin there; how many replies failed."""
        done = failed = 0
        while done < count:
            sent = _libc.sendmmsg(self._socket.fileno(), messages + _MESSAGE * done, count - done, socket.MSG_DONTWAIT)
            if sent < 0:
                failed += self._failures(messages + _MESSAGE * done)
            done += max(1, sent)
        return failed

    def _failures(self, message: int) -> int:
        """How many replies of a message could not be sent, which was refused; those of several are sent one by one."""
        header = _Header.from_address(message)
        several = header.count
        if several == 1:
            return 1
        if ctypes.get_errno() == errno.EIO:
            self._joins = False  # the device cannot, or what is encrypted below us
        failed, header.count, header.control_size = 0, 1, 0
        for _ in range(several):
            failed += _libc.sendmsg(self._socket.fileno(), message, socket.MSG_DONTWAIT) < 0
            header.vectors += ctypes.sizeof(_Vector)
        return failed

    def _send_back(self, numbers: Sequence[int]) -> None:
        """Have the k-th reply leave from the address that the datagram of this number was sent to."""
        for k, i in enumerate(numbers):
            header, at = self._memory.sent[k].header, self._controls + _CONTROL * i
            header.control, header.control_size = self._base + at, 0
            for _, _, data in self.back(i) or ():
                start = at + _CONTROL_HEAD.size
                self._octets[start : start + len(data)] = data
                header.control_size = self._controls_read[i]
