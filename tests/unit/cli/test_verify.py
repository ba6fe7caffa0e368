"""`dohproxy verify`: records judged again from a file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from memory_tree import Tree, name, usual_tree
from msgspec.structs import replace

from dohproxy.cli.main import main
from dohproxy.config.settings import NegativeAnchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.evidence import Exchange, lost_line
from dohproxy.dnssec.replay import evidence_of, recording
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import validate
from dohproxy.model import INTERNAL, Question
from dohproxy.wire.constants import A


@pytest.fixture(scope="module")
def tree() -> Tree:
    return usual_tree()


def line(tree: Tree, qname: str = "www.example.com.", *negative: NegativeAnchor) -> bytes:
    question = Question(name(qname), A)
    given, exchanges = tree.answer(question), list[Exchange]()
    world = replace(tree.world(keys=TrustCache(), budget=Budget()), anchors=AnchorSet(tree.anchors, negative))
    judgement = tree.drive(recording(validate(question, given, world), exchanges))
    evidence = evidence_of(question, given, world, judgement, exchanges, client=INTERNAL)
    return evidence.written(1_795_000_000.0, "192.0.2.1", None)


def anchor(tree: Tree) -> str:
    """The tree's anchor as text (RFC 3597 5)."""
    [record] = tree.anchors
    kind = {43: "DS", 48: "DNSKEY"}[record.rdtype]
    return f". IN {kind} \\# {len(record.rdata)} {record.rdata.hex()}"


def verify(tree: Tree, file: Path, *lines: bytes, more: tuple[str, ...] = ()) -> Result:
    file.write_bytes(b"".join(lines))
    return CliRunner().invoke(main, ["verify", str(file), "--anchor", anchor(tree), *more])


def flipped(text: bytes, *path: Any) -> bytes:
    """The record with the last bit of some base64 flipped."""
    record = json.loads(text)
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    octets = base64.b64decode(inner[path[-1]])
    inner[path[-1]] = base64.b64encode(octets[:-1] + bytes((octets[-1] ^ 1,))).decode()
    return json.dumps(record).encode() + b"\n"


def test_all_hold(tree: Tree, tmp_path: Path) -> None:
    result = verify(tree, tmp_path / "e", line(tree), line(tree, "www.insecure.com."))
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == "2 hold"
    assert "2026-11-18T11:06:40.000Z  www.example.com. A" in result.output


@pytest.mark.parametrize(
    "path",
    [
        ("answer", "answer", 0, "rdata", 0),
        ("answer", "answer", 0, "rrsig", 0),
        ("exchanges", 0, "answer", "answer", 0, "rdata", 0),
        ("exchanges", 0, "answer", "answer", 0, "rrsig", 0),
        ("exchanges", -1, "answer", "answer", 0, "rrsig", 0),
    ],
)
def test_a_flipped_bit_is_told(tree: Tree, tmp_path: Path, path: tuple[Any, ...]) -> None:
    result = verify(tree, tmp_path / "e", line(tree), flipped(line(tree), *path))
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "1 holds, 1 does not hold"
    assert "    judged now: bogus, " in result.output
    assert "    the record: secure" in result.output


@pytest.mark.parametrize("change", [{"verdict": "insecure"}, {"ede": [{"code": 7, "text": "expired"}]}, {"wall": 0}])
def test_another_verdict_reason_or_time_does_not_hold(tree: Tree, tmp_path: Path, change: dict[str, Any]) -> None:
    record = json.loads(line(tree)) | change
    assert verify(tree, tmp_path / "e", json.dumps(record).encode()).exit_code == 1


def test_with_another_anchor_it_does_not_hold_and_that_is_said(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(line(tree))
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "e"), "--anchor", "test. DS 1 13 2 " + "00" * 32])
    assert result.exit_code == 1
    assert "an anchor of ., which is not among those given" in result.output
    assert CliRunner().invoke(main, ["verify", str(tmp_path / "e")]).exit_code == 1  # the built-in root did not sign this


def test_the_anchors_in_the_record_are_not_believed(tree: Tree, tmp_path: Path) -> None:
    theirs = json.loads(line(usual_tree()))
    record = json.loads(line(tree)) | {"anchors": theirs["anchors"]}
    assert verify(tree, tmp_path / "e", json.dumps(record).encode()).exit_code == 0


def test_the_anchors_of_a_configuration(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "e").write_bytes(line(tree))
    config = tmp_path / "c.toml"
    record = anchor(tree).replace("\\", "\\\\")
    config.write_text(f'upstream = ["tls://192.0.2.1"]\n[dnssec]\nroot_anchors = "none"\ntrust_anchors = ["{record}"]\n')
    result = CliRunner().invoke(main, ["verify", str(tmp_path / "e"), "--config", str(config)])
    assert result.exit_code == 0, result.output


def test_a_negative_anchor_is_told(tree: Tree, tmp_path: Path) -> None:
    result = verify(tree, tmp_path / "e", line(tree, "www.example.com.", NegativeAnchor(name("example.com."))))
    assert result.exit_code == 0
    assert "under a negative trust anchor at example.com., as the record has it" in result.output


def test_lost_records_are_counted_and_empty_lines_skipped(tree: Tree, tmp_path: Path) -> None:
    result = verify(tree, tmp_path / "e", line(tree), lost_line(3), b"\n", line(tree))
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == "2 hold, 3 lost"


def test_what_cannot_be_read_is_told_by_its_line(tree: Tree, tmp_path: Path) -> None:
    result = verify(tree, tmp_path / "e", line(tree), b"{\n")
    assert result.exit_code == 2
    assert "2     -" in result.output
    assert "the evidence record cannot be read" in result.output


@pytest.mark.parametrize("arguments", [["missing"], ["-", "--anchor", "example. A 192.0.2.1"], ["-", "--anchor", "no record"]])
def test_what_is_not_there_or_no_anchor_is_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["verify", *arguments]).exit_code == 2


def test_an_empty_file_holds_nothing_against_us(tree: Tree, tmp_path: Path) -> None:
    result = verify(tree, tmp_path / "e")
    assert (result.exit_code, result.output) == (0, "no records\n")


def test_for_machines(tree: Tree, tmp_path: Path) -> None:
    bad = flipped(line(tree), "answer", "answer", 0, "rdata", 0)
    result = verify(tree, tmp_path / "e", line(tree), bad, lost_line(2), b"{\n", more=("--json",))
    good, failed, lost, unreadable = map(json.loads, result.output.splitlines())
    assert result.exit_code == 1
    assert good == {
        "line": 1,
        "outcome": "holds",
        "notes": [],
        "time": "2026-11-18T11:06:40.000Z",
        "name": "www.example.com.",
        "type": "A",
        "recorded": {"verdict": "secure", "ede": []},
        "judged": {"verdict": "secure", "ede": []},
    }
    assert (failed["outcome"], failed["judged"]["verdict"]) == ("does not hold", "bogus")
    assert (lost["outcome"], lost["lost"]) == ("lost", 2)
    assert unreadable["outcome"] == "cannot be read"


def test_standard_input(tree: Tree) -> None:
    result = CliRunner().invoke(main, ["verify", "-", "--anchor", anchor(tree)], input=line(tree))
    assert result.exit_code == 0, result.output
