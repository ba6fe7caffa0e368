"""DoQ and DoH over HTTP/3 with an implementation of QUIC that shares nothing with ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import pytest
import trio
from dns_peers import QUICK, Certificates, ask
from msgspec.structs import replace
from programs import wait_until
from quic_go_peer import QuicGo, build
from quic_peers import QuicBench
from real_peers import TLS_NAME, Proxy, Unbound, World
from real_peers import ask as ask_at

from dohproxy.errors import NoReachableUpstream
from dohproxy.identity.own import FileCertificate
from dohproxy.lab.certificates import Authority
from dohproxy.model import Transport
from dohproxy.upstream.doh3 import Doh3
from dohproxy.upstream.doq import Doq

LIMIT = 10.0
"""Seconds that no test of this file comes near, unless something hangs."""
BRIEF = replace(QUICK, idle_timeout=0.2)

Kind = type[Doq] | type[Doh3]
BOTH = pytest.mark.parametrize("kind", [Doq, Doh3])


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("quic-go"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def server(program: Path, certificates: Certificates) -> Iterator[QuicGo]:
    with QuicGo(program, certificates.good) as running:
        yield running


@pytest.fixture
def bench(nursery: trio.Nursery, certificates: Certificates) -> QuicBench:
    return QuicBench(nursery, certificates)


def port_of(server: QuicGo, kind: Kind) -> int:
    return server.doq_port if kind is Doq else server.doh3_port


async def start(
    bench: QuicBench, server: QuicGo, kind: Kind, own: FileCertificate | None = None, **fields: object
) -> Doq | Doh3:
    forwarding = fields.pop("forwarding", QUICK)
    settings = bench.settings(port_of(server, kind), "quic" if kind is Doq else "h3", **fields)
    upstream = kind(settings, forwarding, own=own)  # type: ignore[arg-type]
    await bench.nursery.start(upstream.run)
    return upstream


async def ended(upstream: Doq | Doh3) -> None:
    with trio.fail_after(LIMIT):
        while "no connection" not in repr(upstream):  # noqa: ASYNC110 - connections tell nobody
            await trio.sleep(0.01)


@BOTH
async def test_an_answer(bench: QuicBench, server: QuicGo, kind: Kind) -> None:
    upstream = await start(bench, server, kind)
    found = await upstream.resolve(ask())
    assert found.answer[0].rdatas == (b"\xc0\0\2\1",)
    assert found.transport is (Transport.DOQ if kind is Doq else Transport.DOH3)


async def test_get_and_age(bench: QuicBench, server: QuicGo) -> None:
    found = await (await start(bench, server, Doh3, method="GET")).resolve(ask())
    assert 6.0 < trio.current_time() - found.born < 9.0


async def test_a_path_that_is_not_there(bench: QuicBench, server: QuicGo) -> None:
    with pytest.raises(Exception, match="HTTP status 400"):
        await (await start(bench, server, Doh3, path="/elsewhere")).resolve(ask())


@BOTH
async def test_two_thousand_at_once_over_a_limit_of_a_hundred(bench: QuicBench, server: QuicGo, kind: Kind) -> None:
    upstream = await start(bench, server, kind, forwarding=replace(QUICK, connections=1, pipeline=2000, connect_timeout=9.0))
    names: set[bytes] = set()

    async def one(number: int) -> None:
        names.add((await upstream.resolve(ask(f"n{number}.example.", 9.0))).answer[0].owner)

    with trio.fail_after(LIMIT):
        async with trio.open_nursery() as asking:
            for number in range(2000):
                asking.start_soon(one, number)
    assert len(names) == 2000


@BOTH
async def test_cancelled_questions_leave_room(bench: QuicBench, server: QuicGo, kind: Kind) -> None:
    upstream = await start(bench, server, kind, forwarding=replace(QUICK, connections=1, pipeline=2000))
    await upstream.resolve(ask())
    for number in range(300):  # more than may be under way at once
        upstream.begin(ask(f"n{number}.example.")).drop()
    with trio.fail_after(LIMIT):
        assert (await upstream.resolve(ask())).rcode == 0


@BOTH
async def test_resumption_and_early_questions(bench: QuicBench, server: QuicGo, kind: Kind) -> None:
    upstream = await start(bench, server, kind, forwarding=BRIEF, zero_rtt=True)
    for _ in range(3):
        assert (await upstream.resolve(ask())).rcode == 0
        await ended(upstream)
    assert (upstream.resumed, upstream.early) == (2, 2)
    upstream = await start(bench, server, kind, forwarding=BRIEF)
    for _ in range(2):
        assert (await upstream.resolve(ask())).rcode == 0
        await ended(upstream)
    assert (upstream.resumed, upstream.early) == (1, 0)


@BOTH
async def test_a_retry_also_of_an_early_question(
    bench: QuicBench, program: Path, certificates: Certificates, kind: Kind
) -> None:
    with QuicGo(program, certificates.good, "-retry") as server:
        upstream = await start(bench, server, kind, forwarding=BRIEF, zero_rtt=True)
        for _ in range(2):
            assert (await upstream.resolve(ask())).rcode == 0
            await ended(upstream)


@BOTH
async def test_a_client_certificate_is_required(
    bench: QuicBench, program: Path, certificates: Certificates, kind: Kind, tmp_path: Path
) -> None:
    authority = Authority()
    ca_file = authority.write(tmp_path)
    pair = authority.client("proxy", "spiffe://test.example/proxy").write(tmp_path, "own")
    stranger = Authority("somebody else").client("proxy").write(tmp_path, "stranger")
    with QuicGo(program, certificates.good, "-clients", ca_file) as server:
        upstream = await start(bench, server, kind, FileCertificate(pair[0], str(pair[1])), forwarding=BRIEF)
        for _ in range(2):
            assert (await upstream.resolve(ask())).rcode == 0
            await ended(upstream)
        assert upstream.resumed == 1
        with pytest.raises(NoReachableUpstream, match="certificate"):
            await (await start(bench, server, kind)).resolve(ask())
        with pytest.raises(NoReachableUpstream, match="refuses our certificate"):
            await (await start(bench, server, kind, FileCertificate(stranger[0], str(stranger[1])))).resolve(ask())


@BOTH
async def test_whom_we_trust(bench: QuicBench, server: QuicGo, kind: Kind) -> None:
    assert (await (await start(bench, server, kind, tls_name="127.0.0.1")).resolve(ask())).rcode == 0
    for wrong in ({"tls_name": "other.test"}, {"ca_file": bench.certificates.other_ca}, {"pins": (bytes(32),)}):
        with pytest.raises(NoReachableUpstream, match="refused"):
            await (await start(bench, server, kind, **wrong)).resolve(ask())


PINNED = """
[listen]
udp = ["127.0.0.1:PORT"]
tcp = ["127.0.0.1:PORT"]
[dnssec]
mode = "off"
[[upstream]]
url = "{scheme}://127.0.0.1:{port}"
tls_name = "dns.test"
ca_file = "{ca}"
pins = ["{pin}"]
"""


@BOTH
def test_a_pin_as_the_log_tells_it(server: QuicGo, certificates: Certificates, kind: Kind, tmp_path: Path) -> None:
    """The proxy says whose pins it has met; with one of them it answers."""
    terms = {"scheme": "quic" if kind is Doq else "h3", "port": port_of(server, kind), "ca": certificates.ca}
    with Proxy(tmp_path, PINNED.format(pin=f"sha256/{'A' * 43}=", **terms)) as proxy:
        assert dns.query.udp(dns.message.make_query("www.example", "A"), "127.0.0.1", 10, proxy.port).rcode() == 2
        wait_until(lambda: "is asked over TCP" in proxy.log.read_text(), what="the reason")
        told = proxy.log.read_text()
    found = re.search(r"over QUIC, its certificate is refused: none of its chain is pinned; it has (sha256/\S{43}=)", told)
    assert found, told
    with Proxy(tmp_path, PINNED.format(pin=found[1], **terms)) as proxy:
        assert dns.query.udp(dns.message.make_query("www.example", "A"), "127.0.0.1", 10, proxy.port).rcode() == 0


UPGRADED = """
[listen]
udp = ["127.0.0.1:PORT"]
tcp = ["127.0.0.1:PORT"]
[dnssec]
mode = "off"
[[upstream]]
url = "https://{name}:{port}/dns-query"
addresses = ["127.0.0.1"]
ca_file = "{ca}"
upgrade = true
"""


def test_unbounds_record_leads_to_http3(world: World, program: Path, tmp_path: Path) -> None:
    """Unbound speaks HTTP/2 alone, and has a record of its name that tells of quic-go (RFC 9460 9)."""
    names = (f"n{number}.unsigned.peers" for number in count())
    with QuicGo(program, world.certificate) as server:
        record = f'  local-data: "_DOH._https.{TLS_NAME}. 300 IN HTTPS 1 . alpn=h2,h3 port={server.doh3_port}"\n'
        resolver = Unbound(tmp_path, "upgrading", world.nsd_port, certificate=world.certificate, more=record)
        config = UPGRADED.format(name=TLS_NAME, port=resolver.doh_port, ca=world.ca_file)
        with resolver, Proxy(tmp_path, config) as proxy:
            # unbound knows none of these names
            wait_until(lambda: "192.0.2.1" in str(ask_at(proxy.port, next(names))), what="quic-go's")


@BOTH
async def test_a_new_network_is_followed(bench: QuicBench, server: QuicGo, kind: Kind) -> None:
    upstream = await start(bench, server, kind)
    await upstream.resolve(ask())
    await trio.sleep(0.1)  # until the server has confirmed the handshake
    upstream.renew()
    with trio.fail_after(LIMIT):
        assert (await upstream.resolve(ask())).rcode == 0
    assert repr(upstream).count("open") == 1


@BOTH
async def test_a_server_that_is_gone_and_back(bench: QuicBench, program: Path, certificates: Certificates, kind: Kind) -> None:
    with QuicGo(program, certificates.good) as server:
        upstream = await start(bench, server, kind)
        await upstream.resolve(ask())
    began = trio.current_time()
    with pytest.raises(Exception, match=r"refused|silent"):
        await upstream.resolve(ask())
    assert trio.current_time() - began < 1.2
