"""Error reports (RFC 9567)."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing
from stages import Canned, answer, query, question
from trio.testing import MockClock

from dohproxy.errors import NoReachableUpstream
from dohproxy.model import INTERNAL, Answer, Ede, Query, Question, Security
from dohproxy.resolve.flights import Flights
from dohproxy.resolve.reporting import HOLD, PER_MINUTE, Reporting, report_name
from dohproxy.wire.constants import TXT
from dohproxy.wire.names import ROOT, from_text, to_text

AGENT = from_text("a01.agent-domain.example.")
BROKEN = Answer(0, security=Security.BOGUS, ede=(Ede(7, "expired"),), agent=AGENT)
REPORT = "_er.1.broken.test.7._er.a01.agent-domain.example."


def test_the_name_is_that_of_the_rfc() -> None:
    """The example of RFC 9567 4.2."""
    name = report_name(question("broken.test"), 7, AGENT)
    assert name is not None
    assert to_text(name) == REPORT


@pytest.mark.parametrize("agent", [b"", ROOT])
def test_nobody_is_asked_where_nobody_is_named(agent: bytes) -> None:
    assert report_name(question("broken.test"), 7, agent) is None


def test_a_name_that_would_be_too_long_is_not_asked_for() -> None:
    """RFC 9567 6.1.1: a QNAME of more than 255 octets must not be sent."""
    fits = from_text(".".join(["a" * 63] * 3 + ["a" * 29]))
    longer = from_text(".".join(["a" * 63] * 3 + ["a" * 30]))
    short = from_text("an.agent.example.eu.")
    name = report_name(Question(fits, 1), 6, short)
    assert name is not None
    assert len(name) == 255
    assert report_name(Question(longer, 1), 6, short) is None


def test_errors_of_reports_are_not_reported() -> None:
    assert report_name(Question(from_text(REPORT), TXT), 22, AGENT) is None


def test_only_class_in_is_reported() -> None:
    assert report_name(Question(from_text("broken.test."), 1, 3), 7, AGENT) is None


class Proxy:
    def __init__(self) -> None:
        self.below = Canned()
        self.below.on("broken.test", BROKEN)
        self.now = 0.0
        self.flights = Flights()
        self.stage = Reporting(self.below, self.flights, timeout=5, now=lambda: self.now)

    def reports(self) -> list[Query]:
        return [one for one in self.below.asked if one.question.qtype == TXT]

    async def ask(self, name: str = "broken.test") -> Answer:
        got = await self.stage.resolve(query(name))
        await trio.testing.wait_all_tasks_blocked()
        return got


async def test_a_failure_is_reported_once_and_nobody_waits_for_it(autojump_clock: MockClock) -> None:
    proxy = Proxy()
    proxy.below.on(REPORT, answer(), "TXT")
    async with proxy.flights:
        assert await proxy.ask() is BROKEN
        assert await proxy.ask() is BROKEN
    [report] = proxy.reports()
    assert to_text(report.question.qname) == REPORT
    assert report.client is INTERNAL
    assert not report.cd
    assert report.deadline - trio.current_time() <= 5


async def test_the_same_is_told_again_after_a_while() -> None:
    proxy = Proxy()
    proxy.below.on(REPORT, answer(), "TXT")
    async with proxy.flights:
        await proxy.ask()
        proxy.now = HOLD - 1
        await proxy.ask()
        assert len(proxy.reports()) == 1
        proxy.now = HOLD
        await proxy.ask()
    assert len(proxy.reports()) == 2


async def test_another_reason_is_another_report() -> None:
    proxy = Proxy()
    proxy.below.on(REPORT, answer(), "TXT").on(REPORT.replace(".7.", ".9."), answer(), "TXT")
    async with proxy.flights:
        await proxy.ask()
        proxy.below.on("broken.test", Answer(0, security=Security.INDETERMINATE, ede=(Ede(9),), agent=AGENT))
        await proxy.ask()
    assert len(proxy.reports()) == 2


@pytest.mark.parametrize("security", [Security.SECURE, Security.INSECURE, Security.UNCHECKED])
async def test_what_is_no_failure_is_not_reported(security: Security) -> None:
    proxy = Proxy()
    proxy.below.on("broken.test", Answer(0, security=security, agent=AGENT))
    async with proxy.flights:
        await proxy.ask()
    assert proxy.reports() == []


async def test_without_an_agent_there_is_no_report() -> None:
    proxy = Proxy()
    proxy.below.on("broken.test", Answer(0, security=Security.BOGUS, ede=(Ede(7),)))
    async with proxy.flights:
        await proxy.ask()
    assert proxy.reports() == []


async def test_a_flood_of_errors_is_no_flood_of_reports() -> None:
    proxy = Proxy()
    async with proxy.flights:
        for number in range(PER_MINUTE + 20):
            name = f"n{number}.test"
            proxy.below.on(name, BROKEN).on(f"_er.1.{name}.7._er.a01.agent-domain.example.", answer(), "TXT")
            await proxy.ask(name)
        assert len(proxy.reports()) == PER_MINUTE
        proxy.now = 61.0
        await proxy.ask("n25.test")
    assert len(proxy.reports()) == PER_MINUTE + 1


async def test_an_agent_that_cannot_be_asked_is_nobodys_trouble(caplog: pytest.LogCaptureFixture) -> None:
    proxy = Proxy()
    proxy.below.on(REPORT, NoReachableUpstream("gone"), "TXT")
    with caplog.at_level(logging.INFO, "dohproxy"):
        async with proxy.flights:
            assert await proxy.ask() is BROKEN
    assert [record.getMessage() for record in caplog.records] == [f"an error of broken.test. is reported: {REPORT}"]
