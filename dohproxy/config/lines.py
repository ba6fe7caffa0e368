"""Finds the line on which each key and value of a TOML document stands, which tomllib does not tell.

It walks a text that tomllib has accepted already, and so may take every construct for well-formed.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]
"""The way to a key or value from the top: names of keys, and places in arrays from 0."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?!")|' r"'''.*?'''(?!')|" r'"(?:\\.|[^"\\])*"|' r"'[^']*'",
    re.DOTALL,
)
_OTHER_VALUE = re.compile(r"[^,\]}#\n]+")


def locate(text: str) -> dict[Path, int]:
    """The line, from 1, of every table, key and value of a valid TOML document."""
    return _Walk(text).document()


class _Walk:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.starts = [match.end() for match in re.finditer("\n", text)]
        self.lines: dict[Path, int] = {}
        self.last_entry: dict[Path, int] = {}
        """Of each array of tables: the place of its newest entry."""

    def document(self) -> dict[Path, int]:
        table: Path = ()
        while self.skip(_BLANK) < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.lines

    def header(self) -> Path:
        line, is_array = self.line(), self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        *outer, name = self.key()
        self.at += 2 if is_array else 1
        path: Path = ()
        for part in outer:
            self.lines.setdefault((*path, part), line)
            path = self.newest((*path, part))
        path = (*path, name)
        if is_array:
            self.last_entry[path] = self.last_entry.get(path, -1) + 1
        self.lines.setdefault(path, line)
        path = self.newest(path)
        self.lines.setdefault(path, line)
        return path

    def newest(self, path: Path) -> Path:
        return (*path, self.last_entry[path]) if path in self.last_entry else path

    def pair(self, table: Path) -> None:
        line, path = self.line(), table
        for part in self.key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self.at += 1
        self.skip(_SPACE)
        self.value(path)

    def key(self) -> list[str]:
        parts: list[str] = []
        while True:
            self.skip(_SPACE)
            parts.append(self.key_part())
            self.skip(_SPACE)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def key_part(self) -> str:
        if self.text[self.at] not in "\"'":
            return self.take(_BARE_KEY)
        return str(tomllib.loads("key = " + self.take(_STRING))["key"])

    def value(self, path: Path) -> None:
        self.lines.setdefault(path, self.line())
        match self.text[self.at]:
            case "[":
                self.array(path)
            case "{":
                self.inline_table(path)
            case '"' | "'":
                self.take(_STRING)
            case _:
                self.take(_OTHER_VALUE)

    def array(self, path: Path) -> None:
        self.at += 1
        entry = 0
        while self.text[self.skip(_BLANK)] != "]":
            self.value((*path, entry))
            self.comma()
            entry += 1
        self.at += 1

    def inline_table(self, path: Path) -> None:
        self.at += 1
        while self.text[self.skip(_BLANK)] != "}":
            self.pair(path)
            self.comma()
        self.at += 1

    def comma(self) -> None:
        if self.text[self.skip(_BLANK)] == ",":
            self.at += 1

    def skip(self, blank: re.Pattern[str]) -> int:
        """Go past what may be nothing; tells the place after it."""
        if match := blank.match(self.text, self.at):
            self.at = match.end()
        return self.at

    def take(self, token: re.Pattern[str]) -> str:
        match = token.match(self.text, self.at)
        assert match, f"tomllib accepted what is no TOML at {self.at}"
        self.at = match.end()
        return match.group()

    def line(self) -> int:
        return bisect_right(self.starts, self.at) + 1
