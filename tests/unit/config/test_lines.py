from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dohproxy.config.lines import Path, locate

DOCUMENT = '''\
# a comment with [brackets] and = signs
title = "x # no comment" # one
a.b."c.d" = 1
a.'e' = 1979-05-27 07:32:00Z

[listen]
udp = [
  "127.0.0.1:53",   # first ]
  # between
  "[::1]:53",
]
tcp = [["nested", 1], [2]]

[[zone]]
name = "one"
[[zone.upstream]]
url = "udp://10.0.0.1"
[[zone.upstream]]
url = "udp://10.0.0.2"
[zone.extra]
key = true

[[zone]] # again
name = """
[[zone]]
name = "not me" \\""" still"""""
upstream = [{ url = "x", addresses = ["a", "b"] }, { url = 'y' },
  { url.deep = 3 }]

[ spaced . "quoted.key" ]
literal = \'\'\'
\'quoted\'\'\'\'
last = 0x1F
'''


def paths(value: Any, at: Path = ()) -> list[Path]:
    if isinstance(value, dict):
        inner = [path for key, one in value.items() for path in paths(one, (*at, key))]
    elif isinstance(value, list):
        inner = [path for number, one in enumerate(value) for path in paths(one, (*at, number))]
    else:
        inner = []
    return [at, *inner] if at else inner


def test_every_key_and_value_has_its_line() -> None:
    lines = locate(DOCUMENT)
    assert set(paths(tomllib.loads(DOCUMENT))) <= set(lines)


def test_lines_are_where_things_stand() -> None:
    lines, text = locate(DOCUMENT), DOCUMENT.splitlines()

    def line(*path: str | int) -> str:
        return text[lines[path] - 1]

    assert line("title").startswith("title")
    assert line("a", "b", "c.d") == 'a.b."c.d" = 1'
    assert line("a", "e").startswith("a.'e'")
    assert line("listen") == "[listen]"
    assert line("listen", "udp", 0).strip().startswith('"127')
    assert line("listen", "udp", 1).strip() == '"[::1]:53",'
    assert line("listen", "tcp", 1, 0).startswith("tcp")
    assert line("zone", 0, "upstream", 1, "url") == 'url = "udp://10.0.0.2"'
    assert line("zone", 0, "extra", "key") == "key = true"
    assert line("zone", 1).startswith("[[zone]] # again")
    assert line("zone", 1, "upstream", 1, "url").startswith("upstream")
    assert line("zone", 1, "upstream", 2, "url", "deep") == "  { url.deep = 3 }]"
    assert line("spaced", "quoted.key", "last") == "last = 0x1F"


def test_an_empty_document_has_no_lines() -> None:
    assert locate("") == {}
    assert locate("# nothing\n\n") == {}


KEYS = st.sampled_from(["a", "b-1", '"q.k"', "'l'"])
TEXTS = st.sampled_from(
    ['"a]b"', "'c,d'", '"""x\n]"""', "'''y\n'z'''", '"\\""', "1", "true", "1979-05-27T07:32:00-01:00", "[]", "{}"]
)
ARRAYS = st.lists(TEXTS, max_size=3).map(lambda all_: "[\n" + ", # c\n".join(all_) + "\n]")
INLINE = st.dictionaries(KEYS, TEXTS, max_size=2).map(lambda d: "{ " + ", ".join(f"{k} = {v}" for k, v in d.items()) + " }")
TABLES = st.dictionaries(KEYS, TEXTS | ARRAYS | INLINE, max_size=4)


@given(st.lists(TABLES, max_size=3))
def test_any_document_is_walked_to_its_end(tables: list[dict[str, str]]) -> None:
    text = "".join("[[t]]\n" + "".join(f"{key} = {value}\n" for key, value in table.items()) for table in tables)
    lines = locate(text)
    assert set(paths(tomllib.loads(text))) <= set(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    if tables:
        headers = [number for number, line in enumerate(text.split("\n"), 1) if line == "[[t]]"]
        assert [lines["t", number] for number in range(len(tables))] == headers
