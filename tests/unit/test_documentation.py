"""What the documents say is so: their configuration is good, their links lead somewhere, their tables are complete."""

import re
import tomllib
from pathlib import Path

import pytest

from dohproxy.config.load import parse
from dohproxy.lab.certificates import Authority
from dohproxy.telemetry.counters import Counters

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_configurations_of_the_readme_are_good(tmp_path):
    texts = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "ads.txt").write_text("ads.example\n")
    for stem in ("server", "clients", "proxy"):
        Authority().server("dns.example").write(tmp_path, stem)
    assert [parse(text, "README.md", tmp_path).warnings for text in texts] == [(), ()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        assert "://" in target or (document.parent / target).exists(), target


def test_every_counter_is_explained():
    text = (ROOT / "docs/operations.md").read_text()
    assert [name for name in Counters().snapshot() if f"`{name}" not in text] == []


def test_every_room_and_every_layer_is_on_the_map():
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = [path.parent.name + "/" for path in ROOT.glob("dohproxy/*/__init__.py")]
    modules = [path.name for path in ROOT.glob("dohproxy/*.py") if not path.name.startswith("__")]
    assert [part for part in rooms + modules if f"`{part}`" not in text] == []


def test_every_file_on_the_map_is_there():
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \| (.*)\|$", text, re.MULTILINE)
    named = [f"dohproxy/{room}/{module}.py" for room, told in rows for module in re.findall(r"`(\w+)`", told)]
    assert len(named) > 80 and [path for path in named if not (ROOT / path).exists()] == []


def test_the_floors_are_those_that_are_checked():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert " > ".join(contracts[0]["layers"]) in (ROOT / "docs/architecture.md").read_text()
