"""Which worker a datagram is for: a name always goes to the same, so that no two ask for it or remember it.

The kernel runs a program on each datagram (SO_ATTACH_REUSEPORT_CBPF, socket(7)), which hashes the first octets of the name in
the question, whatever their case, with a secret: of names that differ in these, nobody can tell which have the same worker.
Where the kernel takes no program, it spreads datagrams by the addresses and ports of both sides.
"""

from __future__ import annotations

import ctypes
import logging
import secrets
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

_ATTACH: Final = 51
"""SO_ATTACH_REUSEPORT_CBPF; not in the socket module."""
_NAME: Final = 12
"""Where the name begins (RFC 1035 4.1)."""
_OCTETS: Final = 24
"""How many of the name are looked at: the names of a zone differ early."""
_LOWER: Final = 0x20
_SEED: Final = secrets.randbits(32)
_FACTOR: Final = secrets.randbits(29) << 3 | 5


class _Step(NamedTuple):
    """An instruction (struct sock_filter, linux/filter.h)."""

    code: int
    if_true: int = 0
    if_false: int = 0
    value: int = 0


_SET, _SIZE, _OCTET, _A_TO_X, _X_TO_A = 0x00, 0x80, 0x30, 0x07, 0x87  # what is put where
_OR, _MULTIPLY, _RIGHT, _MODULO, _ADD_X, _XOR_X = 0x44, 0x24, 0x74, 0x94, 0x0C, 0xAC  # what becomes of A
_SKIP, _EQUAL, _AT_LEAST, _ANSWER = 0x05, 0x15, 0x35, 0x06

_MIX: Final = (
    _Step(_OR, value=_LOWER),
    _Step(_ADD_X),
    _Step(_MULTIPLY, value=_FACTOR),
    _Step(_A_TO_X),
    _Step(_RIGHT, value=15),
    _Step(_XOR_X),
    _Step(_A_TO_X),
)
"""With an octet in A and the hash h in X: h = ((octet | 0x20) + h) * factor; h ^= h >> 15."""


def steer(sock: socket.socket, targets: Sequence[int]) -> bool:
    """Have the names spread over these of the sockets that are bound as this one is, by number; whether the kernel will."""
    code = b"".join(struct.pack("=HBBI", *step) for step in _program(targets))
    steps = ctypes.create_string_buffer(code, len(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH, struct.pack("@HP", len(code) // 8, ctypes.addressof(steps)))
    except OSError as error:
        log.info("the kernel spreads datagrams by addresses and ports, and not by names: %s", error.strerror)
        return False
    return True


def _program(targets: Sequence[int]) -> list[_Step]:
    """What answers the number of the socket: by the name up to its end, or to that of the datagram."""
    last = _Step(_ANSWER, value=targets[-1])
    if len(targets) == 1:
        return [last]
    hashed: list[_Step] = []
    for at in reversed(range(_NAME, _NAME + _OCTETS)):
        rest = (*_MIX, *hashed)
        unless_zero = (_Step(_OCTET, value=at), _Step(_EQUAL, if_false=1), _Step(_SKIP, value=len(rest)), *rest)
        hashed = [_Step(_SIZE), _Step(_AT_LEAST, if_true=1, value=at + 1), _Step(_SKIP, value=len(unless_zero)), *unless_zero]
    found = [_Step(_X_TO_A), _Step(_RIGHT, value=16), _Step(_MODULO, value=len(targets))]
    for place, target in enumerate(targets[:-1]):
        found += [_Step(_EQUAL, if_false=1, value=place), _Step(_ANSWER, value=target)]
    return [_Step(_SET, value=_SEED), _Step(_A_TO_X), *hashed, *found, last]
