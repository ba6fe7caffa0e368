from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dohproxy import __version__
from dohproxy.cli.main import COMMANDS, main
from dohproxy.core import KIND

HEAVY = {"trio", "h2", "dns", "cryptography", "rich", "msgspec", "ssl", "marisa_trie", "idna"}


def test_help_tells_every_subcommand() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(f"  {name} " in result.output and text in result.output for name, text in COMMANDS.items())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_has_help(name: str) -> None:
    result = CliRunner().invoke(main, [name, "-h"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name}")


def test_version() -> None:
    assert CliRunner().invoke(main, ["version"]).output == f"dohproxy {__version__} (core: {KIND})\n"


def test_a_core_that_cannot_be_had_is_told() -> None:
    environ = os.environ | {"DOHPROXY_CORE": "fast"}
    version = [sys.executable, "-m", "dohproxy", "version"]
    done = subprocess.run(version, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: DOHPROXY_CORE=fast: neither compiled, pure nor off\n")


def test_a_core_that_is_not_compiled_is_told_where_it_is_demanded() -> None:
    program = (
        'import sys; sys.modules["dohproxy.cache._compiled"] = None; from dohproxy.cli.main import main; main(["version"])'
    )
    environ = os.environ | {"DOHPROXY_CORE": "compiled"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: DOHPROXY_CORE=compiled: ")
    assert "dohproxy.cache._compiled" in done.stderr


@pytest.mark.parametrize("arguments", [["rnu"], ["check"], ["run", "--colour"], ["query"]])
def test_bad_usage_ends_with_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["query", "--help"], ["run", "--help"]])
def test_what_needs_nothing_imports_nothing_heavy(arguments: list[str]) -> None:
    program = f"""
import sys
from dohproxy.cli.main import main
try:
    main({arguments!r})
except SystemExit:
    pass
print(*sys.modules, sep="\\n")
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(told.split("\n")) - ({"msgspec"} if arguments == ["version"] else set())  # its core has values
