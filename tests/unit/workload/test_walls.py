"""A defect in listening to the agent ends no more than one attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from dohproxy.workload.client import Workload


@pytest.mark.parametrize("name", ["_listen", "_expire"])
async def test_the_agent_is_listened_to_after_a_defect(
    nursery: trio.Nursery,
    autojump_clock: object,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    name: str,
) -> None:
    begun = []

    async def fails_at_first(*_: object) -> None:
        begun.append(trio.current_time())
        if len(begun) < 5:
            raise ZeroDivisionError
        await trio.sleep_forever()

    monkeypatch.setattr(Workload, name, fails_at_first)
    await nursery.start(Workload(tmp_path / "none").run)
    await trio.sleep(60)
    assert len(begun) >= 5
    assert {record.exc_info[0] for record in caplog.records if record.exc_info} == {ZeroDivisionError}
