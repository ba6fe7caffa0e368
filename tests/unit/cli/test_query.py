"""`dohproxy query` over the real stages: what is answered without asking anyone, and bad usage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dohproxy.cli.main import main

CONFIG = """\
[[upstream]]
url = "tls://192.0.2.1"
[local]
records = ["printer.lan. 300 A 192.168.1.9"]
[[policy.group]]
name = "kids"
clients = ["10.0.0.0/8"]
deny = [".games.example"]
deny_action = "refused"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "dohproxy.toml"
    path.write_text(CONFIG)
    return path


def query(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["query", "--config", str(config), *arguments])


def test_a_local_answer(config: Path) -> None:
    result = query(config, "printer.lan")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[:2] == ["printer.lan. A: NOERROR, insecure", "  printer.lan. 300 IN A 192.168.1.9"]
    assert "source    made here" in lines


def test_policy_is_that_of_the_client(config: Path) -> None:
    result = query(config, "x.games.example", "AAAA", "--client", "10.1.2.3")
    assert result.exit_code == 0
    assert result.output.startswith("x.games.example. AAAA: REFUSED")
    assert f'policy    refused by .games.example, group "kids", deny ({config}:8)' in result.output
    assert "client    10.1.2.3 (group kids)" in result.output


def test_for_machines(config: Path) -> None:
    told = json.loads(query(config, "printer.lan", "--json").output)
    assert (told["rcode"], told["source"], told["group"]) == ("NOERROR", "local", "default")


@pytest.mark.parametrize("arguments", [["a..b"], ["x", "NOTYPE"], ["x", "--client", "me"]])
def test_bad_arguments(arguments: list[str], config: Path) -> None:
    assert query(config, *arguments).exit_code == 2


def test_what_only_building_finds_ends_with_2(config: Path) -> None:
    (config.parent / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    config.write_text(CONFIG.replace('192.0.2.1"', '192.0.2.1"\nca_file = "ca.pem"', 1))
    result = query(config, "printer.lan")
    assert result.exit_code == 2
    assert "ca.pem" in result.stderr
