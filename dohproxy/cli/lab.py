"""`dohproxy lab`."""

from __future__ import annotations

import sys

import click

PORT = click.IntRange(0, 65535)


@click.command("lab")
@click.option(
    "--with-proxy", is_flag=True, help="Run a proxy in front of it, and show what it makes of a handful of questions."
)
@click.option("--port", type=PORT, default=5300, show_default=True, help="Of the proxy; another is taken if it is not free.")
@click.option("--dot-port", type=PORT, default=0, help="Of the lab's DNS over TLS; 0, the default, takes a free one.")
@click.option("--doh-port", type=PORT, default=0, help="Of the lab's DNS over HTTPS.")
def command(with_proxy: bool, port: int, dot_port: int, doh_port: int) -> None:
    """Serve a small signed DNS on loopback, to try things on."""
    from dohproxy.lab.main import run  # noqa: PLC0415 -- heavy

    sys.exit(run(with_proxy=with_proxy, port=port, dot_port=dot_port, doh_port=doh_port))
