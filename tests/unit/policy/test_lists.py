from __future__ import annotations

import pytest

from dohproxy.policy.keys import EXCEPTION, key_of, key_text, pattern_of, query_key
from dohproxy.policy.lists import ListRule, Unreadable, parse_list
from dohproxy.policy.rules import Reach
from dohproxy.wire import names


def read(line: bytes) -> list[tuple[str, str]]:
    """The reach and name of each rule of a line; `allow` before them for exceptions."""
    found = []
    for rule in parse_list([line]):
        assert isinstance(rule, ListRule), rule
        name, reach = pattern_of(rule.key)
        found.append(("allow " * rule.key.startswith(EXCEPTION) + reach.value, names.to_text(name)))
    return found


@pytest.mark.parametrize(
    ("line", "rules"),
    [
        (b"ads.example", [("subtree", "ads.example.")]),
        (b"ads.example.\r\n", [("subtree", "ads.example.")]),
        (b"ADS.Example\n", [("subtree", "ads.example.")]),
        (b"\xef\xbb\xbfads.example\n", [("subtree", "ads.example.")]),
        (b".ads.example", [("subtree", "ads.example.")]),
        (b"*.ads.example", [("below", "ads.example.")]),
        (b"a_b-c.example # why", [("subtree", "a_b-c.example.")]),
        (b"  ads.example\t", [("subtree", "ads.example.")]),
        ("bücher.example".encode(), [("subtree", "xn--bcher-kva.example.")]),
        (b"0.0.0.0 ads.example", [("exact", "ads.example.")]),
        (b"127.0.0.1\tads.example  b.example  # c", [("exact", "ads.example."), ("exact", "b.example.")]),
        (b":: ads.example", [("exact", "ads.example.")]),
        (b"127.0.0.1 localhost localhost.localdomain", []),
        (b"fe80::1%lo0 localhost", []),
        (b"0.0.0.0 0.0.0.0", []),
        (b"||ads.example^", [("subtree", "ads.example.")]),
        (b"||ads.example^|", [("subtree", "ads.example.")]),
        (b"||ads.example^$important", [("subtree", "ads.example.")]),
        (b"||*.ads.example^", [("below", "ads.example.")]),
        (b"@@||good.example^", [("allow subtree", "good.example.")]),
        (b"address=/ads.example/0.0.0.0", [("subtree", "ads.example.")]),
        (b"address=/a.example/b.example/", [("subtree", "a.example."), ("subtree", "b.example.")]),
        (b"address=/ads.example/#", [("subtree", "ads.example.")]),
        (b"local=/ads.example/", [("subtree", "ads.example.")]),
        (b"server=/ads.example/", [("subtree", "ads.example.")]),
        (b"server=/good.example/#", [("allow subtree", "good.example.")]),
        (b"", []),
        (b"# a comment", []),
        (b"! a comment", []),
        (b"[Adblock Plus 2.0]", []),
    ],
)
def test_a_line_is_read(line: bytes, rules: list[tuple[str, str]]) -> None:
    assert read(line) == rules


@pytest.mark.parametrize(
    "line",
    [
        b"||ads.example^$third-party",
        b"|https://ads.example/",
        b"example.com##.banner",
        b"/banner[0-9]+/",
        b"server=/corp.example/10.0.0.1",
        b"address=/#/0.0.0.0",
        b"two words",
        b"192.0.2.1",
        b"0.0.0.0 a..b",
        b"ads.*.example",
        b"*",
        b".",
        b"<!DOCTYPE html>",
        b"\xff\xfea\0d\0s\0",
        b"x" * 64 + b".example",
        b"a." * 127 + b"example",
    ],
)
def test_what_cannot_be_read_is_told_with_its_line(line: bytes) -> None:
    found = list(parse_list([b"ads.example\n", line, b"more.example\n"]))
    assert [type(rule) for rule in found] == [ListRule, Unreadable, ListRule]
    assert [rule.line for rule in found] == [1, 2, 3]
    assert isinstance(found[1], Unreadable) and found[1].reason


@pytest.mark.parametrize(
    ("name", "reach", "covered", "others"),
    [
        ("example.com", Reach.SUBTREE, ["example.com", "a.example.com"], ["com", "xexample.com", "example.comx"]),
        ("example.com", Reach.BELOW, ["a.example.com", "b.a.example.com"], ["example.com"]),
        ("example.com", Reach.EXACT, ["example.com"], ["a.example.com"]),
        ("com", Reach.SUBTREE, ["com", "x.com"], ["."]),
        (r"a\.b.com", Reach.SUBTREE, [r"x.a\.b.com"], ["a.b.com", "b.com"]),
        ("x" * 46 + ".com", Reach.EXACT, ["x" * 46 + ".com"], ["com", "x.com"]),
        ("com", Reach.EXACT, ["com"], ["x" * 33 + ".com"]),
    ],
)
def test_keys_that_cover_a_name_are_prefixes_of_its_query_key(
    name: str, reach: Reach, covered: list[str], others: list[str]
) -> None:
    key = key_of(names.from_text(name), reach)
    assert pattern_of(key) == (names.from_text(name), reach)
    assert all(query_key(names.from_text(one)).startswith(key) for one in covered)
    assert not any(query_key(names.from_text(one)).startswith(key) for one in others)


def test_keys_are_told_as_lists_write_them() -> None:
    name = names.from_text("ads.example")
    assert key_text(key_of(name, Reach.SUBTREE)) == "ads.example"
    assert key_text(key_of(name, Reach.BELOW)) == "*.ads.example"
    assert key_text(key_of(name, Reach.SUBTREE, allow=True)) == "@@||ads.example^"
