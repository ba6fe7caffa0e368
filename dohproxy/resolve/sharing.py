"""What the processes of a machine tell each other of answers, written down now and then."""

from __future__ import annotations

import logging
from functools import partial

import trio

from dohproxy.cache.shared import SharedFile
from dohproxy.contained import kept

log = logging.getLogger(__name__)

PAUSE = 0.2
"""Seconds between two times of writing: so much later others know, and so much is lost when the process is killed."""
QUIET = 60.0
"""Seconds between two lines of the log about answers that could not be written."""


async def keep_written(file: SharedFile, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Write what waits, until cancelled; in a thread, for the disk and other writers take their time. Then close the file."""
    task_status.started()
    try:
        await kept("writing shared answers", partial(_write, file))
    finally:
        file.close()


async def _write(file: SharedFile) -> None:
    told, told_at = 0, -QUIET
    while not file.trouble:
        await trio.sleep(PAUSE)
        if file.waits:
            await trio.to_thread.run_sync(file.flush)
        if file.lost > told and trio.current_time() >= told_at + QUIET:
            log.warning("%d answers could not be shared so far: the disk is full, or slow", file.lost)
            told, told_at = file.lost, trio.current_time()
    log.warning("answers are not shared any more, until a restart: %s", file.trouble)
    await trio.sleep_forever()
