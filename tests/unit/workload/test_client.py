"""The client of the Workload API beside an agent that speaks, is silent, dies, and talks nonsense."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from spiffe_agents import Agent, bundles, der_of, field, issue, svids
from trio.testing import MockClock

from dohproxy.identity.own import BadCertificate, KeyPair
from dohproxy.lab.certificates import Authority, Validity
from dohproxy.workload.client import PATIENCE, Workload

WEB = "spiffe://prod.example/ns/pay/sa/web"
SVIDS, BUNDLES = "FetchX509SVID", "FetchX509Bundles"


class World:
    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        self.nursery = nursery
        self.agent = Agent(directory / "agent.sock")
        self.authority, self.other = Authority("prod"), Authority("other")
        self.later = 0.0
        """Seconds by which the clock is ahead."""
        self.workload = Workload(self.agent.socket, self.wall)

    def wall(self) -> float:
        return datetime.now(UTC).timestamp() + self.later

    async def start(self) -> None:
        await self.nursery.start(self.agent.run)
        await self.nursery.start(self.workload.run)

    async def until_changed(self, before: KeyPair) -> None:
        with trio.fail_after(5):
            while self.workload.svid().current() is before:  # noqa: ASYNC110 -- there is no event to wait for
                await trio.sleep(0.001)


@pytest.fixture
def world(nursery: trio.Nursery, tmp_path: Path) -> World:
    return World(nursery, tmp_path)


async def test_the_identity_and_the_bundles_that_come_with_it(world: World) -> None:
    message = svids(issue(world.authority, WEB), federated={"other.example": der_of(world.other)})
    await world.agent.say(SVIDS, message)
    await world.start()
    pair = world.workload.svid().current()
    assert pair.chain.count(b"BEGIN CERTIFICATE") == 1
    assert isinstance(pair.key, bytes)
    assert dict(world.workload.bundles()) == {
        "prod.example": (der_of(world.authority),),
        "other.example": (der_of(world.other),),
    }
    assert world.workload.svid().current() is pair
    assert world.workload.bundles() is world.workload.bundles()
    svid_call = next(call for call in world.agent.calls if call[":path"].endswith(SVIDS))
    assert svid_call["workload.spiffe.io"] == "true"
    assert svid_call["content-type"] == "application/grpc"


async def test_a_rotated_identity_replaces_the_one_before(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await world.start()
    before = world.workload.svid().current()
    same = world.workload.bundles()
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await world.until_changed(before)
    assert world.workload.svid().current() != before
    assert world.workload.bundles() is same
    assert len([line for line in caplog.messages if line.startswith(f"the Workload API says that we are {WEB}, until")]) == 2


async def test_bundles_that_come_by_themselves(world: World) -> None:
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    both = der_of(world.authority) + der_of(world.other)
    await world.agent.say(BUNDLES, bundles({"prod.example": both, "far.example": der_of(world.other)}))
    await world.start()
    with trio.fail_after(5):
        while "far.example" not in world.workload.bundles():  # noqa: ASYNC110
            await trio.sleep(0.001)
    assert world.workload.bundles()["prod.example"] == (der_of(world.authority), der_of(world.other))


async def test_an_agent_that_dies_takes_nothing_with_it_and_is_found_again(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await world.start()
    before = world.workload.svid().current()
    world.agent.stop()
    await trio.sleep(300)
    assert world.workload.svid().current() is before
    assert sum("does not answer (FetchX509SVID): Connection refused" in line for line in caplog.messages) == 1
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await world.nursery.start(world.agent.run)
    await trio.sleep(60)
    assert world.workload.svid().current() != before


async def test_without_an_agent_the_start_waits_a_little_and_the_identity_comes_later(
    world: World, autojump_clock: MockClock
) -> None:
    began = trio.current_time()
    await world.nursery.start(world.workload.run)
    assert trio.current_time() - began == pytest.approx(PATIENCE, abs=0.1)
    with pytest.raises(BadCertificate, match="has not given us"):
        world.workload.svid().current()
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await world.nursery.start(world.agent.run)
    await trio.sleep(60)
    assert world.workload.svid().current()


async def test_an_identity_that_is_over_is_withdrawn(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await world.start()
    world.later = 366 * 86400
    await trio.sleep(31)
    with pytest.raises(BadCertificate, match=f"the X.509-SVID of {WEB} has expired"):
        world.workload.svid().current()
    assert any("has expired, and the Workload API gives no other" in line for line in caplog.messages)


async def test_refusals_are_told_once_and_asked_again(
    world: World, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world.agent.status = (7, "no identity issued")
    await world.start()
    await trio.sleep(100)
    told = [line for line in caplog.messages if "(FetchX509SVID): no identity issued" in line]
    assert len(told) == 1
    assert 8 <= len(world.agent.calls) <= 60
    world.agent.status = None
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await trio.sleep(60)
    assert world.workload.svid().current()


def _past() -> Validity:
    now = datetime.now(UTC)
    return Validity(now - timedelta(days=2), now - timedelta(days=1))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (lambda world: svids(issue(world.authority, WEB, _past())), "has expired"),
        (lambda world: svids(issue(world.authority, WEB).replace(b"/sa/web", b"/sa/WEB", 1)), "is said to be of .*WEB is of"),
        (lambda _: svids(field(1, WEB.encode())), "cannot be read"),
        (lambda _: svids(), "no X.509-SVID among those"),
        (lambda _: b"\x0a\xff", "protobuf that ends early"),
        (lambda world: svids(field(1, b"dns") + issue(world.authority, "web.prod.example")), "is of dns:web"),
    ],
)
async def test_what_cannot_be_used_leaves_what_was_there(
    world: World, caplog: pytest.LogCaptureFixture, bad: object, why: str
) -> None:
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await world.start()
    before = world.workload.svid().current()
    await world.agent.say(SVIDS, bad(world))  # type: ignore[operator]
    await world.agent.say(SVIDS, bad(world))  # type: ignore[operator]
    await world.agent.say(SVIDS, svids(issue(world.authority, WEB)))
    await world.until_changed(before)
    assert world.workload.svid().current() != before

    assert sum(bool(re.search(why, line)) for line in caplog.messages) == 1
