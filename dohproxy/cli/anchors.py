"""`dohproxy anchors`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dohproxy.cli.options import config_option, read_settings, refuse

if TYPE_CHECKING:
    from dohproxy.cli.standing import Standing
    from dohproxy.config.settings import Settings


@click.command("anchors")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@config_option
def command(*, as_json: bool, config: Path | None) -> None:
    """Show every trust anchor: its state, its timers, and what its zone says now, asked of the configured upstreams.

    Ends with status 1 if something is wrong with them, or soon will be; then it is told how to mend it. Changes nothing.
    """
    import msgspec  # noqa: PLC0415 -- heavy, as all below
    import trio  # noqa: PLC0415

    from dohproxy.cli import standing  # noqa: PLC0415
    from dohproxy.errors import DohproxyError  # noqa: PLC0415

    settings = read_settings(config)
    try:
        found = trio.run(look, settings)
    except DohproxyError as error:
        refuse(error)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(standing.record_of(found))).decode())
    else:
        click.echo("\n".join(standing.lines_of(found)))
    sys.exit(0 if all(zone.is_well for zone in found.zones) else 1)


async def look(settings: Settings) -> Standing:
    """What is known and seen of all anchors now."""
    import trio  # noqa: PLC0415

    from dohproxy import build  # noqa: PLC0415
    from dohproxy.cli.standing import Standing, zone_of  # noqa: PLC0415

    core, _ = build.rehearsed(settings)
    if core.upkeep is None:
        return Standing((), settings.dnssec.negative_anchors, validates=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(core.run)
        following = core.upkeep.following
        zones = [zone_of(following, await following.look(zone), settings) for zone in following.zones]
        nursery.cancel_scope.cancel()
    return Standing(tuple(zones), settings.dnssec.negative_anchors)
