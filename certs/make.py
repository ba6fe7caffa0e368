"""Makes test certificates: an authority, servers' and clients' certificates, as PEM files.

    python certs/make.py DIRECTORY --server dns.example,192.0.2.1 --client pay=spiffe://prod.example/ns/pay/sa/web

writes ca.pem, server.pem and server.key (server-2 … for more of them), pay.pem and pay.key.
"""

from __future__ import annotations

from pathlib import Path

import click

from dohproxy.lab.certificates import Authority


@click.command(help="Makes an authority and certificates signed by it, as PEM files in DIRECTORY.")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@click.option("--server", "servers", multiple=True, metavar="NAME,…", help="A server's names and IP addresses.")
@click.option("--client", "clients", multiple=True, metavar="FILE=IDENTITY,…", help="A client's SPIFFE IDs or DNS names.")
def main(directory: Path, servers: tuple[str, ...], clients: tuple[str, ...]) -> None:
    """Writes the files and tells their names."""
    authority = Authority()
    click.echo(authority.write(directory))
    for number, names in enumerate(servers, 1):
        stem = "server" if number == 1 else f"server-{number}"
        _tell(authority.server(*names.split(",")).write(directory, stem))
    for client in clients:
        stem, _, identities = client.partition("=")
        _tell(authority.client(stem, *filter(None, identities.split(","))).write(directory, stem))


def _tell(paths: tuple[Path, Path]) -> None:
    for path in paths:
        click.echo(path)


if __name__ == "__main__":
    main()
