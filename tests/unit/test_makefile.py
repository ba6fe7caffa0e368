"""What `make` builds anew, with an installer that does nothing."""

from __future__ import annotations

import ast
import re
import shutil
from pathlib import Path

from programs import execute, need

ROOT = Path(__file__).parents[2]
CORE, *OTHERS = (f"dohproxy/{room}/_compiled.pyx" for room in ("core", "wire", "cache", "dnssec"))
PIP = """#!/bin/sh
echo pip >> pip.log
if [ -e meanwhile ]; then
    rm meanwhile
    until [ dohproxy/core/_compiled.pyx -nt .venv/installed.begun ]; do touch dohproxy/core/_compiled.pyx; done
fi
"""


def installed(directory: Path) -> int:
    """How often the installer has run, once make is content."""
    execute("make", ".venv/installed", cwd=directory)
    return len((directory / "pip.log").read_text().splitlines())


def test_a_core_that_changes_while_it_is_installed_is_built_again(tmp_path: Path) -> None:
    need("make")
    for name in ("Makefile", "pyproject.toml", "hatch_build.py", CORE, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    pip = tmp_path / ".venv/bin/pip"
    pip.parent.mkdir(parents=True)
    pip.write_text(PIP)
    pip.chmod(0o755)
    (tmp_path / ".venv/made").touch()
    (tmp_path / "meanwhile").touch()
    assert [installed(tmp_path) for _ in range(3)] == [1, 2, 2]
    for times, name in enumerate((CORE, *OTHERS), 3):
        while (tmp_path / name).stat().st_mtime_ns <= (tmp_path / ".venv/installed").stat().st_mtime_ns:
            (tmp_path / name).touch()  # the clock of files ticks slowly
        assert [installed(tmp_path) for _ in range(2)] == [times, times], name


def test_all_that_is_compiled_is_known_to_make_and_to_the_build() -> None:
    rooms = re.search(r"(?m)^SOURCES = .*for room in (\(.*?\))", (ROOT / "hatch_build.py").read_text())
    assert rooms
    built = {f"dohproxy/{room}/_compiled.pyx" for room in ast.literal_eval(rooms[1])}
    assert built == {str(path.relative_to(ROOT)) for path in ROOT.glob("dohproxy/*/_compiled.pyx")} == {CORE, *OTHERS}
