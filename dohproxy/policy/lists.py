"""Lines of block lists, read as what they are used as: plain names, hosts files, adblock filters, dnsmasq configuration.

A line is read for what it looks like, so that one file may mix them:

| line | covers |
|---|---|
| `name`, `.name` | the name and all below |
| `*.name` | all below |
| `0.0.0.0 name name …` (any address) | those names alone |
| `||name^`, `||name^$important` | the name and all below |
| `@@||name^` | allows the name and all below |
| `address=/name/…`, `local=/name/`, `server=/name/` | the name and all below |
| `server=/name/#` | allows the name and all below |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from msgspec import Struct

from dohproxy.errors import BadName
from dohproxy.policy.keys import key_of
from dohproxy.policy.rules import Reach
from dohproxy.wire import names


class ListRule(Struct, frozen=True, gc=False):
    """One name of a list."""

    key: bytes
    """As in policy/keys.py."""
    line: int


class Unreadable(Struct, frozen=True, gc=False):
    """A line of a list that says nothing we can read."""

    line: int
    text: str
    reason: str


_BOM = b"\xef\xbb\xbf"
_FAST = re.compile(rb"(?:[a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62}\s*", re.ASCII)
"""Most lines of most lists: a name in lower case that can be nothing else."""
_OCTET = [bytes([length]) for length in range(64)]

_ADBLOCK = re.compile(r"(?P<allow>@@)?\|\|(?P<name>[^\s^|$/*]+|\*\.[^\s^|$/*]+)\^?\|?(?:\$(?:important|all|document|doc))?")
_DNSMASQ = re.compile(r"(?P<key>address|local|server)=/(?P<names>[^\s]+)/(?P<target>[^/\s]*)")
_SELF_NAMES = {"localhost", "localhost.localdomain", "local", "broadcasthost", "localhost4", "localhost6", "0.0.0.0"}
_SELF_NAMES |= {
    f"ip6-{name}" for name in ("localhost", "loopback", "localnet", "mcastprefix", "allnodes", "allrouters", "allhosts")
}
"""What hosts files say of the machine itself: no names to block."""


def parse_list(lines: Iterable[bytes]) -> Iterator[ListRule | Unreadable]:
    """The rules of a list, in the order of its lines, and the lines that cannot be read."""
    for number, line in enumerate(lines, 1):
        if _FAST.fullmatch(line) and len(line) <= names.MAX_LENGTH:
            labels = line.rstrip().split(b".")
            labels.reverse()
            yield ListRule(b".".join([_OCTET[len(label)] + label for label in labels]), number)
        else:
            yield from _parse_slowly(line.removeprefix(_BOM) if number == 1 else line, number)


def _parse_slowly(line: bytes, number: int) -> Iterator[ListRule | Unreadable]:
    try:
        text = _without_comment(line.decode())
        keys = list(_keys(text)) if text else []
    except UnicodeDecodeError:
        yield Unreadable(number, line[:80].decode(errors="replace").strip(), "not UTF-8")
    except BadName as error:
        yield Unreadable(number, text[:80], str(error)[:200])
    else:
        yield from (ListRule(key, number) for key in keys)


def _without_comment(text: str) -> str:
    """The line without comment and space: `#` begins one at the start or after a space, `!` and `[` at the start."""
    text = text.strip()
    if text.startswith(("#", "!", "[", ";")):
        return ""
    return re.split(r"\s[#;]", text, maxsplit=1)[0].rstrip()


def _keys(text: str) -> Iterator[bytes]:
    """The keys of a line that is not empty; raises BadName."""
    if match := _ADBLOCK.fullmatch(text):
        yield _key(match["name"], allow=match["allow"] is not None)
    elif match := _DNSMASQ.fullmatch(text):
        allow = _allows(match["key"], match["target"])
        yield from (_key(name, allow=allow) for name in match["names"].split("/"))
    elif len(words := text.split()) == 1:
        yield _key(text)
    elif _is_address(words[0]):
        yield from (key_of(_name(word), Reach.EXACT) for word in words[1:] if word not in _SELF_NAMES)
    else:
        raise BadName("neither a name, nor a line of a hosts file, an adblock filter or a dnsmasq configuration")


def _allows(key: str, target: str) -> bool:
    """Whether this line of dnsmasq exempts its names; raises BadName where it sends them to another server."""
    if key != "address" and target == "#":
        return True
    if key != "address" and target:
        raise BadName("names that go to a server of their own are configured as a [[zone]]")
    return False


def _key(text: str, *, allow: bool = False) -> bytes:
    """The key of a name, `.name` or `*.name`."""
    below = text.startswith("*.")
    return key_of(_name(text[2 * below :].removeprefix(".")), Reach.BELOW if below else Reach.SUBTREE, allow=allow)


def _name(text: str) -> bytes:
    if "*" in text:
        raise BadName("an asterisk may stand only for all labels on the left, as in *.example.com")
    if set(text) & set("/|^$@=:#,") or _is_address(text) or text in ("", "."):
        raise BadName("not a name")
    return names.from_text(text)


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True
