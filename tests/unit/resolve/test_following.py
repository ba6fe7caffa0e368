"""Trust anchors followed as their zone rolls, on a clock that the test sets (RFC 5011)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from memory_tree import DAY, WALL, SigningKey
from rolling import Rolling, revoked
from trio.testing import MockClock

from dohproxy.config.settings import Anchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.rfc5011 import HOUR, State, TrustPoint
from dohproxy.dnssec.rfc5011_state import StateError, read_state
from dohproxy.dnssec.validate import Limits
from dohproxy.resolve.following import POLL, SETTLE, Following
from dohproxy.resolve.state_file import StateFile
from dohproxy.resolve.trusted import Trusted
from dohproxy.wire.constants import DNSKEY, DS
from dohproxy.wire.names import from_text

ZONE = from_text("example.")
OLD, NEW, THIRD = (SigningKey(13, seed=seed) for seed in (201, 202, 203))
OLD_REVOKED = revoked(OLD, 201)
TIMEOUT = 5.0


class Proxy:
    """A follower of one zone, with what it changes."""

    def __init__(self, zone: Rolling, state: Path | None, *anchors: Anchor) -> None:
        self.zone, self.forgotten = zone, 0
        self.anchors = anchors or (Anchor(ZONE, DS, OLD.ds(ZONE)),)
        self.state = state
        self.start()

    def start(self) -> None:
        self.following = Following(
            self.zone,
            self.anchors,
            StateFile(self.state) if self.state else None,
            limits=Limits(skew_min=0, skew_max=0),
            wall=lambda: self.zone.wall,
            timeout=TIMEOUT,
        )
        anchors = AnchorSet(self.following.anchors(ZONE))
        self.trusted = Trusted(anchors, [self._forget], TIMEOUT)

    def _forget(self) -> None:
        self.forgotten += 1

    @property
    def tags(self) -> set[int]:
        anchor = self.trusted.anchors.of(ZONE)
        return set(anchor.tags) if anchor else set()

    @property
    def states(self) -> dict[int, State]:
        return {key.tag: key.state for key in self.following.point(ZONE).keys}

    async def run(self, seconds: float = 3 * POLL + TIMEOUT) -> None:
        with trio.move_on_after(seconds):
            await self.following.run(self.trusted)

    async def days(self, *days: int) -> None:
        """Run for a while on each of these days from now."""
        for passed in days:
            self.zone.wall += passed * DAY
            await self.run()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "rfc5011.state"


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What threads do is done at once: the clock of a test jumps while it waits for them."""

    async def run_sync(call: Callable[..., object], *args: object) -> object:
        return call(*args)

    monkeypatch.setattr("trio.to_thread.run_sync", run_sync)


def points(state: Path) -> tuple[TrustPoint, ...]:
    return read_state(state.read_text())


def put(state: Path, content: str | bytes) -> None:
    state.write_bytes(content if isinstance(content, bytes) else content.encode())


async def test_the_first_probe_takes_over_the_configured_anchors(autojump_clock: MockClock, state: Path) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD]), state)
    await proxy.run()
    assert proxy.states == {OLD.tag: State.VALID}
    assert proxy.tags == {OLD.tag}
    assert proxy.forgotten == 0  # the same key as before, whatever it is told by
    (point,) = points(state)
    assert (point.zone, point.refreshed) == (ZONE, WALL)


async def test_a_new_key_is_trusted_after_thirty_days_over_restarts(autojump_clock: MockClock, state: Path) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD, NEW], [OLD]), state)
    await proxy.run()
    assert proxy.states == {OLD.tag: State.VALID, NEW.tag: State.ADD_PEND}
    assert proxy.tags == {OLD.tag}
    proxy.start()
    await proxy.days(29)
    assert proxy.tags == {OLD.tag}
    proxy.start()
    await proxy.days(1)
    assert proxy.tags == {OLD.tag, NEW.tag}
    proxy.zone.publish([NEW])
    proxy.start()
    assert proxy.tags == {OLD.tag, NEW.tag}  # from the file, before anything is asked
    await proxy.days(1)
    assert proxy.states == {OLD.tag: State.MISSING, NEW.tag: State.VALID}


async def test_a_revoked_key_is_forgotten_with_all_that_rests_on_it(
    autojump_clock: MockClock, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD, NEW], [OLD]), state)
    await proxy.days(0, 31)
    before = proxy.forgotten
    proxy.zone.publish([OLD_REVOKED, NEW])
    await proxy.days(1)
    assert proxy.tags == {NEW.tag}
    assert proxy.forgotten == before + 2  # at once, and when queries under way are through
    assert f"trust anchors of example.: key {OLD.tag} (algorithm 13): valid to revoked" in caplog.text
    proxy.zone.publish([OLD, NEW])  # who has stolen it cannot bring it back
    proxy.start()
    await proxy.days(1, 31)
    assert proxy.states == {OLD.tag: State.REMOVED, NEW.tag: State.VALID}
    assert proxy.tags == {NEW.tag}


async def test_an_rrset_that_no_trusted_key_signs_changes_nothing(autojump_clock: MockClock, state: Path) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD]), state)
    await proxy.run()
    proxy.zone.publish([THIRD, OLD_REVOKED], [THIRD])
    await proxy.days(1)
    assert proxy.states == {OLD.tag: State.VALID}
    assert proxy.tags == {OLD.tag}


async def test_another_upstream_is_asked_before_keys_count_as_false(autojump_clock: MockClock, state: Path) -> None:
    zone = Rolling(ZONE, [THIRD])
    proxy = Proxy(zone, state)
    await proxy.run()
    assert [query.avoid for query in zone.asked] == [(), ("one",)]


async def test_an_upstream_that_fails_is_asked_again_after_an_hour(autojump_clock: MockClock, state: Path) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD]), state)
    proxy.zone.down = True
    await proxy.run()
    assert len(proxy.zone.asked) == 1
    proxy.zone.down = False
    proxy.zone.wall += HOUR
    await proxy.run()
    assert proxy.states == {OLD.tag: State.VALID}


async def test_it_does_not_ask_before_its_time(autojump_clock: MockClock, state: Path) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD]), state)
    await proxy.run()
    proxy.start()
    await proxy.run(600)
    assert len(proxy.zone.asked) == 1


async def test_a_state_from_before_a_roll_gives_way_to_newer_anchors(autojump_clock: MockClock, state: Path) -> None:
    await Proxy(Rolling(ZONE, [OLD]), state).run()
    later = Proxy(Rolling(ZONE, [NEW]), state, Anchor(ZONE, DS, OLD.ds(ZONE)), Anchor(ZONE, DNSKEY, NEW.rdata))
    assert later.tags == {OLD.tag, NEW.tag}
    await later.days(1)
    assert later.states == {OLD.tag: State.MISSING, NEW.tag: State.VALID}


# The file


@pytest.mark.parametrize("content", ["", "{}", "\0\0\0", '{"version": 2, "zones": []}', b"\xff\xfe"])
async def test_a_file_that_cannot_be_read_is_put_aside(
    autojump_clock: MockClock, state: Path, caplog: pytest.LogCaptureFixture, content: str | bytes
) -> None:
    put(state, content)
    proxy = Proxy(Rolling(ZONE, [OLD]), state)
    assert proxy.tags == {OLD.tag}
    await proxy.run()
    assert "started from the configured trust anchors" in caplog.text
    assert "rfc5011.state.bad" in {path.name for path in state.parent.iterdir()}
    assert points(state)[0].refreshed == WALL


async def test_a_disk_that_is_full_costs_the_state_and_nothing_else(
    autojump_clock: MockClock, state: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD, NEW], [OLD]), state)
    await proxy.run()
    old = points(state)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        await proxy.days(15, 16)
        assert proxy.tags == {OLD.tag, NEW.tag}
        assert points(state) == old
        assert caplog.text.count("cannot be written (No space left on device)") == 1
    proxy.zone.wall += DAY
    await proxy.run()
    assert points(state)[0].keys == proxy.following.point(ZONE).keys


def test_a_file_is_whole_whenever_writing_it_ends(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = StateFile(state)
    file.write(())
    whole = state.read_text()

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    for place in ("os.fsync", "pathlib.Path.replace"):
        with monkeypatch.context() as patch:
            patch.setattr(place, fail)
            with pytest.raises(OSError, match="Input/output"):
                file.write(())
        assert state.read_text() == whole
        assert file.read() == ()


def test_no_file_is_an_empty_state_and_one_that_is_refused_is_none(state: Path) -> None:
    assert StateFile(state).read() == ()
    state.mkdir()
    with pytest.raises(StateError, match="cannot be read: Is a directory"):
        StateFile(state).read()


async def test_what_cannot_be_put_aside_is_said(
    autojump_clock: MockClock, state: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(state, "{")
    proxy = Proxy(Rolling(ZONE, [OLD]), state)
    monkeypatch.setattr(StateFile, "put_aside", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    await proxy.run()
    assert "could not be put aside: Permission denied" in caplog.text
    assert proxy.tags == {OLD.tag}


def test_the_file_tells_people_which_key_is_which(state: Path) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD]), state)
    trio.run(proxy.run, clock=MockClock(autojump_threshold=0))
    assert json.loads(state.read_text())["zones"][0]["keys"][0]["key_tag"] == OLD.tag


# Without a file


async def test_without_a_file_no_key_is_followed_but_a_roll_is_warned_of(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD, NEW], [OLD]), None)
    await proxy.run(SETTLE - 1)
    assert proxy.zone.asked == []
    await proxy.run(SETTLE + 2 * POLL)
    await proxy.days(31)
    assert proxy.tags == {OLD.tag}
    assert caplog.text.count(f"it has a new key {NEW.tag}, which is not trusted here") == 1


async def test_what_is_wrong_is_told_once_and_so_is_its_end(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    proxy = Proxy(Rolling(ZONE, [NEW]), None)
    for _ in range(3):
        proxy.zone.wall += DAY
        await proxy.run(SETTLE + 2 * POLL)
    assert caplog.text.count("is a key of the zone any more") == 1
    proxy.zone.publish([OLD])
    proxy.zone.wall += DAY
    await proxy.run(SETTLE + 2 * POLL)
    assert "trust anchors of example.: all is well again" in caplog.text


async def test_a_look_says_why_it_saw_nothing(autojump_clock: MockClock) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD]), None)
    proxy.zone.down = True
    assert (await proxy.following.look(ZONE)).problem == "nobody there"
    assert proxy.following.doubts(await proxy.following.look(ZONE)) == ()
    other = Proxy(Rolling(from_text("other."), [OLD]), None)
    assert (await other.following.look(ZONE)).problem == "it has no DNSKEY records"


async def test_an_upstream_that_has_nobody_beside_it_is_asked_twice_at_most(autojump_clock: MockClock) -> None:
    zone = Rolling(ZONE, [THIRD])
    proxy = Proxy(zone, None)
    look = await proxy.following.look(ZONE)
    assert (len(zone.asked), look.seen.sighting.validated) == (2, False)


async def test_what_one_process_follows_the_others_read(autojump_clock: MockClock, state: Path) -> None:
    zone = Rolling(ZONE, [OLD, NEW], [OLD])
    keeper, reader = Proxy(zone, state), Proxy(zone, state)
    await keeper.days(0, 31)
    asked = len(zone.asked)
    with trio.move_on_after(3 * POLL + TIMEOUT):
        await reader.following.read_along(reader.trusted)
    assert reader.tags == keeper.tags == {OLD.tag, NEW.tag}
    assert reader.forgotten == 2, "what was judged before, and what was under way"
    assert len(zone.asked) == asked


async def test_who_reads_along_without_a_file_does_nothing(autojump_clock: MockClock) -> None:
    proxy = Proxy(Rolling(ZONE, [OLD]), None)
    await proxy.following.read_along(proxy.trusted)
    assert proxy.tags == {OLD.tag}
