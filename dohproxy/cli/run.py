"""`dohproxy run`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import click

from dohproxy.cli.options import config_option, read_settings


@click.command("run")
@config_option
def command(config: Path | None) -> None:
    """Serve, until SIGTERM or SIGINT; SIGHUP reads the configuration again."""
    settings = read_settings(config)

    from dohproxy.config.load import default, load  # noqa: PLC0415 -- heavy, and of no use to a configuration that is wrong

    if settings.workers.count == 1:
        from dohproxy.worker import run  # noqa: PLC0415
    else:
        from dohproxy.supervisor import run  # noqa: PLC0415 -- which does without nearly all of a worker
    sys.exit(run(settings, default if config is None else partial(load, config)))
