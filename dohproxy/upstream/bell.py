"""A bell: rung by anyone, heard by one task."""

from __future__ import annotations

import trio


class Bell:
    """Lighter than an Event, and may ring again and again; rings that nobody hears yet count as one."""

    def __init__(self) -> None:
        self._rung = False
        self._listener: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        """Wake the listener, now or as soon as it listens."""
        self._rung = True
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
