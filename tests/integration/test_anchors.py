"""Anchors from end to end: the service and the command, before a lab whose root rolls its key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import pytest
import trio
import trio.testing
from click.testing import CliRunner
from dns.dnssectypes import Algorithm

from dohproxy import build
from dohproxy.cli.anchors import look
from dohproxy.cli.main import main
from dohproxy.cli.standing import Standing, lines_of, record_of
from dohproxy.config.load import parse
from dohproxy.config.settings import Settings
from dohproxy.dnssec.rfc5011 import State, TrustPoint
from dohproxy.dnssec.rfc5011_state import read_state
from dohproxy.lab.certificates import Authority, Validity
from dohproxy.lab.lab import Lab, open_lab
from dohproxy.lab.samples import extended_errors
from dohproxy.lab.signer import Key
from dohproxy.model import Transport
from dohproxy.service import Service
from dohproxy.telemetry.counters import Counters

DAY = 86400


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as opened:
        yield opened


def configured(lab: Lab, more: str = "") -> Settings:
    """The lab's configuration with more keys in [dnssec]."""
    text = lab.config_toml(5300).replace("[dnssec]\n", f"[dnssec]\n{more}\n")
    return parse(text, "lab.toml", lab.directory)


class Client:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def ask(self, name: str, rdtype: str = "A") -> dns.message.Message:
        query = dns.message.make_query(name, rdtype, use_edns=0)
        query.flags |= dns.flags.AD
        wire = query.to_wire()
        reply = self._service.front.recall(wire, "127.0.0.1", Transport.UDP)
        return dns.message.from_wire(reply or await self._service.front.answer(wire, "127.0.0.1", Transport.UDP))

    async def wait_for(self, name: str, verdict: str) -> None:
        with trio.fail_after(10):
            while True:
                if await self.verdict(name) == verdict:
                    return
                await trio.sleep(0.05)

    async def verdict(self, name: str) -> str:
        reply = await self.ask(name)
        return "secure" if reply.flags & dns.flags.AD else dns.rcode.to_text(reply.rcode())


@asynccontextmanager
async def serving(settings: Settings, counters: Counters | None = None) -> AsyncIterator[Client]:
    async with trio.open_nursery() as nursery:
        service = Service(settings, [counters] if counters else [])
        await nursery.start(service.run)
        yield Client(service)
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while True:
            if holds():
                return
            await trio.sleep(0.01)


def root_keys(lab: Lab) -> tuple[Key, Key]:
    """The root's key, and a new one that is announced beside it."""
    zone = lab.tree.zones[dns.name.root]
    assert zone.key is not None
    old, new = zone.key, Key(Algorithm.ECDSAP256SHA256)
    zone.roll([old, new], [old])
    return old, new


def state_of(file: Path) -> TrustPoint | None:
    if not file.exists():
        return None
    (point,) = read_state(file.read_text())
    return point


def age(file: Path, days: int) -> None:
    """Let the state be so much older than it is."""
    content = json.loads(file.read_text())
    for zone in content["zones"]:
        for key in ("probed", "refreshed", "next_probe"):
            zone[key] -= days * DAY
        for key in zone["keys"]:
            key |= {name: key[name] - days * DAY for name in ("since", "until") if key.get(name)}
    file.write_text(json.dumps(content))


def told_of(standing: Standing) -> list[tuple[str, str, str]]:
    return [(key.source, key.state, key.now) for key in standing.zones[0].keys]


async def test_a_roll_is_followed_over_restarts(lab: Lab) -> None:
    file = lab.directory / "rfc5011.state"
    settings = configured(lab, 'rfc5011_state = "rfc5011.state"')
    old, new = root_keys(lab)
    async with serving(settings) as client:
        await until(lambda: state_of(file) is not None)
        assert await client.verdict("www.rsa.lab") == "secure"
    assert sorted(key.state.value for key in state_of(file).keys) == ["add-pend", "valid"]
    assert not (await look(settings)).zones[0].doubts

    age(file, 31)
    async with serving(settings):
        await until(lambda: all(key.state is State.VALID for key in state_of(file).keys))

    lab.tree.zones[dns.name.root].roll([old, new], [new])
    async with serving(settings) as client:
        assert await client.verdict("www.rsa.lab") == "secure"
    async with serving(configured(lab)) as client:
        assert await client.verdict("www.rsa.lab") == "SERVFAIL"

    lab.tree.zones[dns.name.root].roll([old.revoked(), old, new], [old.revoked(), new])
    age(file, 31)
    async with serving(settings) as client:
        await until(lambda: any(key.state is State.REVOKED for key in state_of(file).keys))
        assert await client.verdict("www.rsa.lab") == "secure"
    assert {key.tag: key.state for key in state_of(file).keys} == {
        dns.dnssec.key_id(old.public): State.REVOKED,
        dns.dnssec.key_id(new.public): State.VALID,
    }


async def test_a_reload_that_changes_the_core_keeps_following(lab: Lab) -> None:
    file = lab.directory / "rfc5011.state"
    settings = configured(lab)
    async with trio.open_nursery() as nursery:
        service = Service(settings, [])
        await nursery.start(service.run)
        await service.reload(configured(lab, 'rfc5011_state = "rfc5011.state"'))
        await until(file.exists)
        await service.reload(settings)
        assert await Client(service).verdict("www.rsa.lab") == "secure"
        nursery.cancel_scope.cancel()


# The command


async def test_anchors_that_are_well(lab: Lab) -> None:
    found = await look(configured(lab))
    assert told_of(found) == [("configured", "trusted", "signs")]
    assert found.zones[0].is_well
    assert "not followed: dnssec.rfc5011_state is not set" in lines_of(found)[0]


async def test_a_roll_that_nobody_follows_is_told_with_the_way_out(lab: Lab) -> None:
    old, new = root_keys(lab)
    found = await look(configured(lab))
    assert sorted(told_of(found)) == [("configured", "trusted", "signs"), ("the zone", "unknown", "there")]
    line = next(line for line in lines_of(found) if "warning" in line)
    assert str(new.ds(dns.name.root).digest.hex().upper()) in line

    lab.tree.zones[dns.name.root].roll([old, new], [new])
    found = await look(configured(lab))
    assert not found.zones[0].is_well
    assert "none of the trusted keys" in found.zones[0].doubts[0]


async def test_the_state_and_its_timers_are_shown_and_not_changed(lab: Lab) -> None:
    file = lab.directory / "rfc5011.state"
    settings = configured(lab, 'rfc5011_state = "rfc5011.state"')
    assert "not looked at yet" in lines_of(await look(settings))[0]
    assert not file.exists()
    root_keys(lab)
    async with serving(settings):
        await until(lambda: state_of(file) is not None)
    before = file.read_text()
    found = await look(settings)
    assert sorted(told_of(found)) == [("configured", "valid", "signs"), ("followed", "add-pend", "there")]
    pending = next(key for key in found.zones[0].keys if key.state == "add-pend")
    assert pending.until - pending.since == 30 * DAY
    assert "validated" in lines_of(found)[0]
    (zone,) = record_of(found)["zones"]
    assert (zone["zone"], zone["followed"], zone["warnings"]) == (".", True, [])
    assert file.read_text() == before


def test_the_command_ends_with_1_where_something_is_to_be_done(tmp_path: Path) -> None:
    nobody = tmp_path / "dohproxy.toml"
    nobody.write_text(
        'upstream = ["tls://127.0.0.1:1"]\n[forwarding]\ntimeout = 0.3\n[dnssec]\nnegative_trust_anchors = ["broken.example"]\n'
    )
    told = CliRunner().invoke(main, ["anchors", "--config", str(nobody)])
    assert told.exit_code == 1
    assert "20326  RSASHA256  built in  trusted" in told.output
    assert "problem: " in told.output
    assert "broken.example.  without end" in told.output
    record = json.loads(CliRunner().invoke(main, ["anchors", "--json", "--config", str(nobody)]).stdout)
    assert {key["key_tag"] for key in record["zones"][0]["keys"]} == {20326, 38696}
    assert record["negative"] == [{"name": "broken.example.", "until": None, "reason": "", "drop": False}]


def test_without_validation_there_is_nothing_to_show(tmp_path: Path) -> None:
    off = tmp_path / "dohproxy.toml"
    off.write_text('upstream = ["tls://127.0.0.1:1"]\n[dnssec]\nmode = "off"\n')
    told = CliRunner().invoke(main, ["anchors", "--config", str(off)])
    assert (told.exit_code, told.output) == (0, "nothing is validated: the mode is off\n")


# Exceptions


async def test_a_negative_anchor_is_told_to_clients_and_counted(lab: Lab) -> None:
    counters = Counters()
    more = 'negative_trust_anchors = [{ name = "bogus.lab", reason = "they know" }]'
    async with serving(configured(lab, more), counters) as client:
        reply = await client.ask("expired.bogus.lab")
        assert (reply.rcode(), reply.flags & dns.flags.AD) == (0, 0)
        assert extended_errors(reply) == ((0, "negative trust anchor bogus.lab.: they know"),)
    assert counters.unvalidated == {"negative trust anchor bogus.lab.": 1}


async def test_a_negative_anchor_that_is_not_needed_is_dropped(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dohproxy.resolve.excepted.FIRST", 0.3)
    more = 'negative_trust_anchors = [{ name = "rsa.lab", drop = true }, { name = "wrongds.lab", drop = true }]'
    async with serving(configured(lab, more)) as client:
        assert await client.verdict("www.rsa.lab") == "NOERROR"
        await client.wait_for("www.rsa.lab", "secure")
        assert await client.verdict("www.wrongds.lab") == "NOERROR"


async def test_before_the_clock_is_set_its_names_resolve_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the certificates of the upstreams are valid then."""
    then = Validity.around(datetime.now(UTC) + timedelta(days=1000))
    monkeypatch.setattr("dohproxy.lab.lab.Authority", lambda: Authority(validity=then))
    monkeypatch.setattr("dohproxy.resolve.boot_clock.POLL", 0.05)
    is_set: list[int] = []
    monkeypatch.setattr(build, "is_synchronised", lambda: bool(is_set))
    counters = Counters()
    async with (
        open_lab(tmp_path) as lab,
        serving(configured(lab, 'boot_clock = { names = ["*.bogus.lab"] }'), counters) as client,
    ):
        await trio.testing.wait_all_tasks_blocked()
        reply = await client.ask("notyet.bogus.lab")
        assert (reply.rcode(), reply.flags & dns.flags.AD) == (0, 0)
        assert "the clock is not synchronised" in extended_errors(reply)[0][1]
        assert await client.verdict("www.rsa.lab") == "SERVFAIL"
        is_set.append(1)
        await client.wait_for("notyet.bogus.lab", "SERVFAIL")
    assert counters.unvalidated["boot clock"] >= 1


async def test_the_root_key_sentinel(lab: Lab) -> None:
    tag = dns.dnssec.key_id(lab.tree.zones[dns.name.root].key.public)
    trusted, unknown = f"{tag:05}", f"{(tag + 1) % 65536:05}"
    async with serving(configured(lab)) as client:
        for label, expected in (
            (f"root-key-sentinel-is-ta-{trusted}", "secure"),
            (f"root-key-sentinel-is-ta-{unknown}", "SERVFAIL"),
            (f"root-key-sentinel-not-ta-{trusted}", "SERVFAIL"),
            (f"root-key-sentinel-not-ta-{unknown}", "secure"),
        ):
            assert await client.verdict(f"{label}.wild.rsa.lab") == expected, label
    async with serving(configured(lab, "root_key_sentinel = false")) as client:
        assert await client.verdict(f"root-key-sentinel-is-ta-{unknown}.wild.rsa.lab") == "secure"


async def test_anchors_are_signalled_where_that_is_wanted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dohproxy.resolve.signalling.FIRST", 0.0)
    asked: list[str] = []
    resolve = build.Routed.resolve

    async def spy(self, query):
        asked.append(query.question.qname[1:5].decode())
        return await resolve(self, query)

    monkeypatch.setattr(build.Routed, "resolve", spy)
    async with serving(configured(lab, "signal_anchors = true")):
        await until(lambda: "_ta-" in asked)
