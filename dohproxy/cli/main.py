"""The `dohproxy` command: finds the subcommand, and imports what that one needs and nothing else."""

from __future__ import annotations

from importlib import import_module

import click

from dohproxy.wire.choice import trouble

COMMANDS = {
    "run": "Serve, until told to stop.",
    "check": "Say what is wrong with a configuration.",
    "query": "Resolve one question, and show how.",
    "discover": "Find who may be asked encrypted in place of a plain resolver.",
    "verify": "Check evidence records offline.",
    "explain": "Show which rule decides on a name.",
    "anchors": "Show the trust anchors, and whether they still match.",
    "lab": "Serve a small signed DNS on loopback, to try things on.",
    "version": "Tell the version.",
}


class Lazy(click.Group):
    """A group whose commands are modules beside this one, each with its `command`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 -- click's signature, as below
        """The names of all subcommands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The subcommand of that name, imported now; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        if wrong := trouble():
            raise click.ClickException(wrong)
        found: click.Command = import_module(f"dohproxy.cli.{cmd_name}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of subcommands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Plain DNS in; policy-checked, DNSSEC-validated, encrypted DNS out."""
