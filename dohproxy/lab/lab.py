"""The lab as a whole: the tree behind a DoT and a DoH server, and the configuration of a proxy in front of them."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from dohproxy.lab import doh, dot
from dohproxy.lab.certificates import Authority
from dohproxy.lab.faults import Faults
from dohproxy.lab.server import Responder, listen
from dohproxy.lab.signer import Tree
from dohproxy.lab.zones import SERVER_NAME

BLOCKED = "ads.lab"
"""The name that the list of blocked names has, with all below it."""


class Lab:
    """A running lab. `directory` has its files: the authority that its certificates are from, and the block list.

    Beside them are a certificate for a proxy, and one for a workload that asks it.
    """

    def __init__(self, tree: Tree, faults: Faults, directory: Path, dot_port: int, doh_port: int) -> None:
        self.tree, self.faults, self.directory = tree, faults, directory
        self.dot_port, self.doh_port = dot_port, doh_port
        self.ca_file = directory / "ca.pem"
        self.list_file = directory / "ads.txt"

    @property
    def anchor_lines(self) -> tuple[str, ...]:
        """The DS records of the lab's root, as `trust_anchors` has them."""
        return self.tree.anchors

    @property
    def dot_url(self) -> str:
        """Of the DoT server, for `url` of an upstream."""
        return f"tls://127.0.0.1:{self.dot_port}"

    @property
    def doh_url(self) -> str:
        """Of the DoH server."""
        return f"https://127.0.0.1:{self.doh_port}{doh.PATH}"

    def config_toml(
        self, listen_port: int, urls: Sequence[str] | None = None, more: str = "", *, encrypted: tuple[int, int] | None = None
    ) -> str:
        """The whole configuration of a proxy in front of the lab, on 127.0.0.1; `more` is put at its end.

        `encrypted` are the ports where it listens by TLS and QUIC, and by HTTPS.
        """
        tls_port, web_port = encrypted or (0, 0)
        listeners = LISTENERS.format(tls=tls_port, web=web_port) if encrypted else ""
        more = (TLS.format(directory=self.directory) if encrypted else "") + more
        anchors = "\n".join(f'    "{line}",' for line in self.anchor_lines)
        upstreams = "\n".join(
            f'[[upstream]]\nname = "lab-{url.partition(":")[0]}"\nurl = "{url}"\n'
            f'tls_name = "{SERVER_NAME}"\nca_file = "{self.ca_file}"\n'
            for url in urls or (self.dot_url, self.doh_url)
        )
        return CONFIG.format(
            port=listen_port, listeners=listeners, upstreams=upstreams, anchors=anchors, list_file=self.list_file, more=more
        )


CONFIG = """\
[listen]
udp = ["127.0.0.1:{port}"]
tcp = ["127.0.0.1:{port}"]
{listeners}
{upstreams}
[dnssec]
mode = "validate"
root_anchors = "none"
trust_anchors = [
{anchors}
]

[[policy.list]]
name = "ads"
file = "{list_file}"
action = "nxdomain"

[[policy.group]]
name = "default"

{more}"""

LISTENERS = """\
dot = ["127.0.0.1:{tls}"]
doq = ["127.0.0.1:{tls}"]
doh = ["127.0.0.1:{web}"]
doh3 = ["127.0.0.1:{web}"]
doh_json = true
"""
TLS = """\
[[policy.group]]
name = "workload"
spiffe = ["spiffe://lab/*"]
default = "deny"
deny_action = "refused"
allow = ["*.rsa.lab"]

[tls]
certificate = "{directory}/proxy.pem"
key = "{directory}/proxy.key"
client_auth = "request"
client_ca_file = "{directory}/ca.pem"

"""
PROXY_NAME = "proxy.lab"
"""What the certificate of a proxy in front of the lab is for, besides 127.0.0.1."""


@asynccontextmanager
async def open_lab(
    directory: Path, dot_port: int = 0, doh_port: int = 0, *, names: Sequence[str] = (SERVER_NAME, "127.0.0.1")
) -> AsyncIterator[Lab]:
    """A lab that serves while the block runs; port 0 takes a free one, `names` are what the certificate is for."""
    authority, faults, tree = Authority(), Faults(), Tree(int(time.time()))
    authority.write(directory)
    chain = authority.server(*names).write(directory, "server")
    authority.server(PROXY_NAME, "127.0.0.1").write(directory, "proxy")
    authority.client("workload", "spiffe://lab/workload").write(directory, "workload")
    (directory / "ads.txt").write_text(f"# names of the lab that are blocked, with all below them\n{BLOCKED}\n")
    responder = Responder(tree, faults)
    async with trio.open_nursery() as nursery:
        bound_dot = await listen(nursery, dot_port, _context(*chain, dot.ALPN), responder, dot.converse)
        bound_doh = await listen(nursery, doh_port, _context(*chain, doh.ALPN), responder, doh.converse)
        yield Lab(tree, faults, directory, bound_dot, bound_doh)
        nursery.cancel_scope.cancel()


def _context(certificate: Path, key: Path, alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols([alpn])
    return context
