"""Negative trust anchors: told, ended in time, checked, and dropped (RFC 7646)."""

from __future__ import annotations

import pytest
import trio
from memory_tree import WALL
from stages import Canned, answer
from trio.testing import MockClock

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.errors import NoReachableUpstream
from dohproxy.model import Security
from dohproxy.resolve.excepted import CHECK, FIRST, POLL, Excepted
from dohproxy.resolve.trusted import Trusted
from dohproxy.wire.constants import DS, SERVFAIL
from dohproxy.wire.names import ROOT, from_text

NAME = from_text("broken.example.")
OTHER = from_text("other.example.")


class Proxy:
    def __init__(self, *negative: NegativeAnchor) -> None:
        self.wall, self.forgotten = WALL, 0
        self.canned = Canned()
        self.canned.on("broken.example.", answer(security=Security.BOGUS), "SOA")
        self.canned.on("other.example.", answer(security=Security.BOGUS), "SOA")
        anchors = AnchorSet([Anchor(ROOT, DS, bytes(36))], negative)
        self.judged_by: list[AnchorSet] = []
        self.trusted = Trusted(anchors, [self._forget], 5)
        self.excepted = Excepted(negative, self._validator, wall=lambda: self.wall, timeout=5)

    def _forget(self) -> None:
        self.forgotten += 1

    def _validator(self, anchors: AnchorSet) -> Canned:
        self.judged_by.append(anchors)
        return self.canned

    def now(self, security: Security | None, name: str = "broken.example.") -> None:
        self.canned.on(name, answer(security=security) if security else NoReachableUpstream("gone"), "SOA")

    def rules(self, name: bytes = NAME) -> bool:
        return isinstance(self.trusted.anchors.closest(name, WALL), NegativeAnchor)

    async def run(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.excepted.run(self.trusted)


async def test_it_is_told_at_the_start_with_its_reason(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    await Proxy(NegativeAnchor(NAME, reason="their signer is down")).run(1)
    assert "negative trust anchor broken.example. (their signer is down): nothing is validated" in caplog.text


async def test_it_ends_in_time_and_what_it_let_through_is_forgotten(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(NegativeAnchor(NAME, until=WALL + 100), NegativeAnchor(OTHER))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run, 30)
        await trio.sleep(POLL + 1)
        assert (proxy.rules(), proxy.forgotten) == (True, 0)
        proxy.wall += 100
    assert not proxy.rules()
    assert proxy.rules(OTHER)
    assert proxy.forgotten == 2
    assert caplog.text.count("broken.example.: it is over") == 1


async def test_one_that_was_over_before_the_start_is_told_of(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(NegativeAnchor(NAME, until=WALL))
    await proxy.run(FIRST + CHECK)
    assert "it is over, and may go from the configuration" in caplog.text
    assert (proxy.forgotten, proxy.canned.asked) == (0, [])


@pytest.mark.parametrize("security", [Security.SECURE, Security.INSECURE])
async def test_one_that_is_needed_no_more_is_warned_about_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, security: Security
) -> None:
    proxy = Proxy(NegativeAnchor(NAME), NegativeAnchor(OTHER))
    proxy.now(security)
    await proxy.run(FIRST + 2.5 * CHECK)
    assert caplog.text.count(f"broken.example.: the name validates again ({security.value}): remove it") == 1
    assert "other.example.: the name" not in caplog.text
    assert proxy.rules()
    assert all(anchors.closest(NAME, WALL).zone == ROOT for anchors in proxy.judged_by)
    assert all(anchors.closest(OTHER, WALL).zone == ROOT for anchors in proxy.judged_by)


async def test_it_is_warned_about_again_once_it_was_needed_again(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = Proxy(NegativeAnchor(NAME))
    proxy.now(Security.SECURE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(proxy.run, FIRST + 2.5 * CHECK)
        await trio.sleep(FIRST + 1)
        proxy.now(Security.BOGUS)
        await trio.sleep(CHECK)
        proxy.now(Security.SECURE)
    assert caplog.text.count("validates again") == 2


@pytest.mark.parametrize("security", [Security.BOGUS, Security.INDETERMINATE, None])
async def test_one_that_is_needed_stays(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, security: Security | None
) -> None:
    proxy = Proxy(NegativeAnchor(NAME, drop=True))
    proxy.now(security)
    await proxy.run(FIRST + 2.5 * CHECK)
    assert proxy.rules()
    assert "validates again" not in caplog.text
    assert len(proxy.canned.asked) == 3


async def test_an_answer_that_failed_proves_nothing(autojump_clock: MockClock) -> None:
    proxy = Proxy(NegativeAnchor(NAME, drop=True))
    proxy.canned.on("broken.example.", answer(rcode=SERVFAIL, security=Security.INSECURE), "SOA")
    await proxy.run(FIRST + 1)
    assert proxy.rules()


async def test_it_is_dropped_if_so_configured(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    proxy = Proxy(NegativeAnchor(NAME, drop=True))
    proxy.now(Security.SECURE)
    await proxy.run(FIRST + 10)
    assert not proxy.rules()
    assert proxy.forgotten == 2
    assert "the name validates again (secure), and so it is dropped" in caplog.text
