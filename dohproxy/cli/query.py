"""`dohproxy query NAME TYPE`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dohproxy.cli.options import (
    BAD_CONFIGURATION,
    asker_of,
    client_options,
    config_option,
    read_question,
    read_settings,
    refuse,
)

if TYPE_CHECKING:
    from dohproxy.cli.render import Found
    from dohproxy.config.settings import Settings
    from dohproxy.model import Answer, Attestation, Client, Question, Security


@click.command("query")
@click.argument("name")
@click.argument("rdtype", metavar="TYPE", default="A")
@client_options("On whose behalf")
@click.option("--cd", is_flag=True, help="Checking disabled: without validation.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@click.option("--evidence", metavar="FILE", type=click.Path(path_type=Path), help="Add the verdict's evidence to FILE.")
@config_option
def command(
    *,
    name: str,
    rdtype: str,
    client: str | None,
    identity: str,
    cd: bool,
    as_json: bool,
    evidence: Path | None,
    config: Path | None,
) -> None:
    """Resolve NAME and TYPE once, as the proxy would, and show the answer, the verdict and how they came about.

    Ends with status 1 if there is no answer but SERVFAIL.
    """
    import msgspec  # noqa: PLC0415 -- heavy, as all below
    import trio  # noqa: PLC0415

    from dohproxy.cli import render  # noqa: PLC0415
    from dohproxy.errors import DohproxyError  # noqa: PLC0415
    from dohproxy.wire.constants import SERVFAIL  # noqa: PLC0415

    question, settings = read_question(name, rdtype), read_settings(config)
    try:
        found = trio.run(partial(_ask, settings, question, asker_of(client, identity), cd, evidence is not None))
    except DohproxyError as error:
        refuse(error)
    if as_json:
        click.echo(msgspec.json.encode(render.record_of(found)).decode())
    else:
        click.echo("\n".join(render.lines_of(found)))
    if evidence is not None:
        _keep(evidence, found, settings)
    sys.exit(1 if found.rcode == SERVFAIL else 0)


class _Recorder:
    """Wants the evidence of every verdict, which the answer then carries."""

    active = True

    def wants(self, client: Client, security: Security) -> bool:  # noqa: ARG002 -- all of them
        return True

    def record(self, attestation: Attestation) -> None:
        """Leave what was not asked for to itself."""


def _keep(file: Path, found: Found, settings: Settings) -> None:
    """Add the record of this verdict to the file; ends the program with status 2 if that cannot be."""
    import time  # noqa: PLC0415

    from dohproxy.telemetry.querylog import told_address  # noqa: PLC0415

    outcome = found.outcome
    if outcome.evidence is None:
        click.echo("no verdict was made, and so there is no evidence of it", err=True)
        return
    address = told_address(found.client, settings.log.clients)
    verdict = getattr(outcome, "verdict", None)
    try:
        with file.open("ab") as stream:
            stream.write(outcome.evidence.written(time.time(), address, verdict))
    except OSError as error:
        click.echo(f"{file} cannot be written to: {error.strerror}", err=True)
        sys.exit(BAD_CONFIGURATION)


async def _ask(settings: Settings, question: Question, who: tuple[str, str], cd: bool, record: bool = False) -> Found:
    import trio  # noqa: PLC0415

    from dohproxy import build  # noqa: PLC0415
    from dohproxy.cli.render import Found  # noqa: PLC0415
    from dohproxy.errors import ResolveError  # noqa: PLC0415
    from dohproxy.model import Client, Query, Transport  # noqa: PLC0415

    async with build.resolver(settings, _Recorder() if record else None) as pipeline:
        address, identity = who
        asker = Client(address, Transport.INTERNAL, pipeline.engine.group_of(address, identity).name, identity)
        started = trio.current_time()
        outcome: Answer | ResolveError
        try:
            outcome = await pipeline.stage.resolve(Query(question, asker, started + settings.forwarding.timeout, cd))
        except ResolveError as error:
            outcome = error
        return Found(question, address, asker.group, outcome, trio.current_time() - started, identity)
