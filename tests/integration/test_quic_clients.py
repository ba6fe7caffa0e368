"""Other people's clients ask the proxy by QUIC: DNS over QUIC and DNS over HTTP/3."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.quic
import dns.rcode
import pytest
import trio
from dns.message import Message
from programs import execute, free_ports, need, wait_until
from qh3.asyncio.client import connect
from qh3.asyncio.protocol import QuicConnectionProtocol
from qh3.h3.connection import H3Connection
from qh3.h3.events import DataReceived, HeadersReceived
from qh3.quic.configuration import QuicConfiguration
from quic_go_peer import CLIENT, build
from real_peers import Proxy, World, facts

from dohproxy.lab.certificates import Authority, Credentials

leaky = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""dnspython without trio does not close what wakes its worker."""
NAMES = ("www.rsa.peers", "www.p256.peers", "www.ed25519.peers", "nothing.p256.peers", "www.insecure.peers", "large.rsa.peers")
PAY, WEB = "spiffe://prod.example/ns/pay/sa/ledger", "spiffe://prod.example/ns/web/sa/shop"


def question(name: str, rdtype: str = "A", *, pad: int = 0) -> Message:
    query = dns.message.make_query(name, rdtype, want_dnssec=True, use_edns=0, pad=pad)
    query.flags |= dns.flags.AD
    query.id = 0
    return query


class QuicProxy(Proxy):
    """A proxy that listens by QUIC too."""

    def __init__(
        self, world: World, directory: Path, authority: Authority, tls: str = "", more: str = "", address: str = "127.0.0.1"
    ) -> None:
        self.doq_port, self.doh3_port = free_ports(2)
        self.authority = authority.write(directory, "server-ca")
        certificate, key = authority.server("localhost", "127.0.0.1").write(directory, "server")
        listen = f'doq = ["{address}:{self.doq_port}"]\ndoh3 = ["{address}:{self.doh3_port}"]\n'
        config = world.config(more=f'[tls]\ncertificate = "{certificate}"\nkey = "{key}"\n{tls}{more}')
        super().__init__(directory, config.replace("[listen]\n", f"[listen]\n{listen}"), "quic")


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("test authority of QUIC")


@pytest.fixture(scope="module")
def quic(world: World, tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[QuicProxy]:
    with QuicProxy(world, tmp_path_factory.mktemp("quic"), authority) as running:
        yield running


@pytest.fixture(scope="module")
def plain(quic: QuicProxy) -> dict[str, object]:
    """What the same proxy answers by TCP."""
    return {name: facts(dns.query.tcp(question(name), "127.0.0.1", 15, quic.port)) for name in NAMES}


def kdig(quic: QuicProxy, *arguments: str, name: str = "localhost") -> str:
    need("kdig")
    tls = (f"+tls-ca={quic.authority}", f"+tls-hostname={name}", f"+tls-sni={name}", "+quic")
    return execute("kdig", "@127.0.0.1", "-p", str(quic.doq_port), "+retry=0", "+timeout=10", *tls, *arguments)


def test_kdig_by_quic(quic: QuicProxy) -> None:
    said = kdig(quic, "www.ed25519.peers", "+dnssec", "+padding")
    assert "status: NOERROR" in said and re.search(r";; Flags: qr rd ra ad;", said)
    assert "QUIC session (QUICv1)" in said
    size = re.search(r";; Received (\d+) B", said)
    assert size is not None and int(size[1]) % 468 == 0


def test_kdig_asks_again_on_the_connection(quic: QuicProxy) -> None:
    assert kdig(quic, "+keepopen", "www.rsa.peers", "nothing.p256.peers").count("status: ") == 2


@leaky
@pytest.mark.parametrize("name", NAMES)
def test_dnspython_by_quic(quic: QuicProxy, plain: dict[str, object], name: str) -> None:
    answer = dns.query.quic(question(name), "127.0.0.1", 15, quic.doq_port, verify=str(quic.authority))
    assert facts(answer) == plain[name]


def by_http3(quic: QuicProxy, name: str, *, host: str = "localhost", post: bool = True) -> Message:
    return dns.query.https(
        question(name),
        f"https://{host}:{quic.doh3_port}/dns-query",
        15,
        bootstrap_address="127.0.0.1",
        verify=str(quic.authority),
        post=post,
        http_version=dns.query.HTTPVersion.H3,
    )


@leaky
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("post", [True, False])
def test_dnspython_by_http3(quic: QuicProxy, plain: dict[str, object], name: str, post: bool) -> None:
    assert facts(by_http3(quic, name, post=post)) == plain[name]


async def test_dnspython_by_quic_with_trio_many_at_once(quic: QuicProxy, plain: dict[str, object]) -> None:
    found: dict[int, tuple[str, Message]] = {}

    async with trio.open_nursery() as nursery:
        manager = dns.quic.TrioQuicManager(nursery, verify_mode=str(quic.authority), server_name="localhost")
        async with manager:
            connection = manager.connect("127.0.0.1", quic.doq_port)

            async def ask(number: int) -> None:
                name = NAMES[number % len(NAMES)]
                stream = await connection.make_stream(15)
                async with stream:
                    await stream.send(question(name).to_wire(), True)
                    found[number] = name, dns.message.from_wire(await stream.receive(15))

            async with trio.open_nursery() as asking:
                for number in range(150):
                    asking.start_soon(ask, number)
    assert len(found) == 150
    assert all(facts(answer) == plain[name] for name, answer in found.values())


# qh3: another TLS, and a QUIC that has gone its own way


class Http3Client(QuicConnectionProtocol):
    """Asks by HTTP/3 and collects."""

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)
        self.http = H3Connection(self._quic)
        self.status: dict[int, bytes] = {}
        self.body: dict[int, bytes] = {}
        self.waiting: dict[int, asyncio.Future[bytes]] = {}

    async def ask(self, port: int, wire: bytes) -> bytes:
        stream = self._quic.get_next_available_stream_id()
        self.waiting[stream] = asyncio.get_running_loop().create_future()
        fields = {b":method": b"POST", b":scheme": b"https", b":authority": b"localhost:%d" % port, b":path": b"/dns-query"}
        media = {b"content-type": b"application/dns-message", b"accept": b"application/dns-message"}
        self.http.send_headers(stream, list((fields | media).items()))
        self.http.send_data(stream, wire, end_stream=True)
        self.transmit()
        return await asyncio.wait_for(self.waiting[stream], 15)

    def quic_event_received(self, event: object) -> None:
        for found in self.http.handle_event(event):
            if isinstance(found, HeadersReceived):
                self.status[found.stream_id] = dict(found.headers)[b":status"]
            elif isinstance(found, DataReceived):
                self.body[found.stream_id] = self.body.get(found.stream_id, b"") + found.data
            if getattr(found, "stream_ended", False):
                assert self.status[found.stream_id] == b"200"
                self.waiting[found.stream_id].set_result(self.body[found.stream_id])


def qh3_configuration(quic: QuicProxy, alpn: str) -> QuicConfiguration:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=[alpn], server_name="localhost")
    configuration.load_verify_locations(cafile=str(quic.authority))
    return configuration


def test_qh3_by_quic(quic: QuicProxy, plain: dict[str, object]) -> None:
    async def ask_all() -> dict[str, Message]:
        found = {}
        async with connect("127.0.0.1", quic.doq_port, configuration=qh3_configuration(quic, "doq")) as client:
            for name in NAMES:
                reader, writer = await client.create_stream()
                wire = question(name).to_wire()
                writer.write(len(wire).to_bytes(2) + wire)
                writer.write_eof()
                found[name] = dns.message.from_wire((await asyncio.wait_for(reader.read(), 15))[2:])
        return found

    assert {name: facts(answer) for name, answer in asyncio.run(ask_all()).items()} == plain


def test_qh3_by_http3(quic: QuicProxy, plain: dict[str, object]) -> None:
    async def ask_all() -> dict[str, Message]:
        configuration = qh3_configuration(quic, "h3")
        async with connect("127.0.0.1", quic.doh3_port, configuration=configuration, create_protocol=Http3Client) as client:
            replies = await asyncio.gather(*(client.ask(quic.doh3_port, question(name).to_wire()) for name in NAMES))
            return dict(zip(NAMES, map(dns.message.from_wire, replies), strict=True))

    assert {name: facts(answer) for name, answer in asyncio.run(ask_all()).items()} == plain


# quic-go: another language


@pytest.fixture(scope="module")
def quic_go(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("go"), CLIENT)


def place(quic: QuicProxy, how: str) -> tuple[str, str]:
    """Where the client finds the proxy."""
    return ("-doq", f"localhost:{quic.doq_port}") if how == "doq" else ("-url", f"https://localhost:{quic.doh3_port}/dns-query")


def by_go(program: Path, authority: Path, queries: list[Message], *options: str | Path) -> list[str]:
    said = subprocess.run(
        [program, "-authority", authority, *options],
        input="".join(query.to_wire().hex() + "\n" for query in queries),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return said.stdout.splitlines()


@pytest.mark.parametrize("how", ["doq", "doh3"])
def test_quic_go(quic: QuicProxy, plain: dict[str, object], quic_go: Path, how: str) -> None:
    where = place(quic, how)
    names = [NAMES[number % len(NAMES)] for number in range(300)]
    said = by_go(quic_go, quic.authority, [question(name) for name in names], *where)
    assert len(said) == len(names)
    assert all(facts(dns.message.from_wire(bytes.fromhex(line))) == plain[name] for name, line in zip(names, said, strict=True))


# Who asks


@pytest.fixture(scope="module")
def guarded(world: World, tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[QuicProxy]:
    """Asks for certificates, and serves one workload more than others."""
    directory = tmp_path_factory.mktemp("guarded")
    tls = f'client_auth = "require"\nclient_ca_file = "{authority.write(directory, "vouching")}"\n'
    groups = f'[[policy.group]]\nname = "pay"\nspiffe = ["{PAY}"]\ndefault = "deny"\nallow = ["www.rsa.peers"]\n'
    with QuicProxy(world, directory, authority, tls, groups) as running:
        yield running


def credentials(authority: Authority, who: str, directory: Path) -> tuple[str | Path, ...]:
    issued: Credentials = authority.client("workload", who)
    certificate, key = issued.write(directory, "own")
    return "-certificate", certificate, "-key", key


@pytest.mark.parametrize("how", ["doq", "doh3"])
@pytest.mark.parametrize(("who", "expected"), [(PAY, ["NOERROR", "NXDOMAIN"]), (WEB, ["NOERROR", "NOERROR"])])
def test_two_workloads_ask_the_same(
    guarded: QuicProxy, quic_go: Path, authority: Authority, tmp_path: Path, how: str, who: str, expected: list[str]
) -> None:
    where = place(guarded, how)
    for _ in range(2):
        queries = [question("www.rsa.peers"), question("www.p256.peers")]
        said = by_go(quic_go, guarded.authority, queries, *where, *credentials(authority, who, tmp_path))
        assert [dns.rcode.to_text(dns.message.from_wire(bytes.fromhex(line)).rcode()) for line in said] == expected


@pytest.mark.parametrize("how", ["doq", "doh3"])
def test_strangers_are_refused(guarded: QuicProxy, quic_go: Path, tmp_path: Path, how: str) -> None:
    where = place(guarded, how)
    [said] = by_go(quic_go, guarded.authority, [question("www.rsa.peers")], *where)
    assert "CRYPTO_ERROR (0x174)" in said
    stranger = credentials(Authority("stranger"), PAY, tmp_path)
    [said] = by_go(quic_go, guarded.authority, [question("www.rsa.peers")], *where, *stranger)
    assert "CRYPTO_ERROR (0x130)" in said


# What it shows, and where it is given its sockets


@leaky
def test_each_name_has_its_certificate(world: World, tmp_path: Path, authority: Authority) -> None:
    """Both clients verify the name that they ask for, which is not that of the first certificate."""
    certificate, key = authority.server("other.test").write(tmp_path, "other")
    more = f'[[tls.certificates]]\ncertificate = "{certificate}"\nkey = "{key}"\n'
    with QuicProxy(world, tmp_path, authority, more=more) as running:
        for name in ("other.test", "localhost"):
            assert "status: NOERROR" in kdig(running, "www.rsa.peers", name=name)
            assert by_http3(running, "www.rsa.peers", host=name).rcode() == 0
        with pytest.raises(AssertionError, match="failed to query"):
            kdig(running, "www.rsa.peers", name="third.test")


@leaky
def test_a_connection_goes_on_when_the_certificate_is_replaced(world: World, tmp_path: Path, authority: Authority) -> None:
    """By another authority's: only those who come later see it."""
    with QuicProxy(world, tmp_path, authority) as running:

        async def stay() -> None:
            doq = connect("127.0.0.1", running.doq_port, configuration=qh3_configuration(running, "doq"))
            h3 = qh3_configuration(running, "h3")
            doh3 = connect("127.0.0.1", running.doh3_port, configuration=h3, create_protocol=Http3Client)
            async with doq as by_doq, doh3 as by_doh3:
                await ask_both(by_doq, by_doh3)
                after = Authority("another")
                after.server("localhost", "127.0.0.1").write(tmp_path, "server")
                with pytest.raises(AssertionError, match="failed to query"):
                    await asyncio.to_thread(kdig, running, "www.rsa.peers")
                after.write(tmp_path, "server-ca")
                assert "NOERROR" in await asyncio.to_thread(kdig, running, "www.rsa.peers")
                assert (await asyncio.to_thread(by_http3, running, "www.rsa.peers")).rcode() == 0
                await ask_both(by_doq, by_doh3)

        async def ask_both(by_doq: QuicConnectionProtocol, by_doh3: Http3Client) -> None:
            wire = question("www.rsa.peers").to_wire()
            reader, writer = await by_doq.create_stream()
            writer.write(len(wire).to_bytes(2) + wire)
            writer.write_eof()
            replies = (await asyncio.wait_for(reader.read(), 15))[2:], await by_doh3.ask(running.doh3_port, wire)
            assert [dns.message.from_wire(reply).rcode() for reply in replies] == [0, 0]

        asyncio.run(stay())


LAUNCH = """
import os, socket, sys
passed = []
for one in sys.argv[1].split(","):
    kind, address, port = one.split("/")
    sock = socket.socket(socket.AF_INET, getattr(socket, kind))
    sock.bind((address, int(port)))
    if kind == "SOCK_STREAM":
        sock.listen()
    passed.append(os.dup2(sock.fileno(), 100 + len(passed)))
for at, fd in enumerate(passed):
    os.dup2(fd, 3 + at)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(passed))}
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Binds sockets and becomes a program that has them, as a service manager does (sd_listen_fds(3))."""


@leaky
@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_by_sockets_that_the_service_manager_opened(world: World, tmp_path: Path, authority: Authority, address: str) -> None:
    running = QuicProxy(world, tmp_path, authority, address=address)
    given = [f"SOCK_DGRAM/{address}/{port}" for port in (running.doh3_port, running.doq_port)]
    given += [f"{kind}/127.0.0.1/{running.port}" for kind in ("SOCK_STREAM", "SOCK_DGRAM")]
    running.command = [sys.executable, "-c", LAUNCH, ",".join(given), *running.command]
    with running:  # which could not bind them itself
        assert "status: NOERROR" in kdig(running, "www.rsa.peers")
        assert by_http3(running, "www.rsa.peers").rcode() == 0
        assert "no endpoint of [listen] asks for" not in running.log.read_text()


def test_the_proxy_ends_in_order(world: World, tmp_path: Path, authority: Authority) -> None:
    with QuicProxy(world, tmp_path, authority) as running:

        async def ask_and_wait() -> float:
            async with connect("127.0.0.1", running.doq_port, configuration=qh3_configuration(running, "doq")) as client:
                reader, writer = await client.create_stream()
                wire = question("www.rsa.peers").to_wire()
                writer.write(len(wire).to_bytes(2) + wire)
                writer.write_eof()
                assert await asyncio.wait_for(reader.read(), 15)
                running.send(signal.SIGTERM)
                began = time.monotonic()
                await asyncio.wait_for(client.wait_closed(), 5)
                return time.monotonic() - began

        assert asyncio.run(ask_and_wait()) < 2
        assert running.process is not None
        wait_until(lambda: running.process.poll() == 0, 5, "an end in order")
