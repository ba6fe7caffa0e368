"""How the names of lists are written in an index: labels from the right, so that what covers a name is a prefix of it.

The labels keep their length octets and are joined by dots. A key that ends there covers the name and all below; one more
dot covers what is below alone, an exclamation mark the name alone. All keys that cover `www.example.com` are then prefixes
of its query key `3com.7example.3www!` (`3` for the octet 3), and none else is: the length octets see to it.
"""

from __future__ import annotations

from dohproxy.model import Name
from dohproxy.policy.rules import Reach
from dohproxy.wire import names

EXCEPTION = b"@"
"""Begins the keys of what a list allows: no label is 64 octets long."""
_ENDS = {Reach.EXACT: b"!", Reach.BELOW: b".", Reach.SUBTREE: b""}
_REACHES = {end: reach for reach, end in _ENDS.items()}


def query_key(name: Name) -> bytes:
    """The key that all keys which cover this name are prefixes of."""
    parts, at = [], 0
    while length := name[at]:
        end = at + length + 1
        parts.append(name[at:end])
        at = end
    parts.reverse()
    return b".".join(parts) + b"!"


def key_of(name: Name, reach: Reach, *, allow: bool = False) -> bytes:
    """The key of a rule of a list."""
    return EXCEPTION * allow + query_key(name)[:-1] + _ENDS[reach]


def specificity(key: bytes) -> int:
    """Sorts keys that cover the same name: the greater is the more specific."""
    only_below = key.endswith(b".") and pattern_of(key)[1] is Reach.BELOW  # a label may end in a dot too
    return len(key) - only_below - key.startswith(EXCEPTION)


def pattern_of(key: bytes) -> tuple[Name, Reach]:
    """The name and the reach that a key was made of."""
    parts, at = [], len(EXCEPTION) if key.startswith(EXCEPTION) else 0
    while True:
        end = at + key[at] + 1
        parts.append(key[at:end])
        if key[end:] in _REACHES:
            return b"".join(reversed(parts)) + names.ROOT, _REACHES[key[end:]]
        at = end + 1


def key_text(key: bytes) -> str:
    """The rule as a person reads it, the way that lists write it."""
    name, reach = pattern_of(key)
    text = names.to_text(name).removesuffix(".")
    if key.startswith(EXCEPTION):
        return f"@@||{text}^"
    return f"*.{text}" if reach is Reach.BELOW else text
