"""`dohproxy check FILE`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dohproxy.cli.options import tell, tell_error

if TYPE_CHECKING:
    from dohproxy.config.settings import Settings, Upstream
    from dohproxy.errors import Problem


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Say everything that is wrong with the configuration FILE, and what is allowed and yet hardly meant.

    Of a file that can be used, say where each upstream is, or who is asked for that.
    Ends with status 0 if it can be used, else 1.
    """
    from dohproxy.config.load import load  # noqa: PLC0415 -- heavy
    from dohproxy.errors import DohproxyError  # noqa: PLC0415

    try:
        settings = load(file)
        warnings = (*settings.warnings, *_deep_warnings(settings), *_shown_warnings(settings))
    except DohproxyError as error:
        click.echo(f"{file}: {_count(tell_error(error), 'problem')}", err=True)
        sys.exit(1)
    tell(warnings, "warning: ")
    for upstream in (*settings.upstreams, *(one for zone in settings.zones for one in zone.upstreams)):
        click.echo("\n".join(_where(upstream)))
    click.echo(f"{file}: good" + (f", with {_count(len(warnings), 'warning')}" if warnings else ""))


def _where(upstream: Upstream) -> list[str]:
    """How an upstream is reached, and how its address is found."""
    relay = upstream.relay
    told = f"upstream {upstream.name}: "
    if relay is None:
        return [told + _found(upstream)]
    key = "its key is configured" if upstream.odoh_config else f"it is asked for its key: {_found(upstream)}"
    return [told + f"through the relay {relay.host}: {_found(relay)}", f"    {key}"]


def _found(upstream: Upstream) -> str:
    if upstream.scheme == "ddr":
        return f"whoever {upstream.host}, port {upstream.port}, designates and is verified"
    if upstream.addresses:
        return f"at {', '.join(upstream.addresses)}, port {upstream.port}"
    whom = "the system's resolver" if upstream.bootstrap == "system" else f"upstream {upstream.bootstrap}"
    return f"{whom} is asked for the addresses of {upstream.host}, port {upstream.port}"


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


def _shown_warnings(settings: Settings) -> tuple[Problem, ...]:
    """Of certificates that clients will refuse today. Raises DohproxyError where encrypted listeners have none to show."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from cryptography import x509  # noqa: PLC0415

    from dohproxy.errors import Problem  # noqa: PLC0415
    from dohproxy.listen.credentials import credentials  # noqa: PLC0415

    now, found = datetime.now(UTC), []
    for files, shown in zip(settings.tls.certificates, credentials(settings.tls).certificates, strict=True):
        leaf = x509.load_pem_x509_certificates(shown.current().chain)[0]
        begin, end = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        if not begin <= now <= end:
            message = f"it is valid from {begin:%Y-%m-%dT%H:%M:%SZ} until {end:%Y-%m-%dT%H:%M:%SZ}, which is not now"
            found.append(Problem(str(files.certificate), 0, "tls.certificate", message))
    return tuple(found)


async def _build(settings: Settings) -> None:
    from dohproxy.build import rehearsed  # noqa: PLC0415

    rehearsed(settings)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + "s" * (number != 1)
