"""What goes on beside the queries goes on after a defect too."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from dohproxy.resolve.sharing import keep_written
from dohproxy.resolve.upkeep import Upkeep


class Defect(RuntimeError):
    pass


class Met:
    """Something that is done at once, and meets a defect the first two times."""

    def __init__(self) -> None:
        self.done = 0

    def __call__(self, *_: object) -> None:
        self.done += 1
        if self.done < 3:
            raise Defect

    async def run(self, *_: object) -> None:
        self()
        await trio.sleep_forever()


class File:
    waits, trouble, lost = True, "", 0

    def __init__(self) -> None:
        self.flush, self.closed = Met(), 0

    def close(self) -> None:
        self.closed += 1


def told(caplog: pytest.LogCaptureFixture) -> list[type[BaseException] | None]:
    return [record.exc_info[0] for record in caplog.records if record.exc_info]


async def test_shared_answers_are_written_after_a_defect(caplog: pytest.LogCaptureFixture, mock_clock: Any) -> None:
    file: Any = File()
    mock_clock.rate = 1000
    with trio.fail_after(3600):
        async with trio.open_nursery() as nursery:
            await nursery.start(keep_written, file)
            while file.flush.done < 4:  # noqa: ASYNC110 - a thread counts
                await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
    assert told(caplog) == [Defect, Defect]
    assert file.closed == 1


async def test_that_answers_are_not_shared_is_told_but_not_all_the_time(
    nursery: trio.Nursery, autojump_clock: object, caplog: pytest.LogCaptureFixture
) -> None:
    file: Any = File()
    file.waits = False
    await nursery.start(keep_written, file)
    await trio.sleep(10)
    assert not caplog.messages
    for lost in (5, 7, 9):
        file.lost = lost
        await trio.sleep(10)
    assert caplog.messages == ["5 answers could not be shared so far: the disk is full, or slow"]
    await trio.sleep(60)
    assert caplog.messages[1:] == ["9 answers could not be shared so far: the disk is full, or slow"]
    caplog.clear()
    file.trouble = "located page was wrong type"
    await trio.sleep(10)
    assert caplog.messages == ["answers are not shared any more, until a restart: located page was wrong type"]


@pytest.mark.parametrize("keeps", [False, True])
async def test_upkeep_goes_on_after_a_defect(
    nursery: trio.Nursery, autojump_clock: object, caplog: pytest.LogCaptureFixture, keeps: bool
) -> None:
    following, excepted, boot, signal = Met(), Met(), Met(), Met()
    following.read_along = following.run  # type: ignore[attr-defined]
    trusted: Any = type("Trusted", (), {"forget": None})()
    upkeep = Upkeep(trusted, following, excepted, boot, signal.run)  # type: ignore[arg-type]
    await nursery.start(upkeep.run, keeps)
    await trio.sleep(10)
    assert [met.done for met in (following, excepted, boot, signal)] == [3, 3, 3, 3 * keeps]
    assert set(told(caplog)) == {Defect}
