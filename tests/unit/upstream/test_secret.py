from __future__ import annotations

from pathlib import Path

import pytest

from dohproxy.upstream.secret import secret_of_machine


def test_it_is_the_machines_and_the_purposes(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("0123456789abcdef0123456789abcdef\n")
    other.write_text("0123456789abcdef0123456789abcdee\n")
    secret = secret_of_machine(b"spread", one)
    assert secret == secret_of_machine(b"spread", one) and len(secret) == 16
    assert len({secret, secret_of_machine(b"spread", other), secret_of_machine(b"else", one)}) == 3
    assert secret.hex() not in one.read_text()


@pytest.mark.parametrize("text", ["", "uninitialized\n", "0123\n"])
def test_without_an_id_it_is_chance(tmp_path: Path, text: str) -> None:
    file = tmp_path / "machine-id"
    file.write_text(text)
    assert secret_of_machine(b"spread", file) != secret_of_machine(b"spread", file)
    assert secret_of_machine(b"spread", tmp_path / "nothing") != secret_of_machine(b"spread", tmp_path / "nothing")
