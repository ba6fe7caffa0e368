"""`dohproxy verify FILE`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from dohproxy.cli.options import BAD_CONFIGURATION, read_settings, refuse

if TYPE_CHECKING:
    from dohproxy.config.settings import Anchor


@click.command("verify")
@click.argument("file", metavar="FILE", type=click.File("rb"))
@click.option(
    "--anchor", "anchors", metavar="RECORD", multiple=True, help='Such as ". DS 20326 8 2 E06D…"; any number of them.'
)
@click.option(
    "-c",
    "--config",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The anchors of this configuration, followed ones too.",
)
@click.option("--json", "as_json", is_flag=True, help="For machines: an object a line.")
def command(*, file: BinaryIO, anchors: tuple[str, ...], config: Path | None, as_json: bool) -> None:
    """Judge every evidence record in FILE (- is standard input) again, offline, with nothing but trust anchors.

    Those are the ones given, or the ones of a configuration, or else the root's that are built in. Ends with status 0 if all
    records hold, 1 if one does not, 2 if something cannot be read.
    """
    import msgspec  # noqa: PLC0415 -- heavy, as all below

    from dohproxy.cli import checked  # noqa: PLC0415

    trusted = (*_read_anchors(anchors), *(_configured(config) if config else ())) or _built_in()
    try:
        found = [checked.check(number, line, trusted) for number, line in enumerate(file, 1) if line.strip()]
    except OSError as error:
        click.echo(f"{file.name} cannot be read: {error.strerror}", err=True)
        sys.exit(BAD_CONFIGURATION)
    if as_json:
        for one in found:
            click.echo(msgspec.json.encode(checked.record_of(one)).decode())
    else:
        click.echo("\n".join(checked.lines_of(found)))
    sys.exit(checked.status_of(found))


def _read_anchors(texts: Sequence[str]) -> tuple[Anchor, ...]:
    from dohproxy.config.texts import trust_anchor  # noqa: PLC0415

    try:
        return tuple(map(trust_anchor, texts))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--anchor") from None


def _configured(config: Path) -> Sequence[Anchor]:
    """The anchors of this configuration as they are now, with those that followed them (RFC 5011)."""
    from dohproxy import build  # noqa: PLC0415
    from dohproxy.errors import DohproxyError  # noqa: PLC0415

    settings = read_settings(config)
    try:
        core, _ = build.rehearsed(settings)
    except DohproxyError as error:
        refuse(error)
    if core.upkeep is None:
        return build.anchors_of(settings.dnssec, settings.zones, int(time.time()))
    following = core.upkeep.following
    return [anchor for zone in following.zones for anchor in following.anchors(zone)]


def _built_in() -> tuple[Anchor, ...]:
    from dohproxy.dnssec.anchors import built_in  # noqa: PLC0415

    return built_in(int(time.time()))
