"""The suites that other resolvers are tested by, where they are at hand: DOHPROXY_CONFORMANCE names their folder.

It holds `rplrun.py`, which plays scenarios in the format of unbound's testbound and Knot's Deckard, `behaviour.py` and
`differential.py`. docs/conformance.md tells what they find, and why we differ where we do.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = os.environ.get("DOHPROXY_CONFORMANCE", "")
DIFFERENT = {"val_anchor_nx_nosig"}
"""What we do otherwise, as RFC 4033 5 has it."""

pytestmark = pytest.mark.skipif(not FOLDER, reason="DOHPROXY_CONFORMANCE names no folder")


def run(script: str, *options: str | Path, timeout: float = 1800) -> str:
    command = f"{shlex.quote(sys.executable)} -m dohproxy run --config {{config}}"
    done = subprocess.run(
        [sys.executable, script, *map(str, options), "--sut-command", command],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "source", sorted(Path(FOLDER, "scenarios").glob("*/")) if FOLDER else [], ids=lambda source: source.name
)
def test_scenarios(source: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    told = run("rplrun.py", "--sut", "dohproxy", "--source", source, "--ede", "--json", results, "--workdir", tmp_path)
    failed = {row["name"] for row in json.loads(results.read_text()) if row["verdict"] in ("FAIL", "ERROR")}
    assert failed == DIFFERENT, told


def test_behaviour() -> None:
    assert "38 passed, 0 failed" in (told := run("behaviour.py", "--sut", "dohproxy")), told


@pytest.mark.parametrize("peer", ["unbound", "kresd"])
def test_no_more_differences_than_are_explained(peer: str, tmp_path: Path) -> None:
    results = tmp_path / "differences.json"
    told = run("differential.py", "--a", peer, "--b", "dohproxy", "--queries", "1000", "--json", results)
    assert "oracle: dohproxy: 140 of 140 zones as they should be" in told
    assert len(json.loads(results.read_text())) < 80, told
