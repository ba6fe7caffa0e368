"""Compiles the core into the wheel, or beside its source for an editable install; goes on without it where that cannot be."""

from __future__ import annotations

import os
import shlex
import subprocess
import sysconfig
import tempfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = tuple(Path("dohproxy", room, "_compiled.pyx") for room in ("core", "wire", "cache", "dnssec"))
FLAGS = "-O2 -fPIC -shared -fwrapv -fno-strict-aliasing -Wall -Wno-unused-function -D_FORTIFY_SOURCE=2 -fstack-protector-strong"


class Core(BuildHookInterface[Any]):
    """The hook, which hatchling calls before it packs a wheel. DOHPROXY_BUILD=pure leaves the core out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 -- hatchling's
        """Compile, and have the wheel say for which Python and machine it is."""
        made = {
            source: source.with_name(source.stem + EXTENSION_SUFFIXES[0]) for source in map(Path(self.root).joinpath, SOURCES)
        }
        for module in made.values():
            module.unlink(missing_ok=True)
        if os.environ.get("DOHPROXY_BUILD") == "pure":
            return
        try:
            for source, module in made.items():
                compile_core(source, module)
        except (ImportError, OSError, CompileError, subprocess.CalledProcessError) as error:
            self.app.display_warning(f"the core is not compiled, and queries take longer for it: {error}")
            return
        build_data |= {"pure_python": False, "infer_tag": True}
        build_data["artifacts"] += [f"/{module.relative_to(self.root)}" for module in made.values()]


class CompileError(Exception):
    """Cython does not take the source."""


def compile_core(source: Path, made: Path, flags: str = FLAGS) -> None:
    """Make the extension module; raises ImportError, OSError or CalledProcessError where Cython or a compiler is missing."""
    from Cython.Compiler.Main import compile as to_c  # noqa: PLC0415 -- where it is missing the build goes on

    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory(dir=made.parent) as directory:
        generated, built = Path(directory, "core.c"), Path(directory, "core.so")
        if to_c(str(source), output_file=str(generated)).num_errors:  # type: ignore[no-untyped-call]
            raise CompileError(source)
        include = f"-I{sysconfig.get_path('include')}"
        subprocess.run([*compiler, *shlex.split(flags), include, str(generated), "-o", str(built)], check=True)
        built.replace(made)  # whoever runs the old one keeps it
