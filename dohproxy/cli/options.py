"""What several subcommands take: a configuration, a question, a client."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from dohproxy.config.settings import Settings
    from dohproxy.errors import DohproxyError, Problem
    from dohproxy.model import Question

BAD_CONFIGURATION = 2

config_option = click.option(
    "-c",
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The configuration; without it, public resolvers are asked on behalf of this machine.",
)


def read_settings(file: Path | None) -> Settings:
    """The settings of that file, or the built-in ones; tells problems and warnings on standard error.

    Ends the program with status 2 if they cannot be used.
    """
    from dohproxy.config.load import default, load  # noqa: PLC0415 -- `version` and `--help` do without
    from dohproxy.errors import ConfigError  # noqa: PLC0415

    try:
        settings = default() if file is None else load(file)
    except ConfigError as error:
        refuse(error)
    tell(settings.warnings, "warning: ")
    return settings


def refuse(error: DohproxyError) -> NoReturn:
    """Tell why the configuration cannot be used, and end."""
    tell_error(error)
    sys.exit(BAD_CONFIGURATION)


def tell_error(error: DohproxyError) -> int:
    """Tell what is wrong on standard error; how many things that is."""
    from dohproxy.errors import ConfigError  # noqa: PLC0415

    if isinstance(error, ConfigError):
        tell(error.problems)
        return len(error.problems)
    click.echo(error, err=True)
    return 1


def tell(problems: tuple[Problem, ...], prefix: str = "") -> None:
    """Tell each on standard error."""
    from dohproxy.cli.render import problem_lines  # noqa: PLC0415

    for problem in problems:
        click.echo("\n".join(problem_lines(problem, prefix)), err=True)


def read_question(name: str, rdtype: str) -> Question:
    """The question of that name and type; raises click's error for bad usage."""
    from dohproxy.model import Question  # noqa: PLC0415
    from dohproxy.wire import names  # noqa: PLC0415
    from dohproxy.wire.text import type_from_text  # noqa: PLC0415

    try:
        return Question(names.from_text(name), type_from_text(rdtype))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def read_client(_: click.Context, __: click.Parameter, value: str) -> str:
    """An IP address in its usual form, as a callback of an option."""
    try:
        return str(ip_address(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no IP address") from None
