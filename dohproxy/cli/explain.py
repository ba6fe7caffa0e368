"""`dohproxy explain NAME TYPE --client ADDRESS --as IDENTITY`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from dohproxy.cli.options import asker_of, client_options, config_option, read_question, read_settings, refuse


@click.command("explain")
@click.argument("name")
@click.argument("rdtype", metavar="TYPE", default="A")
@client_options("Who asks")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@config_option
def command(*, name: str, rdtype: str, client: str | None, identity: str, as_json: bool, config: Path | None) -> None:
    """Show what policy decides on NAME and TYPE, and which rule of which file and line did."""
    import msgspec  # noqa: PLC0415 -- heavy, as all below

    from dohproxy.errors import ConfigError  # noqa: PLC0415
    from dohproxy.policy.compiled import cache_directory, load_lists  # noqa: PLC0415
    from dohproxy.policy.engine import Engine  # noqa: PLC0415
    from dohproxy.policy.explain import explain  # noqa: PLC0415

    question, settings = read_question(name, rdtype), read_settings(config)
    try:
        engine = Engine(settings.policy, load_lists(settings.policy, cache_directory(os.environ)))
    except ConfigError as error:
        refuse(error)
    explanation = explain(engine, question, *asker_of(client, identity))
    click.echo(msgspec.json.encode(explanation).decode() if as_json else "\n".join(explanation.lines()))
