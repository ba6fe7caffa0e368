"""The lists of a group taken together."""

from __future__ import annotations

from collections.abc import Sequence

from dohproxy.model import Action, Name, Verdict
from dohproxy.policy.compiled import CompiledList
from dohproxy.policy.keys import query_key, specificity

Hit = tuple[CompiledList, bytes]
"""A list, and the key of one of its rules."""


class Listed:
    """What several lists say of a name: the most specific rule wins, an exception among equals, then the list named first.

    A rule of a list whose action is LOG counts only where no other rule does.
    """

    def __init__(self, lists: Sequence[CompiledList]) -> None:
        self._lists = tuple(lists)

    def __bool__(self) -> bool:
        return bool(self._lists)

    def best(self, qname: Name) -> Verdict | None:
        """The verdict of the rule that wins; None if no list has the name. Exceptions alone say nothing."""
        key = query_key(qname)
        for compiled in self._lists:
            if compiled.covering(key):
                winner, rule = self._ranked(key)[0]
                return winner.verdict(rule)
        return None

    def hits(self, qname: Name) -> list[Hit]:
        """All rules and exceptions that cover the name, the one that wins first."""
        return self._ranked(query_key(qname))

    def _ranked(self, key: bytes) -> list[Hit]:
        covering = [(one, rule) for one in self._lists for rule in (*one.covering(key), *one.exempting(key))]
        return sorted(covering, key=_rank, reverse=True)


def _rank(hit: Hit) -> tuple[bool, int, bool]:
    compiled, rule = hit
    action = compiled.action_of(rule)
    return action is not Action.LOG, specificity(rule), action is Action.ALLOW
