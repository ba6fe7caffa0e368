"""Collects what is wrong with a configuration, each with its file, line and key."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from dohproxy.config.lines import Path
from dohproxy.config.settings import Place
from dohproxy.errors import ConfigError, Problem


class Report:
    """The problems and warnings found so far in one file, whose lines it knows."""

    def __init__(self, file: str, lines: dict[Path, int]) -> None:
        self.file, self.lines = file, lines
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def problem(self, at: Path, message: str, *, allowed: str = "", nearest: str = "") -> None:
        """Note what makes the file unusable."""
        self.problems.append(Problem(self.file, self.line(at), key_text(at), message, allowed, nearest))

    def warning(self, at: Path, message: str) -> None:
        """Note what is allowed and yet hardly meant."""
        self.warnings.append(Problem(self.file, self.line(at), key_text(at), message))

    def has_problem(self, at: Path) -> bool:
        """Whether a problem is known there or further in."""
        return any(problem.key.startswith(key_text(at)) for problem in self.problems)

    def line(self, at: Path) -> int:
        """The line of that key or value, or else of the innermost table around it that was written; 0 if none was."""
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 0)

    def place(self, at: Path) -> Place:
        """For what tells later where it was configured."""
        return Place(self.file, self.line(at))

    def raise_problems(self) -> None:
        """Raise ConfigError if there are problems, in the order of the file."""
        if self.problems:
            raise ConfigError(tuple(sorted(self.problems, key=lambda problem: problem.line)))


def key_text(at: Path) -> str:
    """The path as a person writes it: `policy.group[0].clients`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in at).removeprefix(".")


def nearest(word: str, words: Iterable[str]) -> str:
    """The one of `words` that `word` was probably meant to be; "" if none is like it."""
    lower = {word.lower(): word for word in words}
    return next((lower[match] for match in get_close_matches(word.lower(), lower, 1, 0.6)), "")
