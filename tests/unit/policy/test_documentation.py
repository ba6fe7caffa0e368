"""The example of docs/policy.md decides as the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dohproxy.config import load
from dohproxy.model import Action, Question
from dohproxy.policy.compiled import load_lists
from dohproxy.policy.engine import Engine
from dohproxy.policy.explain import explain
from dohproxy.policy.lists import Unreadable, parse_list
from dohproxy.wire import names
from dohproxy.wire.text import type_from_text

PAGE = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()


def block(mark: str) -> str:
    found = re.search(rf"<!-- {re.escape(mark)} -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


DECISIONS = re.findall(r"^\| ([\d.]+) \| `(\S+) (\S+)` \| (\w+) \|", PAGE, re.MULTILINE)


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "ads.txt").write_text(block("ads.txt"))
    policy = load.parse(block("example"), "dohproxy.toml", tmp_path).policy
    return Engine(policy, load_lists(policy, None))


def test_the_page_has_decisions() -> None:
    assert len(DECISIONS) > 10


@pytest.mark.parametrize(("client", "name", "rdtype", "decision"), DECISIONS)
def test_the_example_decides_as_told(engine: Engine, client: str, name: str, rdtype: str, decision: str) -> None:
    found = explain(engine, Question(names.from_text(name), type_from_text(rdtype)), client)
    assert found.action is Action(decision), "\n".join(found.lines())


def test_the_list_of_the_example_can_be_read_whole() -> None:
    assert not any(isinstance(rule, Unreadable) for rule in parse_list(block("ads.txt").encode().splitlines()))
