"""Servers as their stamps tell of them: reached, and by the certificates that these pin."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from cryptography import x509
from dns_peers import QUICK, Bench, ask
from http2_peers import Http2
from msgspec.structs import replace

from dohproxy.config.load import parse
from dohproxy.errors import NoReachableUpstream
from dohproxy.upstream.doh import Doh
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.schemes import open_upstream


def lp(octets: bytes) -> bytes:
    return bytes((len(octets),)) + octets


def stamp(protocol: int, port: int, digest: bytes, path: bytes = b"") -> str:
    octets = bytes((protocol,)) + b"\7" + bytes(7) + lp(b"127.0.0.1:%d" % port) + lp(digest) + lp(b"dns.test")
    return "sdns://" + urlsafe_b64encode(octets + (lp(path) if path else b"")).rstrip(b"=").decode()


def body_digest(file: Path) -> bytes:
    """Of the authority that issued the server's certificate, as the lists of stamps have it."""
    return sha256(x509.load_pem_x509_certificate(file.read_bytes()).tbs_certificate_bytes).digest()


async def opened(bench: Bench, text: str) -> Dot | Doh:
    document = f'[[upstream]]\nname = "stamped"\nurl = "{text}"\nca_file = "{bench.certificates.ca}"\n'
    (upstream,) = parse(document, "stamps.toml", Path("/")).upstreams
    made = open_upstream(replace(upstream, name="stamped"), QUICK)
    assert isinstance(made, Dot | Doh)
    await bench.nursery.start(made.run)
    return made


async def test_dns_over_tls_by_a_stamp(bench: Bench) -> None:
    peer = await bench.serve()
    for digest in (b"", body_digest(bench.certificates.ca)):
        upstream = await opened(bench, stamp(3, peer.port, digest))
        with trio.fail_after(5):
            assert (await upstream.resolve(ask())).answer


async def test_dns_over_https_by_a_stamp(bench: Bench) -> None:
    context = bench.certificates.context(bench.certificates.good, alpn="h2")
    peer = await bench.serve(Http2(), context=context)
    upstream = await opened(bench, stamp(2, peer.port, body_digest(bench.certificates.ca), b"/q"))
    with trio.fail_after(5):
        assert (await upstream.resolve(ask())).answer


async def test_a_chain_without_what_the_stamp_pins_is_refused(bench: Bench) -> None:
    peer = await bench.serve()
    upstream = await opened(bench, stamp(3, peer.port, body_digest(bench.certificates.other_ca)))
    with trio.fail_after(5), pytest.raises(NoReachableUpstream, match="pinned"):
        await upstream.resolve(ask())
    assert peer.queries == []
