"""What several subcommands take: a configuration, a question, a client."""

from __future__ import annotations

import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from dohproxy.config.settings import Settings
    from dohproxy.errors import DohproxyError, Problem
    from dohproxy.model import Question

BAD_CONFIGURATION = 2
_F = TypeVar("_F", bound=Callable[..., Any])

_IDENTITY = "The identity that its certificate attests: spiffe://…, dns:NAME or subject:NAME; or an address, as --client."


def client_options(help_: str) -> Callable[[_F], _F]:
    """`--client` and `--as`: who asks. See `asker_of`."""

    def decorate(command: _F) -> _F:
        named = click.option("--as", "identity", metavar="IDENTITY", callback=read_identity, help=_IDENTITY)(command)
        return click.option("--client", metavar="ADDRESS", callback=read_client, help=f"{help_} [127.0.0.1].")(named)

    return decorate


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


def read_identity(_: click.Context, __: click.Parameter, value: str | None) -> str:
    """An identity as a certificate gives it, or an IP address, as a callback of an option; "" for none."""
    from dohproxy.config.identities import check_identity  # noqa: PLC0415

    if value is None:
        return ""
    try:
        return str(ip_address(value))
    except ValueError:
        pass
    try:
        return check_identity(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def asker_of(client: str | None, identity: str) -> tuple[str, str]:
    """The address and the identity that are meant; where neither is told, this machine. Raises click's error for bad usage."""
    try:
        address = str(ip_address(identity))
    except ValueError:
        return client or ("" if identity else "127.0.0.1"), identity
    if client is not None:
        raise click.BadParameter("--as has an address, and so has --client")
    return address, ""


def read_client(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """An IP address in its usual form, as a callback of an option; None for none."""
    if value is None:
        return None
    try:
        return str(ip_address(value))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no IP address") from None
