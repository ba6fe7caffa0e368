from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dohproxy.cli.main import main

CONFIG = """\
[[upstream]]
url = "tls://192.0.2.1"
[[policy.group]]
name = "payments"
clients = ["10.1.0.0/16"]
default = "deny"
allow = [
  "*.bank.example",
]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "dohproxy.toml"
    path.write_text(CONFIG)
    return path


def explain(config: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["explain", "--config", str(config), *arguments])


def test_the_rule_that_decides_is_shown_with_its_line(config: Path) -> None:
    result = explain(config, "www.bank.example", "AAAA", "--client", "10.1.2.3")
    assert result.exit_code == 0
    assert "group     payments" in result.output
    assert f"{config}:8" in result.output


def test_for_machines(config: Path) -> None:
    told = json.loads(explain(config, "www.example", "--client", "10.1.2.3", "--json").output)
    assert (told["name"], told["type"], told["group"], told["action"]) == ("www.example.", "A", "payments", "nxdomain")


@pytest.mark.parametrize("arguments", [["a..b"], ["x", "NOTYPE"], ["x", "A", "--client", "me"]])
def test_bad_arguments(arguments: list[str], config: Path) -> None:
    assert explain(config, *arguments).exit_code == 2


@pytest.mark.parametrize("command", ["explain", "query"])
def test_a_bad_configuration_ends_with_2(command: str, config: Path) -> None:
    config.write_text("[listn]")
    result = CliRunner().invoke(main, [command, "--config", str(config), "x"])
    assert result.exit_code == 2
    assert f"{config}:1: listn: there is no such key" in result.stderr


def test_run_with_a_bad_configuration_ends_with_2(config: Path) -> None:
    config.write_text("[listn]")
    result = CliRunner().invoke(main, ["run", "--config", str(config)])
    assert result.exit_code == 2
    assert "did you mean listen?" in result.stderr


WORKLOADS = """
[[policy.group]]
name = "pay"
spiffe = ["spiffe://prod.example/ns/pay/*"]
identities = ["dns:*.pay.example"]
"""


@pytest.mark.parametrize(
    ("who", "line"),
    [
        ("spiffe://prod.example/ns/pay/web", "pay (spiffe://prod.example/ns/pay/* is in its spiffe, attested)"),
        ("dns:Web.pay.example", "pay (dns:*.pay.example is in its identities, attested)"),
        ("subject:CN=web", "default (no group has this identity, attested)"),
        ("10.1.2.3", "payments (10.1.0.0/16 is in its clients, inferred)"),
    ],
)
def test_as_whom_the_certificate_says(config: Path, who: str, line: str) -> None:
    config.write_text(CONFIG + WORKLOADS)
    result = explain(config, "www.example", "--as", who)
    assert result.exit_code == 0
    assert f"group     {line}\n" in result.output


def test_as_an_identity_at_an_address(config: Path) -> None:
    config.write_text(CONFIG + WORKLOADS)
    told = json.loads(explain(config, "x", "--as", "dns:shop.example", "--client", "10.1.2.3", "--json").stdout)
    assert (told["group"], told["network"], told["identity"], told["pattern"], told["assurance"]) == (
        *("payments", "10.1.0.0/16", "dns:shop.example", ""),
        "attested",
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--as", "spiffe://prod.example"], "no workload"),
        (["--as", "web"], "no identity"),
        (["--as", "spiffe://prod.example/ns/*"], "no part of a path"),
        (["--as", "10.1.2.3", "--client", "10.1.2.3"], "so has --client"),
    ],
)
def test_as_nobody(config: Path, arguments: list[str], words: str) -> None:
    result = explain(config, "x", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
