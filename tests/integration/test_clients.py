"""Other people's clients ask the proxy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from programs import execute, need
from real_peers import Proxy, World


def dig(proxy: Proxy, *arguments: str) -> str:
    need("dig")
    return execute("dig", "@127.0.0.1", "-p", str(proxy.port), "+tries=1", "+timeout=10", *arguments)


def kdig(proxy: Proxy, *arguments: str) -> str:
    need("kdig")
    return execute("kdig", "@127.0.0.1", "-p", str(proxy.port), "+retry=0", "+timeout=10", *arguments)


def delv(proxy: Proxy, world: World, directory: Path, *arguments: str) -> str:
    need("delv")
    tag, algorithm, digest_type, digest = world.zones.anchor.split()[3:]
    anchors = directory / "anchors"
    anchors.write_text(f'trust-anchors {{ . static-ds {tag} {algorithm} {digest_type} "{digest}"; }};\n')
    return execute("delv", "@127.0.0.1", "-p", str(proxy.port), "-a", anchors, "+root=.", *arguments)


def test_dig_sees_a_secure_answer(proxy: Proxy) -> None:
    said = dig(proxy, "www.rsa.peers", "+dnssec")
    assert "status: NOERROR" in said
    assert re.search(r";; flags: qr rd ra ad;", said)
    assert re.search(r"www\.rsa\.peers\.\s+\d+\s+IN\s+RRSIG\s+A 8 3 300", said)


def test_dig_without_edns_gets_none(proxy: Proxy) -> None:
    said = dig(proxy, "www.rsa.peers", "+noedns", "+noadflag")
    assert "flags: qr rd ra;" in said and "OPT PSEUDOSECTION" not in said and "192.0.2.2" in said


def test_dig_is_told_why(proxy: Proxy) -> None:
    said = dig(proxy, "www.expired.peers")
    assert "status: SERVFAIL" in said and "EDE: 7 (Signature Expired)" in said and "expired.peers." in said


def test_dig_asks_again_by_tcp_what_is_too_large(proxy: Proxy) -> None:
    assert "Truncated, retrying in TCP mode" in dig(proxy, "large.rsa.peers", "TXT")
    said = dig(proxy, "large.rsa.peers", "TXT", "+ignore")
    assert re.search(r"flags: qr tc rd ra", said) and "ANSWER: 0" in said


def test_dig_keeps_a_tcp_connection(proxy: Proxy) -> None:
    said = dig(proxy, "+tcp", "+keepopen", "www.rsa.peers", "www.p256.peers", "nothing.p256.peers")
    assert said.count("status: ") == 3 and said.count("(TCP)") == 3


def test_dig_sees_its_own_capitals(proxy: Proxy) -> None:
    assert re.search(r";wWw\.RsA\.pEErs\.\s+IN\s+A", dig(proxy, "wWw.RsA.pEErs"))


def test_kdig_sees_a_secure_answer(proxy: Proxy) -> None:
    said = kdig(proxy, "www.ed25519.peers", "+dnssec", "+padding")
    assert "status: NOERROR" in said and re.search(r";; Flags: qr rd ra ad;", said)


def test_kdig_by_tcp(proxy: Proxy) -> None:
    said = kdig(proxy, "+tcp", "+keepopen", "large.p256.peers", "TXT", "www.rsa.peers", "A")
    assert said.count("status: NOERROR") == 2


@pytest.mark.parametrize(
    "name", ["www.rsa.peers", "www.p256.peers", "www.p384.peers", "www.ed25519.peers", "far.rsa.peers", "any.wild.p256.peers"]
)
def test_delv_validates_through_the_proxy(proxy: Proxy, world: World, tmp_path: Path, name: str) -> None:
    assert "; fully validated" in delv(proxy, world, tmp_path, name)


@pytest.mark.parametrize(("name", "rdtype"), [("nothing.rsa.peers", "A"), ("www.p256.peers", "MX")])
def test_delv_validates_denial_through_the_proxy(proxy: Proxy, world: World, tmp_path: Path, name: str, rdtype: str) -> None:
    said = delv(proxy, world, tmp_path, name, rdtype)
    assert "; negative response, fully validated" in said


def test_delv_sees_what_is_insecure(proxy: Proxy, world: World, tmp_path: Path) -> None:
    assert "; unsigned answer" in delv(proxy, world, tmp_path, "www.insecure.peers")


def test_delv_sees_for_itself_what_is_bogus(proxy: Proxy, world: World, tmp_path: Path) -> None:
    assert "fully validated" not in delv(proxy, world, tmp_path, "changed.broken.peers")
