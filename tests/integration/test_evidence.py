"""Evidence from outside: the proxy writes it in front of the lab, and another process checks it."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import pytest
import trio
from programs import wait_until
from real_peers import Proxy

from dohproxy.lab.lab import Lab, open_lab
from dohproxy.lab.samples import SAMPLES, ask


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as opened:
        yield opened


def config(lab: Lab, evidence: str, log: str = "") -> str:
    more = f'\n[evidence]\nfile = "evidence.jsonl"\n{evidence}\n{log}'
    return lab.config_toml(0, more=more).replace("127.0.0.1:0", "127.0.0.1:PORT")


async def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own that knows nothing of the proxy."""
    command = [sys.executable, "-m", "dohproxy", *map(str, arguments)]
    return await trio.to_thread.run_sync(
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    )


async def question(proxy: Proxy, name: str, rdtype: str = "A") -> dns.message.Message:
    return await dns.asyncquery.udp(dns.message.make_query(name, rdtype, use_edns=0), "127.0.0.1", 5, proxy.port)


def anchor_of(lab: Lab) -> str:
    """The root's anchor as the lab's configuration has it."""
    found = re.search(r'trust_anchors = \[\s*"([^"]+)"', lab.config_toml(0))
    assert found
    return found[1]


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def written(proxy: Proxy, file: Path) -> list[dict[str, Any]]:
    """All records, once the proxy has ended."""
    await trio.to_thread.run_sync(proxy.stop)
    return records(file)


async def test_every_verdict_of_the_lab_can_be_repeated_with_its_anchor_alone(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "evidence.jsonl"
    with Proxy(tmp_path, config(lab, 'write = "all"', '[log]\nclients = "short"\n')) as proxy:
        for sample in SAMPLES * 2:
            await ask(sample, proxy.port)
        found = await written(proxy, file)
    verdicts = {(record["question"]["name"], record["verdict"]) for record in found}
    assert {
        ("www.rsa.lab.", "secure"),
        ("nothing.ecdsa.lab.", "secure"),
        ("www.insecure.lab.", "insecure"),
        ("expired.bogus.lab.", "bogus"),
        ("www.wrongds.lab.", "bogus"),
        ("nothing.nodenial.lab.", "bogus"),
    } <= verdicts
    assert {record["circumstances"]["client"] for record in found} == {"127.0.0.0"}
    blocked = next(record for record in found if record["question"]["name"] == "cloaked.ecdsa.lab.")
    assert blocked["circumstances"]["policy"]["where"] == 'list "ads"'
    checked = await run("verify", file, "--anchor", anchor_of(lab))
    assert checked.returncode == 0, checked.stdout
    assert f"{len(found)} hold" in checked.stdout


async def test_nothing_is_written_twice_for_what_is_remembered(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "evidence.jsonl"
    with Proxy(tmp_path, config(lab, 'write = "all"')) as proxy:
        for _ in range(5):
            await question(proxy, "www.rsa.lab")
            await question(proxy, "expired.bogus.lab")
        found = await written(proxy, file)
    assert sorted(record["question"]["name"] for record in found) == ["expired.bogus.lab.", "www.rsa.lab."]


async def test_failures_only_and_a_reload_that_ends_it(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "evidence.jsonl"
    with Proxy(tmp_path, config(lab, 'write = "failures"')) as proxy:
        for name in ("www.rsa.lab", "flipped.bogus.lab", "www.insecure.lab"):
            await question(proxy, name)
        await trio.to_thread.run_sync(lambda: wait_until(lambda: file.exists() and len(records(file)) == 1))
        proxy.write(config(lab, 'write = "off"'))
        proxy.send(signal.SIGHUP)
        await trio.to_thread.run_sync(lambda: wait_until(lambda: "reloaded" in proxy.log.read_text()))
        await question(proxy, "expired.bogus.lab")
        found = await written(proxy, file)
    assert [(record["question"]["name"], record["verdict"]) for record in found] == [("flipped.bogus.lab.", "bogus")]


@pytest.mark.parametrize("where", ["rdata", "rrsig"])
async def test_a_byte_changed_afterwards_is_found(lab: Lab, tmp_path: Path, where: str) -> None:
    file = tmp_path / "ticket.jsonl"
    (tmp_path / "lab.toml").write_text(lab.config_toml(5300))
    asked = await run("query", "www.ecdsa.lab", "AAAA", "--evidence", file, "--config", tmp_path / "lab.toml")
    assert asked.returncode == 0, asked.stderr
    [record] = records(file)
    told = record["answer"]["answer"][0]
    octets = base64.b64decode(told[where][0])
    told[where][0] = base64.b64encode(octets[:-1] + bytes((octets[-1] ^ 1,))).decode()
    changed = tmp_path / "changed.jsonl"
    changed.write_text(json.dumps(record) + "\n")
    good = await run("verify", file, "--config", tmp_path / "lab.toml")
    bad = await run("verify", changed, "--config", tmp_path / "lab.toml")
    assert (good.returncode, bad.returncode) == (0, 1)
    assert "does not hold" in bad.stdout
    assert "judged now: bogus, " in bad.stdout


async def test_a_bogus_answer_makes_a_record_for_the_ticket(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "ticket.jsonl"
    (tmp_path / "lab.toml").write_text(lab.config_toml(5300))
    for name in ("expired.bogus.lab", "www.wrongds.lab"):
        asked = await run("query", name, "--evidence", file, "--config", tmp_path / "lab.toml")
        assert asked.returncode == 1
    none = await run("query", "localhost", "--evidence", file, "--config", tmp_path / "lab.toml")
    assert "no verdict was made" in none.stderr
    checked = await run("verify", file, "--anchor", anchor_of(lab), "--json")
    assert checked.returncode == 0, checked.stdout
    assert [json.loads(line)["recorded"]["verdict"] for line in checked.stdout.splitlines()] == ["bogus", "bogus"]


async def test_a_file_that_cannot_be_written_stops_nothing(lab: Lab, tmp_path: Path) -> None:
    directory = tmp_path / "evidence"
    directory.mkdir()
    text = config(lab, 'write = "all"').replace("evidence.jsonl", "evidence/e.jsonl")
    with Proxy(tmp_path, text) as proxy:
        directory.rmdir()
        for sample in SAMPLES[:5]:
            assert (await ask(sample, proxy.port)).right
        await trio.to_thread.run_sync(proxy.stop)
        log = proxy.log.read_text()
    assert log.count("what belongs there is lost until that is mended") == 1
    assert "evidence_lost=5" in log
