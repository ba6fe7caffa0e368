"""What `.ci/run` makes of tests that fail, with a `make` that tests nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / ".ci/run"
PROGRAMS = {
    ".ci/peers": "",
    "bin/unshare": 'shift; exec "$@"',
    "bin/ip": "",
    "bin/make": """
core=${DOHPROXY_CORE:-compiled}
[ "$1" = test ] || { echo "made $1"; exit 0; }
case $core in pure) sleep 0.2 ;; off) sleep 0.4 ;; esac
echo "ended $core"
case $FAILING in *$core*) exit 2 ;; esac
""",
}


@pytest.fixture
def run(tmp_path):
    """Run it where the tests of these cores fail."""
    for name, does in PROGRAMS.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{does}\n")
        file.chmod(0o755)
    shutil.copy(RUN, tmp_path / ".ci/run")
    environment = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}

    def run(failing):
        said = tmp_path / "said"  # a file: a pipe would be read until whoever is left behind ends too
        with said.open("wb") as out:
            env = environment | {"FAILING": failing}
            code = subprocess.run([tmp_path / ".ci/run"], env=env, stdout=out, stderr=out, check=False).returncode
        return code, said.read_text()

    return run


@pytest.mark.parametrize("failing", ["", "compiled", "pure", "off", "pure off"])
def test_a_failure_with_any_core_is_one_of_all_and_every_run_comes_to_its_end(run, failing):
    code, said = run(failing)
    assert (code == 0) is (not failing), said
    assert ("made lint" in said) is (not failing)
    assert all(f"ended {core}" in said for core in ("compiled", "pure", "off")), said
