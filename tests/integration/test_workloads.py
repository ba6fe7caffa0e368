"""Two workloads with certificates of their own ask the same proxy, by every encrypted transport."""

from __future__ import annotations

import json
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from programs import execute, free_ports, need, wait_until
from real_peers import Proxy, World, dnssec

from dohproxy.config.settings import Forwarding, Upstream
from dohproxy.errors import DohproxyError
from dohproxy.identity.own import FileCertificate
from dohproxy.lab.certificates import Authority, Credentials, Validity
from dohproxy.model import INTERNAL, Answer, Query, Question
from dohproxy.upstream.doh import Doh
from dohproxy.upstream.doh3 import Doh3
from dohproxy.upstream.doq import Doq
from dohproxy.upstream.dot import Dot
from dohproxy.wire import names

PAY, SHOP = "spiffe://prod.example/ns/pay/sa/web", "spiffe://prod.example/ns/shop/sa/web"
OURS, THEIRS = "www.rsa.peers.", "www.p256.peers."
"""What pay alone may ask for, and what only the others may."""
BOTH = "www.unsigned.peers."
KINDS = {"dot": ("tls", Dot), "doh": ("https", Doh), "doh3": ("h3", Doh3), "doq": ("quic", Doq)}
BY_UDP = ("doh3", "doq")
REFUSED = 5

CONFIG = """
[listen]
tcp = ["127.0.0.1:PORT"]
dot = ["127.0.0.1:{dot}"]
doh = ["127.0.0.1:{web}"]
doh3 = ["127.0.0.1:{web}"]
doq = ["127.0.0.1:{doq}"]
[tls]
certificate = "proxy.pem"
key = "proxy.key"
client_auth = "request"
client_ca_file = "old.pem"
trust_domains = [{{ name = "prod.example", ca_file = "prod.pem" }}]
[log]
queries = true
clients = "none"
[evidence]
file = "evidence.jsonl"
write = "all"
[ddr]
name = "dns.example"
[[policy.group]]
name = "pay"
spiffe = ["spiffe://prod.example/ns/pay/*"]
default = "deny"
deny_action = "refused"
allow = ["{ours}"]
[[policy.group]]
name = "shop"
spiffe = ["spiffe://prod.example/ns/shop/*"]
deny = ["{ours}"]
deny_action = "refused"
[[policy.group]]
name = "old"
identities = ["dns:*.old.example"]
deny = ["*"]
deny_action = "nodata"
"""


class House:
    """The proxy, and those who may vouch for its clients."""

    def __init__(self, world: World, directory: Path) -> None:
        self.directory = directory
        self.dot, self.web, self.doq = free_ports(3)
        self.servers, self.prod, self.old = Authority("servers"), Authority("prod"), Authority("old")
        self.servers.write(directory, "servers")
        self.prod.write(directory, "prod")
        self.old.write(directory, "old")
        self.servers.server("dns.example", "127.0.0.1").write(directory, "proxy")
        text = CONFIG.format(dot=self.dot, web=self.web, doq=self.doq, ours=OURS.rstrip("."))
        self.proxy = Proxy(directory, text + world.dot + dnssec(world.zones.anchor))

    def port(self, kind: str) -> int:
        return {"dot": self.dot, "doq": self.doq}.get(kind, self.web)

    @asynccontextmanager
    async def client(self, kind: str, credentials: Credentials | None, idle: float = 30.0) -> AsyncIterator[Asker]:
        """An upstream of ours that leads to the proxy, and shows this certificate."""
        scheme, make = KINDS[kind]
        files = () if credentials is None else credentials.write(self.directory, f"client{id(credentials)}")
        own = FileCertificate(files[0], str(files[1])) if files else None
        there = Upstream(
            "proxy",
            scheme,
            "127.0.0.1",
            self.port(kind),
            tls_name="dns.example",
            ca_file=self.directory / "servers.pem",
            addresses=("127.0.0.1",),
        )
        upstream = make(there, Forwarding(idle_timeout=idle, connections=1), own=own, checking_disabled=False)
        async with trio.open_nursery() as nursery:
            await nursery.start(upstream.run)
            yield Asker(upstream)
            nursery.cancel_scope.cancel()

    def logged(self) -> list[dict[str, str]]:
        """The lines of the query log so far."""
        lines = [line.partition(" query ")[2] for line in self.proxy.log.read_text().splitlines()]
        return [dict(field.split("=", 1) for field in shlex.split(line)) for line in lines if line]

    def resumed(self) -> int:
        """How many TLS sessions were resumed so far."""
        lines = len(self.counters())
        self.proxy.send(signal.SIGUSR1)
        wait_until(lambda: len(self.counters()) > lines, what="the counters")
        found = re.search(r"tls_resumed=(\d+)", self.counters()[-1])
        return int(found[1]) if found else 0

    def counters(self) -> list[str]:
        return [line for line in self.proxy.log.read_text().splitlines() if " counters: " in line]


class Asker:
    def __init__(self, upstream: Dot | Doh | Doh3 | Doq) -> None:
        self.upstream = upstream

    async def ask(self, name: str, rdtype: int = 1) -> Answer | None:
        until = trio.current_time() + 10
        exchange = self.upstream.begin(Query(Question(names.from_text(name), rdtype), INTERNAL, until))
        return await exchange.answer(until)

    async def rcode(self, name: str) -> int:
        answer = await self.ask(name)
        assert answer is not None
        return answer.rcode if answer.answer or answer.rcode else -1

    async def is_left(self) -> None:
        """Wait until it has no connection, for want of questions."""
        await trio.to_thread.run_sync(wait_until, lambda: not self.upstream._connections)


@pytest.fixture(scope="module")
def house(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(world, tmp_path_factory.mktemp("workloads"))
    with house.proxy:
        yield house


@pytest.mark.parametrize("kind", KINDS)
async def test_one_is_answered_and_the_other_refused(house: House, kind: str) -> None:
    """At the same time, again and again: from the upstream, the cache and the finished replies, on kept connections."""
    pay, shop = house.prod.client("pay", PAY), house.prod.client("shop", SHOP)
    before = len(house.logged())
    found: list[tuple[str, str, int]] = []

    async def ask(who: str, asker: Asker, name: str) -> None:
        found.append((who, name, await asker.rcode(name)))

    async with house.client(kind, pay) as first, house.client(kind, shop) as second, house.client(kind, None) as nobody:
        for _ in range(4):
            async with trio.open_nursery() as nursery:
                for name in (OURS, THEIRS):
                    nursery.start_soon(ask, "pay", first, name)
                    nursery.start_soon(ask, "shop", second, name)
                    nursery.start_soon(ask, "nobody", nobody, name)
    assert set(found) == {
        ("pay", OURS, 0),
        ("pay", THEIRS, REFUSED),
        ("shop", OURS, REFUSED),
        ("shop", THEIRS, 0),
        ("nobody", OURS, 0),
        ("nobody", THEIRS, 0),
    }
    told = {(line.get("identity"), line["assurance"], line["group"]) for line in house.logged()[before:]}
    assert told == {(PAY, "attested", "pay"), (SHOP, "attested", "shop"), (None, "inferred", "default")}


@pytest.mark.parametrize("kind", KINDS)
async def test_who_comes_back_is_who_it_was(house: House, kind: str) -> None:
    """Sessions that are resumed keep the identity that they were begun with."""
    pay, shop = house.prod.client("pay", PAY), house.prod.client("shop", SHOP)
    before, resumed = len(house.logged()), house.resumed()
    async with house.client(kind, pay, idle=1.0) as first, house.client(kind, shop, idle=1.0) as second:
        for _ in range(3):
            await first.is_left()
            await second.is_left()
            assert await first.rcode(OURS) == 0
            assert await second.rcode(OURS) == REFUSED
    told = {(line.get("identity"), line["rcode"]) for line in house.logged()[before:]}
    assert told == {(PAY, "NOERROR"), (SHOP, "REFUSED")}
    assert kind in BY_UDP or house.resumed() == resumed + 4


@pytest.mark.parametrize("kind", KINDS)
async def test_whom_nobody_vouches_for_is_refused(house: House, kind: str) -> None:
    """By the authority of strangers, or one of ours whose word does not count for that name."""
    strangers = Authority("prod")
    for credentials in (strangers.client("pay", PAY), house.old.client("pay", PAY), house.prod.client("x", "x.old.example")):
        async with house.client(kind, credentials) as asker:
            with pytest.raises(DohproxyError):
                assert await asker.ask(OURS) is None


@pytest.mark.parametrize("kind", KINDS)
async def test_other_certificates_go_by_their_names(house: House, kind: str) -> None:
    before = len(house.logged())
    async with house.client(kind, house.old.client("web", "web.old.example")) as asker:
        assert await asker.rcode(OURS) == -1
    wait_until(lambda: len(house.logged()) > before, what="the line in the log")  # a thread writes it
    [line] = house.logged()[before:]
    assert (line["identity"], line["group"]) == ("dns:web.old.example", "old")


async def test_connections_end_with_their_clients_certificates(house: House) -> None:
    """Whether it is open, or a session is resumed: after the end of its certificate nobody is asked or answered as PAY."""
    now = datetime.now(UTC)
    end = now.replace(microsecond=0) + timedelta(seconds=4)
    brief = house.prod.client("pay", PAY, validity=Validity(now - timedelta(hours=1), end))
    broken, refused = re.compile(r" (?:tcp|quic)_broken=\d+"), dict[str, object]()
    house.resumed()
    before = broken.findall(house.counters()[-1])

    async def stay(kind: str, others: trio.Event) -> None:
        async with house.client(kind, brief) as asker:
            assert await asker.rcode(OURS) == 0
            await others.wait()
            for _ in range(2):  # at first perhaps for the session that it wants to resume
                try:
                    refused[kind] = await asker.ask(OURS)
                except DohproxyError as error:
                    refused[kind] = str(error)

    async with trio.open_nursery() as nursery:
        over = trio.Event()
        for kind in KINDS:
            nursery.start_soon(stay, kind, over)
        await trio.sleep((end - now).total_seconds() + 2)
        house.resumed()
        asked = len(house.logged())
        assert " tcp_open=" not in house.counters()[-1] and " quic_open=" not in house.counters()[-1]
        over.set()
    assert {kind: "expired" in str(why) for kind, why in refused.items()} == dict.fromkeys(KINDS, True), refused
    assert len(house.logged()) == asked and broken.findall(house.counters()[-1]) == before


@pytest.mark.parametrize(("kind", "flag"), [("dot", "+tls"), ("doh", "+https"), ("doq", "+quic")])
def test_kdig_shows_a_certificate(house: House, kind: str, flag: str) -> None:
    need("kdig")
    for credentials, status in ((house.prod.client("pay", PAY), "NOERROR"), (house.prod.client("shop", SHOP), "REFUSED")):
        certificate, key = credentials.write(house.directory, "kdig")
        said = execute(
            *("kdig", "@127.0.0.1", "-p", str(house.port(kind)), "+tls-ca=" + str(house.directory / "servers.pem")),
            *("+tls-hostname=dns.example", f"+tls-certfile={certificate}", f"+tls-keyfile={key}", flag, "+retry=0", OURS),
        )
        assert f"status: {status}" in said


async def test_evidence_tells_who_asked_and_can_be_checked(house: House, world: World) -> None:
    """By its anchor alone, in a process that knows nothing of the proxy."""
    asked = {
        "dot": "www.ed25519.peers.",
        "doh": "www.insecure.peers.",
        "doh3": "nothing.ed25519.peers.",
        "doq": "large.rsa.peers.",
    }
    file = house.directory / "evidence.jsonl"

    def records() -> dict[str, dict[str, str]]:
        found = [json.loads(line) for line in file.read_text().splitlines()]
        return {record["question"]["name"]: record["circumstances"] for record in found}

    for kind, name in asked.items():
        async with house.client(kind, house.prod.client("shop", SHOP)) as asker:
            assert await asker.ask(name) is not None
    wait_until(lambda: set(asked.values()) <= records().keys(), what="the records")
    for kind, name in asked.items():
        told = records()[name]
        assert told["transport"] == KINDS[kind][0]
        assert (told.get("client", ""), told["identity"], told["assurance"], told["group"]) == ("", SHOP, "attested", "shop")
    command = (sys.executable, "-m", "dohproxy", "verify", file, "--anchor", world.zones.anchor)
    said = await trio.to_thread.run_sync(lambda: execute(*command))
    assert re.fullmatch(r"\d+ hold", said.splitlines()[-1]) and "does not hold" not in said


def test_designations_are_told_in_clear(house: House) -> None:
    need("kdig")
    said = execute("kdig", "@127.0.0.1", "-p", str(house.proxy.port), "+tcp", "_dns.resolver.arpa", "TYPE64", "+short")
    kinds = re.findall(r'alpn="?([a-z0-9]+)', said)
    assert kinds == ["h3", "doq", "h2", "dot"]
    assert f'port="{house.dot}"' in said or f"port={house.dot}" in said
    assert said.count("127.0.0.1") == 4


def test_what_is_told_is_verified_by_discover(house: House) -> None:
    said = execute(
        *(sys.executable, "-m", "dohproxy", "discover", "127.0.0.1", "--port", str(house.proxy.port)),
        *("--ca-file", house.directory / "servers.pem"),
    )
    found = re.findall(r'url = "(\w+)://dns.example:(\d+)', said)
    assert found == [("h3", str(house.web)), ("quic", str(house.doq)), ("https", str(house.web)), ("tls", str(house.dot))]


def test_certificates_change_while_it_runs(house: House) -> None:
    """Last: the authority of the trust domain is another one now, and the one before counts no more."""
    after = Authority("prod")
    after.write(house.directory, "prod")

    async def rcode(authority: Authority) -> int:
        async with house.client("dot", authority.client("pay", PAY)) as asker:
            return await asker.rcode(OURS)

    assert trio.run(rcode, after) == 0
    with pytest.raises((DohproxyError, AssertionError, BaseExceptionGroup)):
        trio.run(rcode, house.prod)
