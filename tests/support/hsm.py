"""A token of SoftHSM2, with keys that were made in it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "2468"
_DIRECTORY = tempfile.TemporaryDirectory()
TOKEN, OTHER = "dohproxy", "empty"


@cache
def the_token() -> Token:
    """One for all tests of a process, which loads the module once, with what SOFTHSM2_CONF says then."""
    return Token(Path(_DIRECTORY.name))


class Token:
    """Initialised in a directory, with another that is empty beside it."""

    def __init__(self, directory: Path) -> None:
        if not MODULE.exists():
            pytest.skip("softhsm2 is not installed")
        (directory / "tokens").mkdir()
        conf = directory / "softhsm2.conf"
        conf.write_text(f"directories.tokendir = {directory}/tokens\nobjectstore.backend = file\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(conf)
        for label in (TOKEN, OTHER):
            command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "1357"]
            subprocess.run(command, check=True, capture_output=True)
        self.pin_file = directory / "pin"
        self.pin_file.write_text(f"{PIN}\n")

    def uri(self, label: str, **instead: str) -> str:
        said = {"token": TOKEN, "pin_source": f"file:{self.pin_file}"} | instead
        return f"pkcs11:token={said['token']};object={label}?module-path={MODULE}&pin-source={said['pin_source']}"

    def import_key(self, label: str, pkcs8: bytes, directory: Path) -> None:
        """A key from outside: then a certificate for it is made as any other."""
        file = directory / f"{label}.p8"
        file.write_bytes(pkcs8)
        command = ["softhsm2-util", "--import", file, "--token", TOKEN, "--label", label, "--id", label.encode().hex()]
        subprocess.run([*command, "--pin", PIN], check=True, capture_output=True)
        file.unlink()
