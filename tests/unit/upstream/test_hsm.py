"""A client certificate whose key is in an HSM, shown over QUIC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from dns_peers import QUICK, Certificates, ask
from hsm import Token, the_token
from quic_peers import QuicBench

from dohproxy.errors import NoReachableUpstream
from dohproxy.identity.own import FileCertificate, KeyPair, SvidCertificate
from dohproxy.lab.certificates import Authority
from dohproxy.upstream.dot import Dot

pytest.importorskip("pkcs11")

MAKE: dict[str, Any] = {
    "tls-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "tls-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "tls-rsa": lambda: rsa.generate_private_key(65537, 2048),
}


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made = {label: make() for label, make in MAKE.items()}
    for label, key in made.items():
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        the_token().import_key(label, pem, tmp_path_factory.mktemp("keys"))
    return made


@pytest.fixture
async def bench(nursery: trio.Nursery, tmp_path: Path) -> AsyncIterator[QuicBench]:
    yield QuicBench(nursery, Certificates(tmp_path))


def own(token: Token, label: str, key: Any, directory: Path) -> FileCertificate:
    certificate, _ = Authority().client("hsm", "spiffe://test.example/hsm", key=key).write(directory, label)
    return FileCertificate(certificate, token.uri(label))


@pytest.mark.parametrize("label", MAKE)
async def test_a_handshake_signed_in_the_hsm(bench: QuicBench, keys: dict[str, Any], label: str, tmp_path: Path) -> None:
    peer = await bench.quic(requires_certificate=True)
    doq = await bench.doq(peer.port, own=own(the_token(), label, keys[label], tmp_path))
    assert (await doq.resolve(ask())).rcode == 0
    assert peer.clients[-1].quic.tls._peer_certificate.public_key() == keys[label].public_key()


async def test_a_key_that_is_gone_is_told(bench: QuicBench, keys: dict[str, Any], tmp_path: Path) -> None:
    certificate, _ = Authority().client("hsm", key=keys["tls-p256"]).write(tmp_path, "gone")
    svid = SvidCertificate()
    svid.replace(KeyPair(certificate.read_bytes(), the_token().uri("gone")))
    peer = await bench.quic(requires_certificate=True)
    doq = await bench.doq(peer.port, own=svid)
    with pytest.raises(NoReachableUpstream, match="no key gone in the HSM"):
        await doq.resolve(ask())


async def test_a_key_in_an_hsm_is_not_for_tcp(bench: QuicBench, keys: dict[str, Any], tmp_path: Path) -> None:
    peer = await bench.serve()
    dot = Dot(bench.settings(peer.port), QUICK, own=own(the_token(), "tls-p256", keys["tls-p256"], tmp_path))
    await bench.nursery.start(dot.run)
    with pytest.raises(NoReachableUpstream, match="cannot be used with TLS over TCP"):
        await dot.resolve(ask())
