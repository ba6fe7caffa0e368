"""Whatever is written, the outcome is settings or problems: nothing else is raised, and every problem has a line."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from dohproxy.config.document import Document
from dohproxy.config.load import parse
from dohproxy.config.written import Table, bare
from dohproxy.errors import ConfigError

WORDS_AS_KEYS = st.sampled_from(["name", "url", "until", "nonsense"])
WORDS = st.sampled_from(
    [
        *(
            "",
            "a",
            ".",
            "*",
            "*.",
            "..",
            "a..b",
            "127.0.0.1:53",
            "[::1]:x",
            "10.0.0.0/8",
            "10.0.0.1/8",
            "tls://192.0.2.1",
            "tls://",
        ),
        *(
            "udp://[::1",
            "https://a/b?c",
            "validate",
            "deny",
            "sinkhole",
            "x. DS 1 13 2 AA",
            "x. 9999999999 A 1.2.3.4",
            "x. A",
            "~",
            "~nobody-here/x",
            "/",
        ),
        *("\\", "é", "a b c", "1 KiB", "x" * 300, "default", "off", "x. TYPE65280 \\\\# 1", "\\u0000", "x. OPT 1"),
    ]
)
SCALARS = st.integers(-1, 1 << 40) | st.booleans() | st.floats(allow_nan=True) | st.just(datetime(2026, 1, 1, tzinfo=UTC))
ANYTHING: st.SearchStrategy[Any] = (
    WORDS | SCALARS | st.lists(WORDS, max_size=2) | st.dictionaries(WORDS_AS_KEYS, WORDS, max_size=2)
)


def written(kind: Any) -> st.SearchStrategy[Any]:
    """What has the shape of that type, with values that are now and then right."""
    plain, _ = bare(kind)
    if get_origin(plain) is tuple:
        return st.lists(written(get_args(plain)[0]) | ANYTHING, max_size=3)
    if isinstance(plain, type) and issubclass(plain, Table):
        known = {field.name: written(field.type) for field in msgspec.structs.fields(plain) if field.name != "at"}
        return st.fixed_dictionaries({}, optional=known | {"nonsense": ANYTHING})
    return ANYTHING


def toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"' if "\\" not in value else f'"{value}"' if value.startswith(("\\u", "x.")) else f"'{value}'"
        case datetime():
            return value.isoformat()
        case list():
            return "[" + ",\n".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key} = {toml(one)}" for key, one in value.items()) + "}"
    return str(value)


@given(written(Document))
@example({"upstream": "tls://192.0.2.1"})
@example({"cache": {"size": float("inf"), "stale_after": float("nan")}})
@example({"listen": {"udp": ["127.0.0.1:53", 3, "127.0.0.1:53"]}})
def test_any_document(document: dict[str, Any]) -> None:
    text = "\n".join(f"{key} = {toml(value)}" for key, value in document.items())
    try:
        parse(text, "any.toml", Path("/nowhere"))
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.message
            assert problem.line or problem.key in ("upstream", "listen"), problem
