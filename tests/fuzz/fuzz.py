"""Runs one fuzzer for as long as it is let, from and into a folder; or keeps what it found there. See CONTRIBUTING.md.

PYTHONPATH=tests/support python tests/fuzz/fuzz.py TARGET FOLDER [libFuzzer's options]
PYTHONPATH=tests/support python tests/fuzz/fuzz.py TARGET FOLDER keep           with a TARGET of fuzz_targets.py
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dohproxy"]):
    from fuzz_targets import TARGETS
    from fuzzed import FOLDER, corpus, pack

SMALL = 450
"""Octets of a file that is worth its place in the repository."""


def main() -> None:
    target, folder = sys.argv.pop(1), Path(sys.argv[1])
    if sys.argv[2:] == ["keep"]:
        units = sorted(unit for file in folder.iterdir() if len(unit := file.read_bytes()) < SMALL)
        (FOLDER / f"{target}.corpus").write_bytes(pack(units))
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, unit in enumerate(corpus(target)):
        (folder / f"corpus-{number:04}").write_bytes(unit)
    atheris.Setup(sys.argv, TARGETS[target]())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
