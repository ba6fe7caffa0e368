"""Walls: a defect of the program ends the one thing that met it, and is told; the rest goes on.

They stand at owners: around a connection, a stream, a query, a watcher. What nobody expects is a defect, of ours or of a
library's, also where it is no Exception, as a panic of cryptography's Rust is none. It is logged with its traceback, also out
of a group of exceptions; to be cancelled is no defect.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

log = logging.getLogger(__name__)

LONGEST = 60.0
"""Seconds between two beginnings of what fails again and again."""
_DOUBLINGS = 64
"""The first pause is so many times shorter than the longest."""


_NO_DEFECTS = (trio.Cancelled, KeyboardInterrupt, SystemExit, GeneratorExit)


def _nothing() -> None:
    pass


@contextmanager
def contained(what: str, then: Callable[[], None] = _nothing) -> Iterator[None]:
    """Logs a defect within the block, as one of `what`, and calls `then`; the block is over, and nothing else."""
    try:
        yield
    except BaseException as error:
        group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
        defects, others = group.split(is_defect)
        if defects is None:
            raise
        tell(what, defects)
        then()
        if others is not None:
            raise others from None


def is_defect(error: BaseException) -> bool:
    """Whether it is one, and neither the wish to end something nor that among others."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_defect, error.exceptions))
    return not isinstance(error, _NO_DEFECTS)


def tell(what: str, defect: BaseException) -> None:
    """Log a defect; it is that of `what`."""
    while isinstance(defect, BaseExceptionGroup) and len(defect.exceptions) == 1:
        defect = defect.exceptions[0]
    log.error("%s failed by a defect of the program", what, exc_info=defect)


async def kept(what: str, run: Callable[[], Awaitable[None]], *, longest: float = LONGEST) -> None:
    """Run this to its end. When it ends by a defect, it is begun anew: soon, and the less soon the more often it fails."""
    pause = 0.0
    while True:
        began = trio.current_time()
        with contained(what):
            await run()
            return
        lasted = trio.current_time() - began
        pause = longest / _DOUBLINGS if lasted >= longest or not pause else min(2 * pause, longest)
        await trio.sleep(pause)
