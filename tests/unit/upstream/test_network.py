from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from dohproxy.upstream.connect import is_local, way_to
from dohproxy.upstream.network import QUIET, SLEEP, Network, news_of_routes, slept


class World:
    """A network as it is told to be, and when it was said to be another one."""

    def __init__(self) -> None:
        self.ways = {"192.0.2.1": "10.0.0.2", "2001:db8::1": ""}
        self.slept = 0.0
        self.told: list[float] = []
        self.kernel, self.news = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.news.setblocking(False)

    def network(self, *, polled: bool = False) -> Network:
        return Network(
            self.ways,
            lambda: self.told.append(trio.current_time()),
            way_to=lambda address: self.ways[address],
            slept=lambda: self.slept,
            news=lambda: None if polled else self.news,
        )

    async def say(self, way: str) -> None:
        self.ways["192.0.2.1"] = way
        self.kernel.send(b"news")
        await trio.testing.wait_all_tasks_blocked(0.01)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    with made.kernel, made.news:
        yield made


async def test_a_change_is_told_once_it_is_over(world: World, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(world.network().run)
    await trio.sleep(5)
    for way in ("", "10.0.0.7", "10.0.0.8"):
        await world.say(way)
        await trio.sleep(QUIET / 2)
    assert not world.told
    await trio.sleep(QUIET)
    assert len(world.told) == 1
    await trio.sleep(50)
    assert len(world.told) == 1


async def test_a_network_that_looks_the_same_is_another_one(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(world.network().run)
    await trio.sleep(5)
    await world.say("")
    await world.say("10.0.0.2")
    await trio.sleep(1)
    assert len(world.told) == 1


async def test_unrest_is_told_before_it_ends(world: World, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(world.network().run)
    await trio.sleep(5)
    before = trio.current_time()
    for number in range(30):
        await world.say(f"10.0.1.{number}")
        await trio.sleep(QUIET / 2)
    assert world.told[0] - before < 1.5
    assert len(world.told) <= 3


async def test_news_that_change_nothing_are_not_told(world: World, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(world.network().run)
    await trio.sleep(5)
    for _ in range(10):
        await world.say("10.0.0.2")
    await trio.sleep(5)
    assert not world.told


async def test_without_news_it_looks_by_itself(world: World, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    nursery.start_soon(world.network(polled=True).run)
    await trio.sleep(5)
    world.ways["2001:db8::1"] = "2001:db8::7"
    await trio.sleep(3)
    assert len(world.told) == 1


@pytest.mark.parametrize("polled", [True, False])
async def test_after_sleep_the_network_is_another_one(
    world: World, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, polled: bool
) -> None:
    caplog.set_level(logging.INFO)
    nursery.start_soon(world.network(polled=polled).run)
    await trio.sleep(5)
    world.slept += SLEEP / 2
    await trio.sleep(5)
    assert not world.told
    world.slept += 3600
    await trio.sleep(1.5)
    assert len(world.told) == 1
    assert [record.getMessage() for record in caplog.records] == [
        "the machine slept for 3600 s: upstreams are connected to anew"
    ]


def test_the_way_to_ourselves_is_short() -> None:
    assert way_to("127.0.0.1") == "127.0.0.1"


def test_no_way_leads_to_everybody() -> None:
    assert way_to("255.255.255.255") == ""


def test_this_machine_has_not_slept_a_negative_time() -> None:
    assert -0.1 < slept() < 1e9


def test_the_kernel_sends_news_without_privileges() -> None:
    news = news_of_routes()
    assert news is not None and not news.getblocking()
    news.close()


def test_which_addresses_are_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        assert is_local(sock)
    assert not is_local(None)
