"""Whether whoever is asked for an upstream's address is there, encrypted, and does not wait for that upstream in its turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dohproxy.config import document
from dohproxy.config.lines import Path
from dohproxy.config.report import Report, nearest

SYSTEM = "system"
"""Whom to ask: the resolver of the system, for this one name, in clear or however that does it."""
_IN_CLEAR = ("udp", "tcp")


def check_bootstraps(group: Sequence[document.Upstream], others: Sequence[document.Upstream], report: Report) -> None:
    """Note what is wrong with the `bootstrap` keys of a group; names are looked up in it, and then among the `others`."""
    known = {_name(upstream): upstream for upstream in (*others, *group)}
    for upstream in group:
        for at, asked in _asked(upstream):
            if asked not in known:
                allowed = f'"{SYSTEM}", or the name of another upstream'
                report.problem(at, f'there is no upstream "{asked}"', allowed=allowed, nearest=nearest(asked, known))
            elif known[asked].url.scheme in _IN_CLEAR:
                report.problem(at, f'"{asked}" is asked in clear', allowed=f'an encrypted upstream, or "{SYSTEM}"')
            elif circle := _circle(_name(upstream), asked, known):
                report.problem(at, f"nobody would be asked first: {' needs '.join(circle)}")


def _name(upstream: document.Upstream) -> str:
    return upstream.name or upstream.url.text


def _asked(upstream: document.Upstream) -> Iterator[tuple[Path, str]]:
    """Where it is written, and whom to ask before this upstream can be."""
    for table in (upstream, upstream.relay):
        if table is not None and table.bootstrap not in (None, SYSTEM):
            yield (*table.at, "bootstrap"), table.bootstrap or ""


def _circle(name: str, asked: str, known: dict[str, document.Upstream]) -> list[str]:
    """The way from an upstream by those that it needs back to itself; [] if there is none."""
    ways, seen = [[name, asked]], set[str]()
    while ways:
        way = ways.pop()
        if way[-1] == name:
            return way
        if way[-1] in known and way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, after] for _, after in _asked(known[way[-1]])]
    return []
