from __future__ import annotations

import pytest

from dohproxy.errors import BadName
from dohproxy.policy.rules import Pattern, Reach, parse_pattern
from dohproxy.wire import names
from dohproxy.wire.constants import AAAA, TXT, A


@pytest.mark.parametrize(
    ("text", "name", "reach", "types"),
    [
        ("example.com", "example.com", Reach.EXACT, set()),
        ("Example.COM.", "example.com", Reach.EXACT, set()),
        ("*.example.com", "example.com", Reach.BELOW, set()),
        (".example.com", "example.com", Reach.SUBTREE, set()),
        ("*", ".", Reach.SUBTREE, set()),
        ("example.com TXT", "example.com", Reach.EXACT, {TXT}),
        ("*.example.com txt, AAAA", "example.com", Reach.BELOW, {TXT, AAAA}),
        ("example.com TYPE65280", "example.com", Reach.EXACT, {65280}),
        ("bücher.example", "xn--bcher-kva.example", Reach.EXACT, set()),
    ],
)
def test_a_pattern_is_read(text: str, name: str, reach: Reach, types: set[int]) -> None:
    assert parse_pattern(text) == Pattern(names.from_text(name), reach, frozenset(types))


@pytest.mark.parametrize("text", ["", "  ", "a..b", "example.com NOTYPE", "x" * 64 + ".com", "*.a..b"])
def test_a_bad_pattern_is_refused(text: str) -> None:
    with pytest.raises(BadName):
        parse_pattern(text)


@pytest.mark.parametrize(
    ("text", "covered", "others"),
    [
        ("example.com", ["example.com"], ["www.example.com", "com", "xexample.com"]),
        ("*.example.com", ["www.example.com", "a.b.example.com"], ["example.com", "wexample.com"]),
        (".example.com", ["www.example.com", "example.com"], ["wexample.com"]),
        ("*", ["com", "."], []),
    ],
)
def test_a_pattern_covers_names(text: str, covered: list[str], others: list[str]) -> None:
    pattern = parse_pattern(text)
    assert all(pattern.covers(names.from_text(name), A) for name in covered)
    assert not any(pattern.covers(names.from_text(name), A) for name in others)
