"""`dohproxy discover` where there is nobody to find; tests/integration/test_discovery.py has a resolver that designates."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dohproxy.cli.main import main


def discover(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["discover", *arguments])


def test_nobody_is_there() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    result = discover("127.0.0.1", "--port", str(port))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "127.0.0.1 cannot be asked: connection refused\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["dns.example"], "is no IP address"),
        (["127.0.0.1", "--port", "0"], "range"),
        (["127.0.0.1", "--ca-file", "/nowhere/ca.pem"], "does not exist"),
        ([], "Missing argument"),
    ],
)
def test_bad_usage(arguments: list[str], why: str) -> None:
    result = discover(*arguments)
    assert result.exit_code == 2
    assert why in result.stderr


def test_a_file_without_authorities(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    result = discover("127.0.0.1", "--ca-file", str(tmp_path / "ca.pem"))
    assert result.exit_code == 2
    assert "no certificates" in result.stderr
