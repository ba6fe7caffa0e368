"""Oblivious DoH through a relay that keeps all that it sees."""

from __future__ import annotations

import builtins
import ssl
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio
from dns_peers import QUICK, Bench, Peer, ask, reply_to
from http2_peers import Http2, Request
from msgspec.structs import replace
from odoh_peers import MEDIA, OdohTarget, Relay, TargetServer

from dohproxy.errors import NoReachableUpstream, ResolveError, UpstreamFailed
from dohproxy.model import Transport
from dohproxy.protocol.odoh import MissingExtra
from dohproxy.upstream import odoh
from dohproxy.upstream.odoh import BadKey, Odoh
from dohproxy.upstream.schemes import open_upstream

LIMIT = 10.0


@dataclass
class World:
    """A target, a relay, and the upstream that is asked through both."""

    bench: Bench
    target: TargetServer
    relay: Relay
    target_peer: Peer
    relay_peer: Peer

    async def odoh(self, **fields: object) -> Odoh:
        bench = self.bench
        relay = replace(bench.settings(self.relay_peer.port, "https"), name="relay", path="/proxy?x=y", tls_name="127.0.0.1")
        relay = replace(relay, host="relay.test")
        made = open_upstream(bench.settings(self.target_peer.port, "https", relay=relay, **fields), QUICK)
        assert isinstance(made, Odoh)
        await bench.nursery.start(made.run)
        return made

    @property
    def seen(self) -> bytes:
        """All that the relay was told and told."""
        return b"".join(self.relay.seen)


@pytest.fixture
async def world(bench: Bench) -> World:
    context = bench.certificates.context(bench.certificates.good, alpn="h2")
    target = TargetServer()
    target_peer = await bench.serve(Http2(target.answer), context=context)
    trusting = ssl.create_default_context(cafile=bench.certificates.ca)
    trusting.set_alpn_protocols(["h2"])
    relay = Relay(trusting, {f"dns.test:{target_peer.port}": target_peer.port})
    return World(bench, target, relay, target_peer, await bench.serve(Http2(relay.answer), context=context))


async def test_the_target_answers_what_the_relay_cannot_read(world: World) -> None:
    upstream = await world.odoh()
    with trio.fail_after(LIMIT):
        for name in ("secret.example.", "another.example."):
            found = await upstream.resolve(ask(name))
            assert (found.answer[0].rdatas, found.transport, found.upstream) == ((b"\1\2\3\4",), Transport.ODOH, "peer")
    assert [b"\x06secret\x07example\0" in query for query in world.target.queries] == [True, False]
    assert [len(query) % 128 for query in world.target.queries] == [0, 0]
    assert len(world.relay.paths) == 2
    for plain in (b"secret", b"another", b"example", b"\1\2\3\4"):
        assert plain not in world.seen
    (path,) = set(world.relay.paths)
    assert path == b"/proxy?x=y&targethost=dns.test%%3A%d&targetpath=%%2Fdns-query" % world.target_peer.port
    assert world.target.key_requests == 1


async def test_a_key_that_is_configured_is_not_asked_for(world: World) -> None:
    upstream = await world.odoh(odoh_config=world.target.target.configs, addresses=())
    with trio.fail_after(LIMIT):
        assert (await upstream.resolve(ask())).answer
    assert world.target.key_requests == 0
    assert world.target_peer.connections == 1  # the relay's


async def test_a_key_that_is_another_by_now_is_asked_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odoh, "PAUSE", 0.0)
    upstream = await world.odoh()
    with trio.fail_after(LIMIT):
        assert (await upstream.resolve(ask())).answer
        world.target.target = OdohTarget()
        with pytest.raises(UpstreamFailed, match="another key by now"):
            await upstream.resolve(ask())
        assert (await upstream.resolve(ask())).answer
    assert world.target.key_requests == 2
    assert world.relay_peer.connections == 2


async def test_a_target_that_refuses_its_own_key_is_not_asked_all_the_time(world: World) -> None:
    upstream = await world.odoh()
    world.target.target.key_id = bytes(32)
    with trio.fail_after(LIMIT):
        with pytest.raises(UpstreamFailed, match="another key by now"):
            await upstream.resolve(ask())
        with pytest.raises(NoReachableUpstream, match="refused the key that it told"):
            await upstream.resolve(ask())
    assert world.target.key_requests == 1


async def test_no_key_no_question(world: World) -> None:
    world.target.target.configs = b"nonsense"
    upstream = await world.odoh()
    with trio.fail_after(LIMIT), pytest.raises(NoReachableUpstream, match="key is not to be had: odoh: the keys"):
        await upstream.resolve(ask())
    assert world.relay_peer.connections == 0


Answering = Callable[[Http2, int, Request], object]


@pytest.mark.parametrize(
    ("response", "why"),
    [
        ({"status": b"502"}, "HTTP status 502"),
        ({"media": b"application/dns-message"}, "no application/oblivious-dns-message"),
        ({"body": b"\2\0\x10" + bytes(16) + b"\0\x20" + bytes(32)}, "not sealed for this query"),
        ({"body": b""}, "no response"),
        ({"body": bytes(70000)}, "over 65535 octets"),
    ],
)
async def test_a_relay_that_answers_by_itself(world: World, response: dict[str, bytes], why: str) -> None:
    async def meddle(http: Http2, stream_id: int, request: Request) -> None:
        await http.respond(stream_id, **({"body": b"", "media": MEDIA} | response))

    world.relay_peer.manners = [Http2(meddle)]
    upstream = await world.odoh()
    assert why in str(await failure(upstream))


async def failure(upstream: Odoh) -> ResolveError:
    with trio.fail_after(LIMIT), pytest.raises(ResolveError) as caught:
        await upstream.resolve(ask())
    return caught.value


async def test_an_answer_to_another_question_is_refused(world: World) -> None:
    def swapped(query: bytes) -> bytes:
        return reply_to(query).replace(b"\x03www", b"\x03wwx", 1)

    async def lie(http: Http2, stream_id: int, request: Request) -> None:
        if request.headers[b":method"] == b"GET":
            await world.target.answer(http, stream_id, request)
            return
        query, seal = world.target.target.open(request.body)
        await http.respond(stream_id, seal(swapped(query)), media=MEDIA)

    world.target_peer.manners = [Http2(lie)]
    assert "another question" in str(await failure(await world.odoh()))


async def test_a_key_that_cannot_be_used_is_told_at_once(bench: Bench) -> None:
    relay = bench.settings(1, "https")
    with pytest.raises(BadKey, match="upstream peer: odoh_config"):
        open_upstream(bench.settings(1, "https", relay=relay, odoh_config=b"\0\0"), QUICK)


async def test_without_pyhpke_there_is_none(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("pyhpke"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=r"pip install dohproxy\[odoh\]"):
        open_upstream(bench.settings(1, "https", relay=bench.settings(1, "https")), QUICK)
