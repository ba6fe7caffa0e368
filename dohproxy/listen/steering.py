"""Which worker a datagram is for: a name always goes to the same, so that no two ask for it or remember it.

The kernel runs a program on each datagram (SO_ATTACH_REUSEPORT_CBPF, socket(7)), which hashes the first octets of the name in
the question, whatever their case. Where the kernel takes none, it spreads datagrams by the addresses and ports of both sides.
"""

from __future__ import annotations

import ctypes
import logging
import socket
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

log = logging.getLogger(__name__)

_ATTACH: Final = 51
"""SO_ATTACH_REUSEPORT_CBPF; not in the socket module."""
_NAME: Final = 12
"""Where the name begins (RFC 1035 4.1)."""
_LOWER: Final = 0x20202020
_FACTOR: Final = 0x9E3779B1
"""Odd, and with its bits well spread."""
_WORDS: Final = 5
"""Of four octets each, that are looked at: the names of a zone differ early."""


class _Step(NamedTuple):
    """An instruction (struct sock_filter, linux/filter.h)."""

    code: int
    if_true: int = 0
    if_false: int = 0
    value: int = 0


def _load(at: int) -> _Step:
    return _Step(0x20, value=at)


_SIZE, _ZERO, _HASH = _Step(0x80), _Step(0x00), _Step(0x60)  # into A; the hash is kept in M[0]
_KEEP, _HASH_TO_X, _A_TO_X = _Step(0x02), _Step(0x61), _Step(0x07)
_ADD_X, _XOR_X = _Step(0x0C), _Step(0xAC)
_MULTIPLY, _LOWERED, _HIGH = _Step(0x24, value=_FACTOR), _Step(0x44, value=_LOWER), _Step(0x74, value=15)
_MIX: Final = (_LOWERED, _HASH_TO_X, _ADD_X, _MULTIPLY, _A_TO_X, _HIGH, _XOR_X, _KEEP)
"""With a word w in A: h = (h + w) * factor; h ^= h >> 15."""


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
    """What answers the number of the socket; that of the first for what is too short to hold a name."""
    code = [_ZERO, _KEEP]
    for at in range(_NAME, _NAME + 4 * _WORDS, 4):
        code += [_SIZE, _Step(0x35, if_false=1 + len(_MIX), value=at + 4), _load(at), *_MIX]  # if there are so many octets
    code += [_HASH, _Step(0x94, value=len(targets))]  # modulo
    for place, target in enumerate(targets):
        code += [_Step(0x15, if_false=1, value=place), _Step(0x06, value=target)]  # if that is it, return
    return [*code, _Step(0x06, value=targets[0])]
