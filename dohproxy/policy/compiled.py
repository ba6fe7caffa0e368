"""Lists as the engine reads them: tries that are built once, kept as a file, and mapped into memory from then on.

A compiled file is the trie, then what else is known of the list as JSON, then that JSON's length and a digest of all
before it. It is used only if the digest is right and it was made, by this version, of just this content of the list;
anything else is built anew. The workers of a machine share its pages.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import marisa_trie
import msgspec
from msgspec import Struct

from dohproxy import __version__
from dohproxy.config.settings import Policy, PolicyList
from dohproxy.errors import ConfigError, Problem
from dohproxy.model import Action, Rule, Verdict
from dohproxy.policy.keys import EXCEPTION, key_text, pattern_of
from dohproxy.policy.lists import ListRule, Unreadable, parse_list
from dohproxy.wire import names

REPORTED = 10
"""How many unreadable lines of a list are told in full."""
_FORMAT = 1
"""To be raised when lines are read, or keys written, in another way."""
_DIGEST, _LENGTH = 32, 4
_LARGE = 1 << 20
"""Octets from which on a list is compiled by a process of its own: nothing else of a process runs while a trie is built."""


class Summary(Struct, frozen=True):
    """What is known of a list beside its names."""

    made_of: str
    """The digest of the list's content and the version of the program that compiled it."""
    rules: int = 0
    exceptions: int = 0
    unreadable: int = 0
    problems: tuple[Unreadable, ...] = ()
    """The first of the unreadable lines."""


class CompiledList:
    """A list in memory: which of its rules covers a name."""

    def __init__(self, settings: PolicyList, trie: marisa_trie.BinaryTrie, summary: Summary) -> None:
        self.name, self.action, self.addresses, self.file = settings.name, settings.action, settings.addresses, settings.file
        self.summary = summary
        self._prefixes = trie.prefixes

    def covering(self, key: bytes) -> list[bytes]:
        """The keys that cover the name of this query key, the most specific last."""
        found: list[bytes] = self._prefixes(key)
        return found

    def exempting(self, key: bytes) -> list[bytes]:
        """The keys of exceptions that cover the name of this query key, the most specific last."""
        return self.covering(EXCEPTION + key) if self.summary.exceptions else []

    def action_of(self, key: bytes) -> Action:
        """What this rule of the list does."""
        return Action.ALLOW if key.startswith(EXCEPTION) else self.action

    def verdict(self, key: bytes) -> Verdict:
        """What this rule of the list says; its line is not known without reading the file (see `line_of`)."""
        action = self.action_of(key)
        rule = Rule(key_text(key), f'list "{self.name}"', str(self.file))
        return Verdict(action, rule, self.addresses if action is Action.SINKHOLE else ())

    def line_of(self, key: bytes) -> tuple[int, str]:
        """The first line of the file that holds this rule, and its text; (0, "") if the file no longer has it."""
        label = names.labels(pattern_of(key)[0])[0]
        try:
            with self.file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if (label in line.lower() or not line.isascii()) and key in _keys([line], []):
                        return number, line.decode(errors="replace").strip().removeprefix("\ufeff")
        except OSError:
            pass
        return 0, ""


def load_lists(policy: Policy, cache: Path | None) -> dict[str, CompiledList]:
    """All lists by name. `cache` is the directory for compiled files; None builds in memory.

    Raises ConfigError that names every file which cannot be read. May take a second per half a million names.
    """
    loaded, problems = {}, []
    for settings in policy.lists:
        try:
            loaded[settings.name] = load_list(settings, cache)
        except OSError as error:
            message = f"cannot be read: {error.strerror or error}"
            problems.append(Problem(str(settings.file), 0, f'policy.list "{settings.name}"', message))
    if problems:
        raise ConfigError(tuple(problems))
    return loaded


def load_list(settings: PolicyList, cache: Path | None) -> CompiledList:
    """The list, from its compiled file if that is there and good; raises OSError if the list's file cannot be read."""
    with settings.file.open("rb") as file:
        made_of = _made_of(hashlib.file_digest(file, "sha256").digest())
        large = file.tell() >= _LARGE
    compiled = cache and cache / f"{hashlib.sha256(bytes(settings.file.resolve())).hexdigest()[:32]}.list"
    found = compiled and _open_compiled(compiled, made_of)
    if compiled and not found and large:
        _compile_apart(settings.file, compiled)
        found = _open_compiled(compiled, made_of)
    return CompiledList(settings, *(found or _compile(settings.file, compiled)))


def _made_of(content: bytes) -> str:
    return f"{content.hex()} {_FORMAT} {__version__}"


def _open_compiled(compiled: Path, made_of: str) -> tuple[marisa_trie.BinaryTrie, Summary] | None:
    """The trie and summary of this file; None if it is not there, damaged, or was made of something else."""
    try:
        content = compiled.read_bytes()
    except OSError:
        return None
    end = len(content) - _DIGEST
    if end < _LENGTH or hashlib.sha256(memoryview(content)[:end]).digest() != content[end:]:
        return None
    start = end - _LENGTH - int.from_bytes(content[end - _LENGTH : end], "big")
    summary = msgspec.json.decode(content[start : end - _LENGTH], type=Summary)
    return (marisa_trie.BinaryTrie().mmap(str(compiled)), summary) if summary.made_of == made_of else None


def _compile_apart(file: Path, compiled: Path) -> None:
    """Have another process write the compiled file. If that fails there is none, and it is for the caller to compile."""
    command = (sys.executable, "-P", "-m", __name__, file, compiled)
    with suppress(OSError):
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _compile(file: Path, compiled: Path | None) -> tuple[marisa_trie.BinaryTrie, Summary]:
    content = file.read_bytes()
    made_of = _made_of(hashlib.sha256(content).digest())
    unreadable: list[Unreadable] = []
    trie = marisa_trie.BinaryTrie(_keys(BytesIO(content), unreadable))
    del content
    exceptions = len(trie.keys(EXCEPTION))
    summary = Summary(made_of, len(trie) - exceptions, exceptions, len(unreadable), tuple(unreadable[:REPORTED]))
    if compiled and _write_compiled(compiled, trie, summary):
        trie = marisa_trie.BinaryTrie().mmap(str(compiled))
    _release_memory()
    return trie, summary


def _keys(lines: Iterable[bytes], unreadable: list[Unreadable]) -> Iterator[bytes]:
    for rule in parse_list(lines):
        if isinstance(rule, ListRule):
            yield rule.key
        else:
            unreadable.append(rule)


def _write_compiled(compiled: Path, trie: marisa_trie.BinaryTrie, summary: Summary) -> bool:
    """Whether the file could be written, whole and at once; where it cannot, the trie stays in memory."""
    note = msgspec.json.encode(summary)
    content = trie.tobytes() + note + len(note).to_bytes(_LENGTH, "big")
    part = compiled.with_suffix(f".{os.getpid()}.part")
    try:
        compiled.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        part.write_bytes(content + hashlib.sha256(content).digest())
        part.replace(compiled)
    except OSError:
        with suppress(OSError):
            part.unlink()
        return False
    return True


def _release_memory() -> None:
    """Give back what building a trie took: glibc would keep it, some 50 MB for a million names."""
    import ctypes  # noqa: PLC0415 (only ever needed here)

    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def cache_directory(environment: Mapping[str, str]) -> Path:
    """Where compiled lists are kept: systemd's CacheDirectory= if there is one, else the user's cache directory."""
    if given := environment.get("CACHE_DIRECTORY"):
        return Path(given.partition(":")[0])
    base = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "/var")) / ".cache")
    return Path(base) / "dohproxy"


if __name__ == "__main__":
    _compile(Path(sys.argv[1]), Path(sys.argv[2]))
