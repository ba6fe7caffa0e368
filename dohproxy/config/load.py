"""Reads a configuration file, or the one that is built in."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from dohproxy.config import lines
from dohproxy.config.assemble import assemble
from dohproxy.config.document import Document
from dohproxy.config.doubts import warn
from dohproxy.config.report import Report
from dohproxy.config.settings import Settings
from dohproxy.config.written import read
from dohproxy.errors import ConfigError, Problem

BUILT_IN = Path(__file__).with_name("default.toml")


def load(path: Path) -> Settings:
    """The settings of that file, with its warnings; raises ConfigError with everything that is wrong."""
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ConfigError((Problem(str(path), 0, "", f"cannot be read: {error.strerror}"),)) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError((Problem(str(path), line, "", "this is no UTF-8"),)) from None
    return parse(text, str(path), path.parent)


def default() -> Settings:
    """What holds without a file: loopback, public resolvers by DoT and DoH, validation."""
    return msgspec.structs.replace(load(BUILT_IN), file="")


def parse(text: str, file: str, base: Path) -> Settings:
    """The settings of that text; `file` is told in errors, and relative paths start at `base`."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((_syntax_problem(str(error), text, file),)) from None
    report = Report(file, lines.locate(text.replace("\r\n", "\n")))
    written = read(Document, raw, report)
    assert written is not None, "every key of the document has a default"
    settings = assemble(written, base, report)
    report.raise_problems()
    warn(written, settings, report)
    return msgspec.structs.replace(settings, warnings=tuple(report.warnings))


def _syntax_problem(message: str, text: str, file: str) -> Problem:
    """tomllib ends its message with `(at line 3, column 5)` or `(at end of document)`."""
    what, _, where = message.rpartition(" (at ")
    numbers = [int(word.rstrip(",)")) for word in where.split() if word.rstrip(",)").isdigit()]
    line = numbers[0] if numbers else text.count("\n") + 1
    return Problem(file, line, "", f"this is no TOML: {what or message}")
