"""Who we are to a server and who it is to us: client certificates, authorities and pins, replaced while connections live."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from dns_peers import QUICK, Bench, Certificates, Peer, answer_all, ask

from dohproxy.config.settings import Forwarding
from dohproxy.errors import Disconnected, NoReachableUpstream
from dohproxy.identity.own import FileCertificate, KeyPair, OwnCertificate, SvidCertificate
from dohproxy.lab.certificates import Authority, Credentials
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.pool import Pool

WEB = "spiffe://prod.example/web"


class World(Bench):
    """A server that wants clients' certificates of `clients`, and tells whose it saw."""

    def __init__(self, nursery: trio.Nursery, directory: Path) -> None:
        super().__init__(nursery, Certificates(directory))
        self.directory = directory
        self.clients = Authority("clients")
        self.seen: list[str] = []

    def context(self, *, tls12: bool = False) -> ssl.SSLContext:
        context = self.certificates.context(self.certificates.good)
        context.load_verify_locations(cadata=self.clients.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        if tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        return context

    async def server(self, **how: bool) -> Peer:
        return await self.serve(self._answer, context=self.context(**how))

    async def _answer(self, peer: Peer, stream: trio.abc.Stream) -> None:
        assert isinstance(stream, trio.SSLStream)
        shown: dict[str, Any] = stream.getpeercert()
        self.seen.append(shown["subject"][0][0][1])
        await answer_all(peer, stream)

    def own(self, credentials: Credentials, complain: Callable[[str], None] = lambda _: None) -> FileCertificate:
        certificate, key = credentials.write(self.directory, "proxy")
        return FileCertificate(certificate, str(key), complain)

    async def dot_as(self, port: int, own: OwnCertificate | None, forwarding: Forwarding = QUICK, **fields: object) -> Dot:
        return await self._run(Dot(self.settings(port, **fields), forwarding, own=own))  # type: ignore[no-any-return]


@pytest.fixture
def world(nursery: trio.Nursery, tmp_path: Path) -> World:
    return World(nursery, tmp_path)


async def close_all(pool: Pool) -> None:
    for connection in pool._connections:
        connection.give_up()
    while pool._connections:
        await trio.lowlevel.checkpoint()


async def test_a_server_that_demands_a_certificate_gets_ours(world: World) -> None:
    peer = await world.server()
    dot = await world.dot_as(peer.port, world.own(world.clients.client("web", WEB)))
    assert (await dot.resolve(ask())).rcode == 0
    assert world.seen == ["web"]


async def test_a_new_certificate_is_for_new_connections_and_open_ones_stay(world: World) -> None:
    peer = await world.server()
    own = world.own(world.clients.client("before", WEB))
    dot = await world.dot_as(peer.port, own)
    await dot.resolve(ask())
    world.clients.client("after", WEB).write(world.directory, "proxy")
    await dot.resolve(ask())
    assert (world.seen, peer.open, peer.connections) == (["before"], 1, 1)
    await close_all(dot)
    await dot.resolve(ask())
    assert world.seen == ["before", "after"]
    assert dot.resumed == 0  # as somebody else one does not go on
    await close_all(dot)
    await dot.resolve(ask())
    assert (world.seen[2], dot.resumed) == ("after", 1)


async def test_a_session_of_the_old_identity_that_ends_late_is_not_resumed(world: World) -> None:
    peer = await world.server()
    dot = await world.dot_as(peer.port, world.own(world.clients.client("before", WEB)), Forwarding(connections=2, pipeline=1))
    old, _ = dot.begin(ask("one.example.")), await dot.resolve(ask("one.example."))
    assert await old.answer(trio.current_time() + 5) is not None
    world.clients.client("after", WEB).write(world.directory, "proxy")
    await close_all(dot)
    await dot.resolve(ask())
    assert (world.seen[-1], dot.resumed) == ("after", 0)


@pytest.mark.parametrize("tls12", [False, True])
async def test_a_server_that_refuses_our_certificate_says_so(world: World, tls12: bool) -> None:
    peer = await world.server(tls12=tls12)
    dot = await world.dot_as(peer.port, world.own(Authority("strangers").client("web", WEB)), allow_tls12=tls12)
    with pytest.raises(NoReachableUpstream, match=r"^the server refuses our certificate: unknown ca$"):
        await dot.resolve(ask())


async def test_a_server_that_wants_a_certificate_and_we_have_none(world: World) -> None:
    peer = await world.server()
    dot = await world.dot_as(peer.port, None)
    with pytest.raises(NoReachableUpstream, match=r"^the server wants a certificate of us, and none is configured$"):
        await dot.resolve(ask())


async def test_without_an_svid_no_connection_is_made(world: World) -> None:
    peer = await world.server()
    svid = SvidCertificate()
    dot = await world.dot_as(peer.port, svid)
    with pytest.raises(NoReachableUpstream, match=r"has not given us an X\.509-SVID yet"):
        await dot.resolve(ask())
    assert peer.connections == 0
    credentials = world.clients.client("svid", WEB)
    svid.replace(KeyPair(credentials.certificate, credentials.key))
    await dot.resolve(ask())
    assert world.seen == ["svid"]


async def test_authorities_replaced_in_their_file_count_for_new_connections(world: World) -> None:
    peer = await world.serve()
    dot = await world.dot_as(peer.port, None)
    await dot.resolve(ask())
    ca, good = world.certificates.ca, world.certificates.ca.read_bytes()
    ca.write_bytes(world.certificates.other_ca.read_bytes())
    await dot.resolve(ask())
    assert peer.connections == 1
    await close_all(dot)
    with pytest.raises(NoReachableUpstream, match="its certificate is refused"):  # nor is the session resumed
        await dot.resolve(ask())
    ca.write_bytes(good)
    await dot.resolve(ask())


async def test_a_broken_authorities_file_leaves_those_from_before(world: World) -> None:
    peer = await world.serve()
    said: list[str] = []
    dot = Dot(world.settings(peer.port), QUICK, complain=said.append)
    await world.nursery.start(dot.run)
    world.certificates.ca.write_bytes(b"")
    await dot.resolve(ask())
    assert said == [
        f"{world.certificates.ca}: no certificates to verify others with (not in PEM): what was there before stays in use"
    ]


def key_pin(file: Path, number: int = 0) -> bytes:
    key = x509.load_pem_x509_certificates(file.read_bytes())[number].public_key()
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


@pytest.mark.parametrize("which", ["leaf", "authority"])
async def test_a_pinned_key_anywhere_in_the_verified_chain_and_after_resumption(world: World, which: str) -> None:
    peer = await world.serve()
    pin = key_pin(world.certificates.good[0]) if which == "leaf" else key_pin(world.certificates.ca)
    dot = await world.dot_as(peer.port, None, pins=(bytes(32), pin))
    await dot.resolve(ask())
    await close_all(dot)
    await dot.resolve(ask())
    assert (peer.reused, dot.resumed) == ([False, True], 1)


async def test_a_key_that_is_not_pinned_gets_no_question(world: World) -> None:
    peer = await world.serve()
    dot = await world.dot_as(peer.port, None, pins=(key_pin(world.certificates.other_ca),))
    with pytest.raises(NoReachableUpstream, match=r"is pinned: they have sha256/[A-Za-z0-9+/]{43}=, sha256/"):
        await dot.resolve(ask())
    assert peer.queries == []


async def test_a_pinned_certificate_that_is_shown_but_verifies_nothing_does_not_count(world: World) -> None:
    """A server may add any certificate to what it shows: only the chain that was verified can be pinned."""
    certificate, key = world.certificates.good
    certificate.write_bytes(certificate.read_bytes() + world.certificates.other_ca.read_bytes())
    peer = await world.serve(context=world.certificates.context((certificate, key)))
    dot = await world.dot_as(peer.port, None, pins=(key_pin(world.certificates.other_ca),))
    with pytest.raises(NoReachableUpstream, match="is pinned"):
        await dot.resolve(ask())


async def test_pins_checked_again_after_resumption(world: World) -> None:
    """The chain of the session counts, for a server that resumes shows none."""
    peer = await world.serve()
    dot = await world.dot_as(peer.port, None)
    await dot.resolve(ask())
    await close_all(dot)
    dot._tls.pins = (bytes(32),)
    assert dot._tls._terms is not None
    assert dot._tls._terms.resumable is not None
    with pytest.raises(NoReachableUpstream, match="is pinned"):
        await dot.resolve(ask())
    assert len(peer.queries) == 1


async def test_secrets_are_logged_for_their_owner_alone(world: World) -> None:
    peer = await world.serve()
    log = world.directory / "keys.log"
    log.touch(0o644)
    dot = await world.dot_as(peer.port, None, Forwarding(key_log=log))
    await dot.resolve(ask())
    assert b"CLIENT_TRAFFIC_SECRET_0 " in log.read_bytes()
    assert log.stat().st_mode & 0o777 == 0o600


async def test_other_troubles_are_not_taken_for_refusals(world: World) -> None:
    async def hang_up(peer: Peer, stream: trio.abc.Stream) -> None:
        await trio.aclose_forcefully(stream.transport_stream)  # type: ignore[attr-defined]

    peer = await world.serve(hang_up, context=world.context())
    dot = await world.dot_as(peer.port, world.own(world.clients.client("web", WEB)))
    with pytest.raises(Disconnected):
        await dot.resolve(ask())
