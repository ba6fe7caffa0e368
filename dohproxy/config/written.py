"""Reads tables of TOML into the Structs of document.py, and goes on after each mistake to find them all."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from dohproxy.config.lines import Path
from dohproxy.config.report import Report, nearest

T = TypeVar("T")


class Table(Struct, frozen=True, kw_only=True):
    """A table that a user may write; `at` is where it stands and no key of it."""

    at: Path = ()


class Placed(Struct, Generic[T], frozen=True):
    """A value of an array, and where it stands."""

    value: T
    at: Path


class Text(Struct, frozen=True):
    """Annotates a type that is written as text: how to read it (ValueError if it cannot be) and what may be written."""

    parse: Callable[[Any], Any]
    allowed: str
    choices: tuple[str, ...] = ()
    kinds: tuple[type, ...] = (str,)


class Allowed(Struct, frozen=True):
    """Annotates a type with what may be written, in words."""

    words: str


class Shorthand(Struct, frozen=True):
    """Annotates a Table that may also be written as the value of one of its keys."""

    key: str


class _Broken(Exception):  # no error of its own: what is wrong has been reported
    """The value cannot be used."""


Table_ = TypeVar("Table_", bound=Table)


def read(kind: type[Table_], raw: dict[str, Any], report: Report) -> Table_ | None:
    """The whole document; None if it lacks what it needs. What is wrong is in the report, and left out here."""
    try:
        return _table(kind, raw, (), report)
    except _Broken:
        return None


def _value(kind: Any, raw: Any, at: Path, report: Report) -> Any:
    if get_origin(kind) is Placed:
        return Placed(_value(get_args(kind)[0], raw, at, report), at)
    plain, notes = bare(kind)
    for note in notes:
        if isinstance(note, Text):
            return _text(note, raw, at, report)
        if isinstance(note, Shorthand) and not isinstance(raw, dict):
            raw = {note.key: raw}
    if get_origin(plain) is tuple:
        return _array(get_args(plain)[0], raw, at, report)
    if isinstance(plain, type) and issubclass(plain, Table):
        return _table(plain, raw, at, report)
    return _leaf(kind, raw, at, report)


def _table(kind: type[Table_], raw: Any, at: Path, report: Report) -> Table_:
    if not isinstance(raw, dict):
        report.problem(at, f"{toml(raw)} is no table", allowed=f"a table with {_listed(keys(kind))}")
        raise _Broken
    for key in raw.keys() - set(keys(kind)):
        report.problem((*at, key), "there is no such key", allowed=_listed(keys(kind)), nearest=nearest(key, keys(kind)))
    found, broken = {"at": at}, False
    for field in msgspec.structs.fields(kind):
        if field.name in raw and field.name != "at":
            try:
                found[field.name] = _value(field.type, raw[field.name], (*at, field.name), report)
            except _Broken:
                broken |= field.required
        elif field.required:
            report.problem(at, f"the key {field.name} is missing", allowed=describe(field.type))
            broken = True
    if broken:
        raise _Broken
    return kind(**found)


def _array(kind: Any, raw: Any, at: Path, report: Report) -> tuple[Any, ...]:
    if isinstance(raw, dict):
        report.problem(at, "one of several must be written with two brackets", allowed=f"[[{'.'.join(map(str, at))}]]")
        raise _Broken
    if not isinstance(raw, list):
        report.problem(at, f"{toml(raw)} is no array", allowed=f"an array: [{toml(raw)}]")
        raise _Broken
    found = []
    for number, entry in enumerate(raw):
        try:
            found.append(_value(kind, entry, (*at, number), report))
        except _Broken:
            continue
    return tuple(found)


def _text(note: Text, raw: Any, at: Path, report: Report) -> Any:
    is_possible = isinstance(raw, note.kinds) and not isinstance(raw, bool)
    if is_possible and (not note.choices or raw in note.choices):
        try:
            return note.parse(raw)
        except ValueError as error:
            report.problem(at, str(error), allowed=note.allowed)
            raise _Broken from None
    report.problem(at, f"{toml(raw)} is not possible", allowed=note.allowed, nearest=nearest(str(raw), note.choices))
    raise _Broken


def _leaf(kind: Any, raw: Any, at: Path, report: Report) -> Any:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError:
        report.problem(at, f"{toml(raw)} is not possible", allowed=describe(kind), nearest=nearest(str(raw), _choices(kind)))
        raise _Broken from None


def keys(kind: type[Table]) -> list[str]:
    """The keys that a user may write in that table."""
    return [field.name for field in msgspec.structs.fields(kind) if field.name != "at"]


def describe(kind: Any) -> str:
    """What may be written for a value of that type, in words."""
    plain, notes = bare(kind)
    for note in notes:
        if isinstance(note, Text):
            return note.allowed
        if isinstance(note, Allowed):
            return note.words
    return _words(plain) + "".join(_bounds(note) for note in notes if isinstance(note, msgspec.Meta))


def bare(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """The type itself and its annotations, whether it may be missing or is Placed."""
    notes: tuple[Any, ...] = ()
    while True:
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            notes += tuple(more)
        elif get_origin(kind) in (Union, types.UnionType):
            kind = next(arm for arm in get_args(kind) if arm is not types.NoneType)
        elif get_origin(kind) is Placed:
            (kind,) = get_args(kind)
        else:
            return kind, notes


def _words(plain: Any) -> str:
    if get_origin(plain) is tuple:
        return f"an array of: {describe(get_args(plain)[0])}"
    if get_origin(plain) is Literal:
        return _listed(toml(choice) for choice in get_args(plain))
    if issubclass(plain, Table):
        return f"a table with {_listed(keys(plain))}"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "text in quotes"}[plain]


def _bounds(meta: msgspec.Meta) -> str:
    if meta.ge is not None and meta.le is not None:
        return f" from {meta.ge} to {meta.le}"
    return f" from {meta.ge} up" if meta.ge is not None else f" above {meta.gt}" if meta.gt is not None else ""


def _choices(kind: Any) -> tuple[str, ...]:
    plain, _ = bare(kind)
    return get_args(plain) if get_origin(plain) is Literal else ()


def toml(raw: Any) -> str:
    """A value as TOML writes it, or what it is, kept short."""
    if isinstance(raw, dict | list):
        return "a table" if isinstance(raw, dict) else "an array"
    text = f'"{raw}"' if isinstance(raw, str) else str(raw).lower() if isinstance(raw, bool) else str(raw)
    return text if len(text) <= 80 else text[:77] + "…"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
