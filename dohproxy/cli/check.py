"""`dohproxy check FILE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dohproxy.cli.options import tell, tell_error

if TYPE_CHECKING:
    from dohproxy.config.settings import Settings
    from dohproxy.errors import Problem


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Say everything that is wrong with the configuration FILE, and what is allowed and yet hardly meant.

    Ends with status 0 if it can be used, else 1.
    """
    from dohproxy.config.load import load  # noqa: PLC0415 -- heavy
    from dohproxy.errors import DohproxyError  # noqa: PLC0415

    try:
        settings = load(file)
        warnings = (*settings.warnings, *_deep_warnings(settings))
    except DohproxyError as error:
        click.echo(f"{file}: {_count(tell_error(error), 'problem')}", err=True)
        sys.exit(1)
    tell(warnings, "warning: ")
    click.echo(f"{file}: good" + (f", with {_count(len(warnings), 'warning')}" if warnings else ""))


def _deep_warnings(settings: Settings) -> tuple[Problem, ...]:
    """Of lines in lists that say nothing. Builds all that `run` would, and raises DohproxyError where that cannot be."""
    import trio  # noqa: PLC0415

    from dohproxy.errors import Problem  # noqa: PLC0415
    from dohproxy.policy.compiled import cache_directory, load_lists  # noqa: PLC0415

    found = []
    for one in load_lists(settings.policy, cache_directory(os.environ)).values():
        key = f'policy.list "{one.name}"'
        found += [Problem(str(one.file), line.line, key, line.reason) for line in one.summary.problems]
        if more := one.summary.unreadable - len(one.summary.problems):
            found.append(Problem(str(one.file), 0, key, f"{more} more lines cannot be read"))
    trio.run(_build, settings)
    return tuple(found)


async def _build(settings: Settings) -> None:
    from dohproxy.build import rehearsed  # noqa: PLC0415

    rehearsed(settings)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
