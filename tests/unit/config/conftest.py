from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dohproxy.config.load import load
from dohproxy.config.settings import Settings
from dohproxy.errors import ConfigError, Problem

UPSTREAM = '[[upstream]]\nurl = "tls://192.0.2.1"\n'


@pytest.fixture
def loaded(tmp_path: Path) -> Callable[[str], Settings]:
    """Loads a text as a file, with an upstream of no interest put behind it where it has none."""

    def load_text(text: str) -> Settings:
        path = tmp_path / "dohproxy.toml"
        path.write_text(text if "upstream" in text else text + "\n" + UPSTREAM)
        return load(path)

    return load_text


@pytest.fixture
def problems(loaded: Callable[[str], Settings]) -> Callable[[str], list[Problem]]:
    """The problems of a text."""

    def problems_of(text: str) -> list[Problem]:
        try:
            loaded(text)
        except ConfigError as error:
            return list(error.problems)
        return []

    return problems_of
