"""docs/configuration.md and document.py say the same: every key, its default, and examples that load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import pytest

from dohproxy.config import document
from dohproxy.config.load import parse
from dohproxy.config.written import Table, bare

TEXT = Path(__file__).parents[3].joinpath("docs", "configuration.md").read_text()
ROW = re.compile(r"\| `([a-z0-9_.]+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|")


def documented() -> Iterator[tuple[str, str]]:
    """Each key with its table, such as `dnssec.mode`, and its default as told."""
    for section in TEXT.split("\n## ")[1:]:
        title = re.match(r"`\[+([a-z_.]+)\]+`", section)
        assert title, section[:40]
        for key, default in ROW.findall(section):
            yield f"{title[1]}.{key}", default


def known(kind: type[Table], at: str = "") -> Iterator[tuple[str, Any]]:
    """Each key that may be written, and its default; those of [[zone.upstream]] are documented as [[upstream]]'s."""
    for field in msgspec.structs.fields(kind):
        if field.name == "at":
            continue
        plain, _ = bare(field.type)
        inner = bare(get_args(plain)[0])[0] if get_origin(plain) is tuple else plain
        is_table = isinstance(inner, type) and issubclass(inner, Table)
        if at and not (is_table and at == "policy"):
            yield f"{at}.{field.name}", field.default
        if is_table and at != "zone":
            yield from known(inner, f"{at}.{field.name}" if at else field.name)


def test_every_key_is_documented_and_every_documented_key_exists() -> None:
    told = [key for key, _ in documented()]
    assert sorted(told) == sorted(key for key, _ in known(document.Document))


def test_the_defaults_are_those_documented() -> None:
    told = dict(documented())
    for key, default in known(document.Document):
        if default is msgspec.NODEFAULT:
            assert told[key] == "required"
        elif default is not None:
            value = default.value if hasattr(default, "value") else list(default) if isinstance(default, tuple) else default
            assert told[key] in (f"`{msgspec.json.encode(value).decode()}`", "the host, if it is one"), key
        elif key == "upstream.method":
            assert told[key] == '`"POST"`'
        else:
            assert not told[key].startswith("`"), key


EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_load(example: str, tmp_path: Path) -> None:
    (tmp_path / "ads.txt").write_text("ads.example\n")
    settings = parse(example, "example.toml", tmp_path)
    assert settings.warnings == ()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9
