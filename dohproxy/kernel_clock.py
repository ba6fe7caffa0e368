"""What the kernel says of its clock: whether anybody keeps it (adjtimex(2))."""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Callable

log = logging.getLogger(__name__)

UNSYNCHRONISED, ERROR = 0x40, 5
"""STA_UNSYNC among the status bits, and the state TIME_ERROR."""


class _Timex(ctypes.Structure):
    """The start of the kernel's struct timex, and room for its rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def adjtimex() -> tuple[int, int]:
    """The state of the clock, and its status bits; changes nothing. Raises OSError where it may not ask."""
    timex = _Timex()
    state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    if state < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return state, timex.status


def is_synchronised(ask: Callable[[], tuple[int, int]] = adjtimex) -> bool:
    """Whether somebody keeps the clock. Where the kernel does not tell, its clock is no excuse, and so True."""
    try:
        state, status = ask()
    except (OSError, AttributeError) as error:  # forbidden, or no such call on this system
        log.warning("the kernel does not tell whether its clock is synchronised, which counts as if it was: %s", error)
        return True
    return state != ERROR and not status & UNSYNCHRONISED
