"""Our upstreams against Debian's unbound as a DoT, DoH, TCP and UDP server with local data of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from dns_peers import QUICK, Certificates, ask
from msgspec.structs import replace
from programs import Running, free_ports, need

from dohproxy.config.settings import Forwarding, Upstream
from dohproxy.errors import UpstreamFailed
from dohproxy.model import Answer
from dohproxy.resolve.selected import Group
from dohproxy.upstream.doh import Doh
from dohproxy.upstream.dot import Dot
from dohproxy.upstream.plain import Tcp, Udp
from dohproxy.wire import names

LIMIT = 20.0
"""Seconds that no test of this file comes near, unless something hangs."""

_CONFIG = """\
server:
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: "{directory}/unbound.pid"
  use-syslog: no
  do-ip6: no
  interface: 127.0.0.1@{plain}
  interface: 127.0.0.1@{dot}
  interface: 127.0.0.1@{doh}
  tls-port: {dot}
  https-port: {doh}
  tls-service-pem: "{certificate}"
  tls-service-key: "{key}"
  incoming-num-tcp: 100
  http-max-streams: 50
  access-control: 127.0.0.0/8 allow
  local-zone: "example." static
  local-data: "www.example. 300 IN A 192.0.2.1"
  local-zone: "many.example." redirect
  local-data: "many.example. 60 IN A 192.0.2.2"
  local-zone: "refused.test." refuse
  local-zone: "large.example." static
{large}
remote-control:
  control-enable: no
"""


class Server(Running):
    def __init__(self, directory: Path, certificates: Certificates) -> None:
        need("unbound")
        self.plain, self.dot, self.doh = free_ports(3)
        certificate, key = certificates.good
        large = "\n".join(f"""  local-data: 'large.example. 60 IN TXT "{number:0200}"'""" for number in range(200))
        config = directory / "unbound.conf"
        config.write_text(
            _CONFIG.format(
                directory=directory,
                plain=self.plain,
                dot=self.dot,
                doh=self.doh,
                certificate=certificate,
                key=key,
                large=large,
            )
        )
        super().__init__(["unbound", "-d", "-c", config], directory / "unbound.log", [self.plain, self.dot, self.doh])


class Peers:
    """The server, and the ways to it."""

    def __init__(self, server: Server, certificates: Certificates) -> None:
        self.server = server
        self.certificates = certificates

    def upstream(self, kind: str, forwarding: Forwarding = QUICK) -> Dot | Doh | Tcp | Udp:
        make, scheme, port, method = {
            "dot": (Dot, "tls", self.server.dot, "POST"),
            "doh-post": (Doh, "https", self.server.doh, "POST"),
            "doh-get": (Doh, "https", self.server.doh, "GET"),
            "tcp": (Tcp, "tcp", self.server.plain, ""),
            "udp": (Udp, "udp", self.server.plain, ""),
        }[kind]
        settings = Upstream(
            name=kind,
            scheme=scheme,
            host="dns.test",
            port=port,
            tls_name="dns.test",
            ca_file=self.certificates.ca,
            addresses=("127.0.0.1",),
            method=method,
        )
        return make(settings, forwarding)


KINDS = ["dot", "doh-post", "doh-get", "tcp", "udp"]


@pytest.fixture(scope="module")
def peers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peers]:
    directory = tmp_path_factory.mktemp("unbound")
    certificates = Certificates(directory)
    with Server(directory, certificates) as server:
        yield Peers(server, certificates)


@asynccontextmanager
async def running(*upstreams: Dot | Doh | Tcp | Udp | Group) -> AsyncIterator[None]:
    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as nursery:
            for upstream in upstreams:
                await nursery.start(upstream.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", KINDS)
async def test_answers(peers: Peers, kind: str) -> None:
    upstream = peers.upstream(kind)
    async with running(upstream):
        answer = await upstream.resolve(ask("www.example."))
        assert (answer.rcode, answer.answer[0].ttl, answer.answer[0].rdatas) == (0, 300, (bytes((192, 0, 2, 1)),))
        assert (await upstream.resolve(ask("none.example."))).rcode == 3
        assert (await upstream.resolve(ask("x.refused.test."))).rcode == 5


@pytest.mark.parametrize("kind", ["dot", "doh-post", "doh-get", "tcp"])
async def test_five_hundred_at_once(peers: Peers, kind: str) -> None:
    upstream = peers.upstream(kind, replace(QUICK, pipeline=128))
    answers: list[Answer] = []

    async def one(number: int) -> None:
        answers.append(await upstream.resolve(ask(f"n{number}.many.example.", seconds=LIMIT)))

    async with running(upstream), trio.open_nursery() as asking:
        for number in range(500):
            asking.start_soon(one, number)
    assert {answer.answer[0].owner for answer in answers} == {names.from_text(f"n{n}.many.example.") for n in range(500)}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_large_answer_is_whole(peers: Peers, kind: str) -> None:
    upstream = peers.upstream(kind)
    async with running(upstream):
        query = ask("large.example.")
        answer = await upstream.resolve(replace(query, question=replace(query.question, qtype=16)))
    assert len(answer.answer[0].rdatas) == 200


@pytest.mark.parametrize("kind", ["dot", "doh-post", "doh-get"])
async def test_an_idle_connection_closes_and_the_next_resumes(peers: Peers, kind: str) -> None:
    upstream = peers.upstream(kind, replace(QUICK, idle_timeout=0.05))
    assert isinstance(upstream, Dot | Doh)
    async with running(upstream):
        await upstream.resolve(ask("www.example."))
        while "no connection" not in repr(upstream):  # noqa: ASYNC110 - time is what ends it
            await trio.sleep(0.01)
        await upstream.resolve(ask("www.example."))
        assert upstream.resumed == 1


@pytest.mark.parametrize("kind", ["dot", "doh-post"])
async def test_a_restart_costs_a_retry_and_no_error(peers: Peers, kind: str) -> None:
    group = Group((peers.upstream(kind),), QUICK)
    async with running(group):
        await group.resolve(ask("www.example."))
        await trio.to_thread.run_sync(peers.server.stop)
        await trio.to_thread.run_sync(peers.server.start)
        assert (await group.resolve(ask("www.example."))).answer


async def test_a_refusal_of_one_is_made_good_by_another(peers: Peers) -> None:
    first, second = peers.upstream("dot"), peers.upstream("doh-get")
    group = Group((first, second), QUICK)
    async with running(group):
        with pytest.raises(UpstreamFailed, match="REFUSED from dot; REFUSED from doh-get"):
            await group.resolve(ask("x.refused.test."))
