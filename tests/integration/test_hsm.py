"""The proxy as a process whose key is in SoftHSM2, and an upstream on quic-go that demands to see who it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dns_peers import Certificates
from hsm import the_token
from programs import execute
from quic_go_peer import QuicGo, build
from real_peers import LISTEN, Proxy, ask

from dohproxy.lab.certificates import Authority, PrivateKey

pytest.importorskip("pkcs11")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("quic-go"))


@pytest.mark.parametrize("scheme", ["quic", "h3"])
@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_a_key_that_never_leaves_its_module(program: Path, tmp_path: Path, scheme: str, kind: str) -> None:
    label = f"{scheme}-{kind}"
    key: PrivateKey = ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else rsa.generate_private_key(65537, 2048)
    the_token().import_key(label, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), tmp_path)
    authority, server = Authority("clients"), Certificates(tmp_path)
    certificate, written = authority.client("proxy", "spiffe://prod.example/proxy", key=key).write(tmp_path, "proxy")
    written.unlink()
    with QuicGo(program, server.good, "-clients", authority.write(tmp_path, "clients")) as peer:
        port = peer.doq_port if scheme == "quic" else peer.doh3_port
        config = (
            f'{LISTEN}[dnssec]\nmode = "off"\n[[upstream]]\nurl = "{scheme}://127.0.0.1:{port}"\ntls_name = "dns.test"\n'
            f'ca_file = "{server.ca}"\nclient_certificate = "{certificate}"\nclient_key = "{the_token().uri(label)}"\n'
        )
        with Proxy(tmp_path, config) as proxy:
            assert ask(proxy.port, "www.example.").rcode() == 0
            good = execute(*proxy.command[:3], "check", proxy.config)
            assert "good" in good
