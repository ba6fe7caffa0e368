"""Counters as plain values: added up over processes, and told in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

Snapshot = Mapping[str, int | Mapping[str, int]]
"""Numbers by name; where a name has several, by their own names."""


def summed(snapshots: Iterable[Snapshot]) -> dict[str, int | dict[str, int]]:
    """Their sum. A name that only some of them have counts too."""
    total: dict[str, int | dict[str, int]] = {}
    for snapshot in snapshots:
        for name, value in snapshot.items():
            before = total.get(name)
            if isinstance(value, Mapping):
                total[name] = dict(Counter(before if isinstance(before, dict) else {}) + Counter(value))
            else:
                total[name] = value + (before if isinstance(before, int) else 0)
    return total


def told(snapshot: Snapshot) -> str:
    """Those that are not zero, in one line of `name=number`."""
    parts = []
    for name, value in snapshot.items():
        if isinstance(value, Mapping):
            parts += [f"{name}[{key}]={count}" for key, count in sorted(value.items())]
        elif value:
            parts.append(f"{name}={value}")
    return " ".join(parts) or "nothing yet"
