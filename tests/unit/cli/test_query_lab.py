"""`dohproxy query` over the real stages and the lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from dohproxy.cli.options import read_question
from dohproxy.cli.query import _ask
from dohproxy.cli.render import lines_of, record_of
from dohproxy.config.load import parse
from dohproxy.lab.lab import open_lab


async def test_the_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    async with open_lab(tmp_path) as lab:
        settings = parse(lab.config_toml(5300), "lab.toml", tmp_path)
        secure = await _ask(settings, read_question("www.rsa.lab", "A"), ("127.0.0.1", ""), False)
        bogus = await _ask(settings, read_question("expired.bogus.lab", "A"), ("127.0.0.1", ""), False)
        unchecked = await _ask(settings, read_question("expired.bogus.lab", "A"), ("127.0.0.1", ""), True)
    assert lines_of(secure)[0] == "www.rsa.lab. A: NOERROR, secure"
    told = record_of(secure)
    assert [(link["zone"], link["security"]) for link in told["chain"]] == [
        (".", "secure"),
        ("lab.", "secure"),
        ("rsa.lab.", "secure"),
    ]
    assert (told["upstream"], told["transport"]) == ("lab-tls", "tls")
    assert lines_of(bogus)[0] == "expired.bogus.lab. A: SERVFAIL, bogus"
    assert record_of(bogus)["ede"][0]["code"] == 7
    assert lines_of(unchecked)[0] == "expired.bogus.lab. A: NOERROR, unchecked"
