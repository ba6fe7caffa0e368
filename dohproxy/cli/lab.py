"""`dohproxy lab`."""

from __future__ import annotations

import sys

import click

_PORT = click.IntRange(0, 65535)


@click.command("lab")
@click.option("--with-proxy", is_flag=True, help="Start a proxy in front of it too, and show what it makes of the lab.")
@click.option("--port", type=_PORT, default=5300, metavar="PORT", help="Where the proxy listens, if that is free [5300].")
@click.option("--dot-port", type=_PORT, default=0, metavar="PORT", help="Where DNS over TLS is served [a free one].")
@click.option("--doh-port", type=_PORT, default=0, metavar="PORT", help="Where DNS over HTTPS is served [a free one].")
def command(with_proxy: bool, port: int, dot_port: int, doh_port: int) -> None:
    """Serve a small signed DNS on loopback, to try things on, until SIGINT or SIGTERM.

    It has names that are secure, insecure, bogus in the usual ways, blocked and rebinding, and tells the configuration of a
    proxy in front of it.
    """
    from dohproxy.lab import main  # noqa: PLC0415 -- heavy

    sys.exit(main.run(with_proxy=with_proxy, port=port, dot_port=dot_port, doh_port=doh_port))
