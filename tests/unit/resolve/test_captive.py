from __future__ import annotations

import logging

import pytest
import trio
from stages import Canned, answer, query
from trio.testing import MockClock
from upstreams import SILENCE, Fake

from dohproxy.config.settings import CaptivePortal, NamePattern
from dohproxy.errors import NoReachableUpstream
from dohproxy.model import Security, Source
from dohproxy.resolve.captive import LOST_FOR, PAUSE, POLL, Captive
from dohproxy.wire.names import from_text

PORTAL = answer("portal.example. 300 A 10.0.0.1", security=Security.UNCHECKED)
SECURE = answer("portal.example. 300 A 192.0.2.1", security=Security.SECURE)
NAMES = (NamePattern(from_text("portal.example."), True, False), NamePattern(from_text("login.example."), False, True))


class Land:
    def __init__(self, canned: Canned, *resolvers: Fake) -> None:
        self.lost, self.forgotten, self.looked = False, 0, 0
        self.resolvers = resolvers
        self.below = canned.on("portal.example.", SECURE).on("www.example.", SECURE).on("a.login.example.", SECURE)
        self.captive = Captive(
            self.below,
            CaptivePortal(NAMES),
            is_lost=lambda: self.lost,
            resolvers=self.look,
            forget=self.forget,
        )

    def look(self) -> tuple[Fake, ...]:
        self.looked += 1
        return self.resolvers

    def forget(self) -> None:
        self.forgotten += 1

    async def lose(self) -> None:
        self.lost = True
        await trio.sleep(LOST_FOR + 2 * POLL)


async def test_only_these_names_and_only_while_captive(
    canned: Canned, nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    land = Land(canned, Fake("10.0.0.1", PORTAL))
    nursery.start_soon(land.captive.run)
    await trio.sleep(100)
    assert not land.looked
    assert await land.captive.resolve(query("portal.example.")) is SECURE
    await land.lose()
    told = await land.captive.resolve(query("portal.example."))
    assert (told.answer[0].rdatas, told.answer[0].ttl) == (PORTAL.answer[0].rdatas, 0)
    assert (told.source, told.security) == (Source.LOCAL, Security.UNCHECKED)
    assert await land.captive.resolve(query("www.example.")) is SECURE
    assert (await land.captive.resolve(query("a.login.example."))).source is Source.LOCAL
    land.lost = False
    await trio.sleep(2 * POLL)
    assert await land.captive.resolve(query("portal.example.")) is SECURE
    assert land.forgotten == 2
    assert [record.getMessage() for record in caplog.records] == [
        "a captive portal holds us: 2 names are asked in clear of 10.0.0.1 until an upstream answers",
        "the captive portal let us go: nothing is asked in clear any more",
    ]


async def test_a_short_loss_is_no_portal(canned: Canned, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    land = Land(canned, Fake("10.0.0.1", PORTAL))
    nursery.start_soon(land.captive.run)
    for _ in range(5):
        land.lost = True
        await trio.sleep(LOST_FOR / 2)
        land.lost = False
        await trio.sleep(LOST_FOR)
    assert not land.looked


@pytest.mark.parametrize(
    "manner", [SILENCE, NoReachableUpstream("refused"), answer(rcode=3), answer(rcode=2), answer()], ids=repr
)
async def test_a_resolver_that_has_no_address_is_no_portal(
    canned: Canned, nursery: trio.Nursery, autojump_clock: MockClock, manner: object
) -> None:
    resolver = Fake("10.0.0.1", manner)  # type: ignore[arg-type]
    land = Land(canned, resolver)
    nursery.start_soon(land.captive.run)
    await land.lose()
    await trio.sleep(3 * (PAUSE + LOST_FOR + 3))
    assert not land.captive.is_open
    assert 3 <= len(resolver.asked) <= 6
    assert {asked.question.qname for asked in resolver.asked} == {from_text("portal.example.")}


async def test_without_resolvers_there_is_no_portal(canned: Canned, nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    land = Land(canned)
    nursery.start_soon(land.captive.run)
    await land.lose()
    assert land.looked and not land.captive.is_open


async def test_the_second_resolver_is_asked_where_the_first_is_silent(
    canned: Canned, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    land = Land(canned, Fake("10.0.0.1", SILENCE), Fake("10.0.0.2", PORTAL))
    nursery.start_soon(land.captive.run)
    await land.lose()
    await trio.sleep(2)
    assert (await land.captive.resolve(query("portal.example."))).source is Source.LOCAL


async def test_an_error_of_the_portals_resolver_is_an_error(
    canned: Canned, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    resolver = Fake("10.0.0.1", PORTAL)
    land = Land(canned, resolver)
    nursery.start_soon(land.captive.run)
    await land.lose()
    resolver.manners[:] = [SILENCE]
    with pytest.raises(NoReachableUpstream):
        await land.captive.resolve(query("portal.example."))
    assert not land.below.asked
