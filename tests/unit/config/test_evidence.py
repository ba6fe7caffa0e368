"""`[evidence]`, and what groups say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dohproxy.config.load import parse
from dohproxy.errors import ConfigError

UPSTREAM = 'upstream = ["tls://9.9.9.9"]\n'
GROUP = '[[policy.group]]\nname = "a"\nclients = ["10.0.0.0/8"]\nevidence = "{}"\n'


def test_nothing_is_written_unless_it_is_said(tmp_path: Path) -> None:
    evidence = parse(UPSTREAM, "x.toml", tmp_path).evidence
    assert (evidence.file, evidence.write, evidence.max_size) == (None, "off", 64 << 20)


def test_the_file_is_found_from_the_configurations_directory(tmp_path: Path) -> None:
    settings = parse(
        UPSTREAM + '[evidence]\nfile = "e.jsonl"\nwrite = "all"\nmax_size = "1 MiB"\n' + GROUP.format("off"), "x.toml", tmp_path
    )
    assert (settings.evidence.file, settings.evidence.write, settings.evidence.max_size) == (
        tmp_path / "e.jsonl",
        "all",
        1 << 20,
    )
    assert [group.evidence for group in settings.policy.groups] == ["off", None]
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[evidence]\nwrite = "failures"\n', "x.toml:3: evidence.write: there is no file to write to"),
        (GROUP.format("all"), "x.toml:5: policy.group[0].evidence: there is no file to write to"),
        ('[evidence]\nfile = "missing/e.jsonl"\n', "x.toml:3: evidence.file: there is no directory"),
        ('[evidence]\nfile = "e"\nwrite = "some"\n', '"off", "failures", "all"'),
    ],
)
def test_mistakes(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(UPSTREAM + text, "x.toml", tmp_path)
    assert problem in str(caught.value)


def test_a_file_that_nobody_writes_to_is_doubted(tmp_path: Path) -> None:
    [warning] = parse(UPSTREAM + '[evidence]\nfile = "e.jsonl"\n', "x.toml", tmp_path).warnings
    assert "nothing is written" in warning.message
