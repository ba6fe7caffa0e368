from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from aioquic.quic.packet import QuicProtocolVersion
from dns_peers import QUICK, Certificates, ask, framed, reply_to
from msgspec.structs import replace
from quic_peers import Asked, QuicBench, answer, silence
from workloads import Unreadable

from dohproxy.errors import Disconnected, NoReachableUpstream, ResolveError, UpstreamFailed
from dohproxy.identity.own import FileCertificate
from dohproxy.lab.certificates import Authority
from dohproxy.model import Transport
from dohproxy.protocol.doq import DoqError
from dohproxy.upstream.doq import Doq

BRIEF = replace(QUICK, idle_timeout=0.1)
LIMIT = 10.0
"""Seconds that no test of this file comes near, unless something hangs."""


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> QuicBench:
    return QuicBench(nursery, certificates)


async def failure(upstream: Doq, seconds: float = 5.0) -> ResolveError:
    with trio.fail_after(LIMIT), pytest.raises(ResolveError) as caught:
        await upstream.resolve(ask(seconds=seconds))
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(LIMIT):
        while not condition():  # noqa: ASYNC110 - there is no event for what a peer sees
            await trio.sleep(0.002)


async def idle(upstream: Doq) -> None:
    """Until its connections have ended."""
    await until(lambda: "no connection" in repr(upstream))


async def test_an_answer_over_quic(bench: QuicBench) -> None:
    peer = await bench.quic()
    doq = await bench.doq(peer.port)
    found = await doq.resolve(ask())
    assert (found.answer[0].rdatas, found.transport, found.upstream) == ((b"\1\2\3\4",), Transport.DOQ, "peer")
    (query,) = peer.queries
    assert query[:4] == b"\0\0\x01\x10"  # ID 0 (RFC 9250 4.2.1), RD, CD
    assert len(query) == 128
    assert peer.largest <= 1200


async def test_many_questions_share_a_connection(bench: QuicBench) -> None:
    peer = await bench.quic()
    doq = await bench.doq(peer.port)
    await doq.resolve(ask())
    async with trio.open_nursery() as asking:
        for number in range(50):
            asking.start_soon(doq.resolve, ask(f"n{number}.example."))
    assert (len(peer.queries), len(peer.handshakes)) == (51, 1)


@pytest.mark.parametrize("connections", [1, 4])
async def test_two_thousand_at_once_over_a_limit_of_a_hundred(bench: QuicBench, connections: int) -> None:
    under_way: list[int] = []

    def count(asked: Asked) -> None:
        under_way.append(len(asked.client.quic._streams))
        answer(asked)

    peer = await bench.quic(count, streams=100)
    doq = await bench.doq(peer.port, replace(QUICK, connections=connections, pipeline=2000 // connections, connect_timeout=9.0))
    names: set[bytes] = set()

    async def one(number: int) -> None:
        names.add((await doq.resolve(ask(f"n{number}.example.", 9.0))).answer[0].owner)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as asking:
            for number in range(2000):
                asking.start_soon(one, number)
    assert len(names) == 2000
    assert len(peer.clients) <= connections
    assert max(under_way) <= 100


async def test_a_cancelled_question_is_taken_back(bench: QuicBench) -> None:
    peer = await bench.quic(silence)
    doq = await bench.doq(peer.port)
    exchange = doq.begin(ask())
    await until(lambda: len(peer.queries) == 1)
    exchange.drop()
    await until(lambda: bool(peer.cancelled))
    assert peer.cancelled[0] == (0, DoqError.REQUEST_CANCELLED)
    peer.answering = answer
    assert (await doq.resolve(ask())).rcode == 0
    assert len(peer.handshakes) == 1


def _other_question(asked: Asked) -> None:
    asked.reply(reply_to(asked.query.replace(b"www", b"ftp")))


def _reset(asked: Asked) -> None:
    asked.client.quic.reset_stream(asked.stream, DoqError.INTERNAL_ERROR)


def _close(asked: Asked) -> None:
    asked.client.quic.close(DoqError.NO_ERROR)


@pytest.mark.parametrize(
    ("manner", "kind", "words"),
    [
        (_other_question, UpstreamFailed, "another question"),
        (_reset, Disconnected, "reset the stream"),
        (_close, Disconnected, "closed"),
        (lambda asked: asked.client.quic.close(DoqError.PROTOCOL_ERROR), UpstreamFailed, "error 0x2"),
        (lambda asked: asked.send(framed(reply_to(asked.query, id=b"\0\1"))), UpstreamFailed, "ID other than 0"),
        (lambda asked: asked.send(framed(reply_to(asked.query)) * 2), UpstreamFailed, "more than one message"),
        (lambda asked: asked.send(framed(reply_to(asked.query))[:-1]), UpstreamFailed, "amid its message"),
        (lambda asked: asked.send(b"\xff\xff" + bytes(65536)), UpstreamFailed, "more than one message"),
    ],
)
async def test_what_is_no_answer(
    bench: QuicBench, manner: Callable[[Asked], None], kind: type[ResolveError], words: str
) -> None:
    peer = await bench.quic(manner)
    doq = await bench.doq(peer.port)
    error = await failure(doq)
    assert (type(error), words in str(error)) == (kind, True), error
    peer.answering = answer
    assert (await doq.resolve(ask())).rcode == 0


async def test_an_answer_in_pieces(bench: QuicBench) -> None:
    def piecemeal(asked: Asked) -> None:
        reply = framed(reply_to(asked.query))
        asked.send(reply[:1], end=False)
        asked.send(reply[1:20], end=False)
        asked.send(reply[20:])

    peer = await bench.quic(piecemeal)
    doq = await bench.doq(peer.port)
    assert (await doq.resolve(ask())).rcode == 0


async def test_a_closing_connection_fails_only_what_was_on_it(bench: QuicBench) -> None:
    peer = await bench.quic(silence)
    doq = await bench.doq(peer.port)
    exchange = doq.begin(ask())
    await until(lambda: len(peer.queries) == 1)
    peer.clients[0].quic.close(DoqError.NO_ERROR)
    peer.flush()
    with pytest.raises(Disconnected):
        await exchange.answer(trio.current_time() + 5)
    peer.answering = answer
    assert (await doq.resolve(ask())).rcode == 0
    assert len(peer.handshakes) == 2


# Trust


async def test_the_certificate_must_be_for_the_name(bench: QuicBench) -> None:
    peer = await bench.quic(pair=bench.certificates.stranger)
    doq = await bench.doq(peer.port)
    error = await failure(doq)
    assert isinstance(error, NoReachableUpstream)
    assert "it is not for dns.test" in str(error)
    assert peer.queries == []


async def test_an_address_in_the_certificate(bench: QuicBench) -> None:
    peer = await bench.quic()
    assert (await (await bench.doq(peer.port, tls_name="127.0.0.1")).resolve(ask())).rcode == 0
    error = await failure(await bench.doq(peer.port, tls_name="127.0.0.2"))
    assert "it is not for 127.0.0.2" in str(error)


async def test_an_unknown_authority(bench: QuicBench) -> None:
    peer = await bench.quic()
    error = await failure(await bench.doq(peer.port, ca_file=bench.certificates.other_ca))
    assert isinstance(error, NoReachableUpstream)
    assert "certificate is refused" in str(error)
    error = await failure(await bench.doq(peer.port, ca_file=None))  # the system's
    assert isinstance(error, NoReachableUpstream)


async def test_an_expired_certificate(bench: QuicBench) -> None:
    peer = await bench.quic(pair=bench.certificates.expired)
    assert "expired" in str(await failure(await bench.doq(peer.port)))
    assert (await (await bench.doq(peer.port, any_date=True)).resolve(ask())).rcode == 0


async def test_an_unreadable_certificate(bench: QuicBench) -> None:
    peer = await bench.quic()
    peer._configuration.certificate = Unreadable(peer._configuration.certificate)
    error = await failure(await bench.doq(peer.port))
    assert isinstance(error, NoReachableUpstream)
    assert "1 is not a valid X509 version" in str(error)


async def test_a_clients_certificate_is_no_servers(bench: QuicBench, tmp_path: Path) -> None:
    authority = Authority()
    pair = authority.client("dns.test", "dns.test").write(tmp_path, "client")
    peer = await bench.quic(pair=pair)
    error = await failure(await bench.doq(peer.port, ca_file=authority.write(tmp_path)))
    assert "not for servers" in str(error)


async def test_pins(bench: QuicBench) -> None:
    from base64 import b64encode
    from hashlib import sha256

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    authority = x509.load_pem_x509_certificate(bench.certificates.ca.read_bytes())
    pin = sha256(authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    peer = await bench.quic()
    assert (await (await bench.doq(peer.port, pins=(bytes(32), pin))).resolve(ask())).rcode == 0
    error = await failure(await bench.doq(peer.port, pins=(bytes(32),)))
    assert isinstance(error, NoReachableUpstream)
    assert f"sha256/{b64encode(pin).decode()}" in str(error)  # in its case, to copy
    assert len(peer.queries) == 1


async def test_a_client_certificate(bench: QuicBench, tmp_path: Path) -> None:
    authority = Authority()
    first = authority.client("one", "spiffe://test.example/one").write(tmp_path, "own")
    peer = await bench.quic(requires_certificate=True)
    error = await failure(await bench.doq(peer.port))
    assert isinstance(error, NoReachableUpstream)
    assert "wants a certificate" in str(error)
    assert peer.queries == []
    doq = await bench.doq(peer.port, BRIEF, own=FileCertificate(first[0], str(first[1])))
    await doq.resolve(ask())
    shown = peer.clients[-1].quic.tls._peer_certificate
    assert shown is not None
    authority.client("two", "spiffe://test.example/two").write(tmp_path, "own")
    await doq.resolve(ask())  # the connection stays
    await idle(doq)
    await doq.resolve(ask())
    assert peer.clients[-1].quic.tls._peer_certificate != shown
    assert not peer.handshakes[-1].session_resumed


# The first packets


async def test_retry(bench: QuicBench) -> None:
    peer = await bench.quic(retry=True)
    doq = await bench.doq(peer.port)
    assert (await doq.resolve(ask())).rcode == 0


async def test_version_negotiation(bench: QuicBench) -> None:
    peer = await bench.quic(versions=[QuicProtocolVersion.VERSION_2])
    doq = await bench.doq(peer.port)
    assert (await doq.resolve(ask())).rcode == 0
    assert peer.clients[-1].quic._version == QuicProtocolVersion.VERSION_2
