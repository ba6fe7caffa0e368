"""`dohproxy discover ADDRESS`."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dohproxy.cli.options import read_client, refuse

if TYPE_CHECKING:
    from dohproxy.config.settings import Upstream
    from dohproxy.upstream.discovery import Offer

_WARNING = (
    "What is not verified is at the same private address, and might be used opportunistically (RFC 9462 4.3): against those",
    "who only listen, for whoever can answer in its place can be it. This proxy does not do that.",
)
_NAMES = {"tls": "DNS over TLS", "https": "DNS over HTTPS", "h3": "DNS over HTTP/3", "quic": "DNS over QUIC"}


@click.command("discover")
@click.argument("address", callback=read_client)
@click.option("--port", metavar="PORT", default=53, type=click.IntRange(1, 65535), help="Of the plain resolver [53].")
@click.option(
    "--ca-file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The authorities that may vouch for others, in PEM [the system's].",
)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def command(*, address: str, port: int, ca_file: Path | None, as_json: bool) -> None:
    """Ask the plain resolver at ADDRESS who may be asked encrypted in its place (RFC 9462), and verify that.

    Shows what to write into a configuration. Ends with status 0 if somebody is verified, else 1.
    """
    import msgspec  # noqa: PLC0415 -- heavy, as all below
    import trio  # noqa: PLC0415

    from dohproxy.config.settings import Forwarding, Upstream  # noqa: PLC0415
    from dohproxy.errors import DohproxyError, ResolveError  # noqa: PLC0415
    from dohproxy.upstream.discovery import discover  # noqa: PLC0415

    try:
        offers = trio.run(partial(discover, Upstream(address, "ddr", address, port, ca_file=ca_file), Forwarding()))
    except ResolveError as error:
        click.echo(f"{address} cannot be asked: {error}", err=True)
        sys.exit(1)
    except DohproxyError as error:
        refuse(error)
    if as_json:
        click.echo(msgspec.json.encode({"resolver": address, "designations": [*map(record_of, offers)]}).decode())
    else:
        click.echo("\n".join(lines_of(address, offers)))
    sys.exit(0 if any(offer.verified for offer in offers) else 1)


def lines_of(address: str, offers: tuple[Offer, ...]) -> list[str]:
    """For a person: what each offer is worth, then what to write for those that are verified."""
    if not offers:
        return [f"{address} designates nobody (RFC 9462)"]
    lines = [_line(offer) for offer in offers]
    if any(offer.opportunistic for offer in offers):
        lines += ["", *_WARNING]
    for offer in offers:
        if offer.verified and offer.upstream is not None:
            lines += ["", *toml_lines(offer.upstream)]
    return lines


def _line(offer: Offer) -> str:
    from dohproxy.wire.names import to_text  # noqa: PLC0415

    service, upstream = offer.service, offer.upstream
    told = f"{service.priority:>3} {to_text(service.target)} "
    if upstream is None:
        return f"{told}{offer.alpn or 'any'}: unusable: {offer.problem}"
    told += f"{_NAMES[upstream.scheme]}, port {upstream.port}, at {', '.join(upstream.addresses)}: "
    if offer.verified:
        names = dict.fromkeys((offer.verified_as, upstream.designated_by))
        return told + f"verified, as {' and as '.join(names)}"
    return told + f"not verified: {offer.problem}"


def toml_lines(upstream: Upstream) -> list[str]:
    """The `[[upstream]]` to write."""
    fields: dict[str, str | tuple[str, ...]] = {"url": upstream.name}
    if upstream.tls_name != upstream.host:
        fields["tls_name"] = upstream.tls_name
    if upstream.ca_file is not None:
        fields["ca_file"] = str(upstream.ca_file)
    fields["addresses"] = upstream.addresses
    return ["[[upstream]]", *(f"{key} = {_toml(value)}" for key, value in fields.items())]


def _toml(value: str | tuple[str, ...]) -> str:
    """As JSON has it, which TOML took over for texts and arrays."""
    import msgspec  # noqa: PLC0415

    return msgspec.json.encode(value).decode()


def record_of(offer: Offer) -> dict[str, Any]:
    """For a machine."""
    from dohproxy.wire.names import to_text  # noqa: PLC0415

    upstream = offer.upstream
    return {
        "priority": offer.service.priority,
        "target": to_text(offer.service.target),
        "alpn": offer.alpn,
        "url": upstream.name if upstream is not None else "",
        "addresses": upstream.addresses if upstream is not None else (),
        "verified": offer.verified,
        "verified_as": offer.verified_as,
        "opportunistic": offer.opportunistic,
        "problem": offer.problem,
        "toml": "\n".join(toml_lines(upstream)) if upstream is not None and offer.verified else "",
    }
