"""Pins of a server's keys hold on every encrypted transport, and for sessions that are resumed."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dns_peers import QUICK, Certificates, Peer, ask
from http2_peers import Http2
from msgspec.structs import replace
from quic_peers import QuicBench, QuicPeer

from dohproxy.errors import NoReachableUpstream
from dohproxy.upstream.doh import Doh
from dohproxy.upstream.doh3 import Doh3
from dohproxy.upstream.doq import Doq
from dohproxy.upstream.dot import Dot

KINDS = {"tls": Dot, "https": Doh, "h3": Doh3, "quic": Doq}
BRIEF = replace(QUICK, idle_timeout=0.05)


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> QuicBench:
    return QuicBench(nursery, certificates)


async def server(bench: QuicBench, scheme: str) -> Peer | QuicPeer:
    if scheme in ("h3", "quic"):
        return await bench.quic(http=scheme == "h3")
    if scheme == "https":
        return await bench.serve(Http2(), context=bench.certificates.context(bench.certificates.good, alpn="h2"))
    return await bench.serve()


async def pinned(bench: QuicBench, scheme: str, port: int, *pins: bytes) -> Dot | Doh | Doh3 | Doq:
    upstream: Dot | Doh | Doh3 | Doq = KINDS[scheme](bench.settings(port, scheme, pins=pins), BRIEF)
    await bench.nursery.start(upstream.run)
    return upstream


def pin(file: Path) -> bytes:
    key = x509.load_pem_x509_certificates(file.read_bytes())[0].public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


@pytest.mark.parametrize("which", ["leaf", "authority"])
@pytest.mark.parametrize("scheme", KINDS)
async def test_a_pin_that_fits_does_so_again_when_the_session_is_resumed(bench: QuicBench, scheme: str, which: str) -> None:
    peer = await server(bench, scheme)
    fits = pin(bench.certificates.good[0] if which == "leaf" else bench.certificates.ca)
    upstream = await pinned(bench, scheme, peer.port, bytes(32), fits)
    for resumed in range(3):
        assert (await upstream.resolve(ask())).rcode == 0
        assert upstream.resumed == resumed
        with trio.fail_after(10):
            while "no connection" not in repr(upstream):  # noqa: ASYNC110 - connections tell nobody
                await trio.sleep(0.01)


@pytest.mark.parametrize("scheme", KINDS)
async def test_a_pin_that_does_not_fit_has_no_question_leave(bench: QuicBench, scheme: str) -> None:
    peer = await server(bench, scheme)
    upstream = await pinned(bench, scheme, peer.port, pin(bench.certificates.other_ca))
    for _ in range(2):
        with pytest.raises(NoReachableUpstream, match=r"pinned.* sha256/[A-Za-z0-9+/]{43}=, sha256/"):
            await upstream.resolve(ask())
    assert peer.queries == []
