"""`dohproxy version`."""

from __future__ import annotations

import click

from dohproxy import __version__


@click.command("version")
def command() -> None:
    """Tell the version, and which core serves cache hits."""
    from dohproxy.core import KIND  # noqa: PLC0415 -- it may load the compiled core

    click.echo(f"dohproxy {__version__} (core: {KIND})")
