"""A bell: rung by anyone, heard by one task, or, in a turn, by nobody at all."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

import trio

from dohproxy.contained import is_defect, tell


def _never() -> bool:
    return False


class Bell:
    """Lighter than an Event, and may ring again and again; rings that nobody hears yet count as one.

    `at_once` does what the listener would do, as far as that can be done without waiting, and answers whether it was all.
    It is called at the end of a turn that the bell was rung in, so that no task need have its turn for it.
    """

    __slots__ = ("_at_once", "_listener", "_rung")

    def __init__(self, at_once: Callable[[], bool] = _never) -> None:
        self._at_once = at_once
        self._rung = False
        self._listener: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        """Have done what the bell is for: at the end of this turn, or else by the listener, now or as soon as it listens."""
        if self._rung:
            return
        self._rung = True
        if _turn is None:
            self._wake()
        else:
            _turn.append(self)

    def end_turn(self) -> None:
        """Do it here and now, and have the listener do the rest. Raises nothing: whoever ends the turn is innocent."""
        self._rung = False
        try:
            if self._at_once():
                return
        except BaseException as error:  # noqa: BLE001 -- the listener meets it too, and it is for its owner
            if is_defect(error):
                tell("sending", error)
        self._rung = True
        self._wake()

    def _wake(self) -> None:
        if self._listener is not None:
            trio.lowlevel.reschedule(self._listener)
            self._listener = None

    async def heard(self) -> None:
        """Returns once the bell has rung since it was last heard."""
        if not self._rung:
            self._listener = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        self._rung = False

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._listener = None
        return trio.lowlevel.Abort.SUCCEEDED


_turn: list[Bell] | None = None


class Turn:
    """A context for whoever drives many queries without a pause: what they ring for is done when it ends."""

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        global _turn
        self._before, _turn = _turn, []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        global _turn
        rung, _turn = _turn or (), self._before
        for bell in rung:
            bell.end_turn()
