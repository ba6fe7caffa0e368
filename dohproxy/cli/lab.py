"""`dohproxy lab`."""

from __future__ import annotations

import click


@click.command("lab")
def command() -> None:
    """Serve a small signed DNS on loopback, to try things on."""
    from dohproxy import lab  # noqa: PLC0415 -- heavy

    lab.run()
