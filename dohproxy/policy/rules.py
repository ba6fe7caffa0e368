"""Rules that a group's `allow` and `deny` hold: read from text, indexed by name, the most specific first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum

from msgspec import Struct

from dohproxy.errors import BadName
from dohproxy.model import Action, Name, Verdict
from dohproxy.wire import names
from dohproxy.wire.text import type_from_text


class Reach(Enum):
    """Which names a rule is about, seen from the name that it is written with."""

    EXACT = "exact"
    """The name alone."""
    BELOW = "below"
    """Every name below it, but not the name."""
    SUBTREE = "subtree"
    """The name and every name below it."""


class Pattern(Struct, frozen=True, gc=False):
    """The questions that a rule is about; no types are all types."""

    name: Name
    reach: Reach
    types: frozenset[int] = frozenset()

    def covers(self, qname: Name, qtype: int) -> bool:
        """Whether a question of this name and type is among them."""
        if self.types and qtype not in self.types:
            return False
        if qname == self.name:
            return self.reach is not Reach.BELOW
        return self.reach is not Reach.EXACT and names.is_below(qname, self.name)

    @property
    def specificity(self) -> tuple[int, bool, bool]:
        """Sorts patterns: more labels are more specific, then one name alone, then certain types."""
        return names.label_count(self.name), self.reach is Reach.EXACT, bool(self.types)


def parse_pattern(text: str) -> Pattern:
    """The pattern of a rule as a person writes it: `*.example.com`, `example.com TXT,A`. Raises BadName."""
    words = text.replace(",", " ").split()
    if not words:
        raise BadName("an empty rule")
    name, reach = parse_reach(words[0])
    return Pattern(name, reach, frozenset(map(_type, words[1:])))


def parse_reach(text: str) -> tuple[Name, Reach]:
    """The name and the reach of `example.com` (alone), `*.example.com` (below), `.example.com` (both) or `*` (all names)."""
    if text in ("*", "*."):
        return names.ROOT, Reach.SUBTREE
    if text.startswith("*."):
        return names.from_text(text[2:]), Reach.BELOW
    if text.startswith(".") and text != ".":
        return names.from_text(text[1:]), Reach.SUBTREE
    return names.from_text(text), Reach.EXACT


def _type(text: str) -> int:
    try:
        return type_from_text(text)
    except ValueError:
        raise BadName(f"{text!r} is no record type") from None


class PolicyEntry(Struct, frozen=True, gc=False):
    """A rule ready to be found: its pattern, and the verdict that it gives."""

    pattern: Pattern
    verdict: Verdict

    @property
    def rank(self) -> tuple[tuple[int, bool, bool], bool]:
        """Sorts rules: the most specific wins, and where two are alike an allow beats a deny."""
        return self.pattern.specificity, self.verdict.action is Action.ALLOW


class RuleIndex:
    """Rules found by name in as many look-ups as the name has labels."""

    def __init__(self, entries: Iterable[PolicyEntry]) -> None:
        self._at: dict[Name, tuple[PolicyEntry, ...]] = {}
        """The rules that cover the very name."""
        self._below: dict[Name, tuple[PolicyEntry, ...]] = {}
        """The rules that cover what is below the name."""
        for entry in sorted(entries, key=lambda entry: entry.rank, reverse=True):
            name, reach = entry.pattern.name, entry.pattern.reach
            if reach is not Reach.BELOW:
                self._at[name] = (*self._at.get(name, ()), entry)
            if reach is not Reach.EXACT:
                self._below[name] = (*self._below.get(name, ()), entry)

    def __bool__(self) -> bool:
        return bool(self._at or self._below)

    def best(self, qname: Name, qtype: int) -> Verdict | None:
        """The verdict of the most specific rule that covers the question; None if none does."""
        for entry in self._covering(qname):
            types = entry.pattern.types
            if not types or qtype in types:
                return entry.verdict
        return None

    def matches(self, qname: Name, qtype: int) -> list[Verdict]:
        """The verdicts of all rules that cover the question, the one that wins first."""
        covering = self._covering(qname)
        return [entry.verdict for entry in covering if not entry.pattern.types or qtype in entry.pattern.types]

    def _covering(self, qname: Name) -> Iterator[PolicyEntry]:
        yield from self._at.get(qname, ())
        below = self._below
        if not below or qname == names.ROOT:
            return
        for ancestor in names.suffixes(names.parent(qname)):
            if found := below.get(ancestor):
                yield from found
