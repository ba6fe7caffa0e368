"""`dohproxy version`."""

from __future__ import annotations

import click

from dohproxy import __version__


@click.command("version")
def command() -> None:
    """Tell the version."""
    click.echo(f"dohproxy {__version__}")
