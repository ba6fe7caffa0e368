"""Every way in by every way out: the same questions, asked by other people's clients of other people's servers.

In: plain DNS (dnspython), DNS over TLS, HTTPS and QUIC (kdig: GnuTLS, nghttp2, ngtcp2), HTTP/3 (quic-go). Out: unbound by TLS
and in clear, dnsdist by HTTPS, quic-go by QUIC and HTTP/3, and a target of Oblivious DoH. Nothing is kept between questions,
so that each of them goes all the way.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from dns.message import Message
from msgspec import Struct
from odoh_peers import OdohServers
from programs import Running, execute, free_ports, need
from quic_go_peer import CLIENT, QuicGo, build
from real_peers import Proxy, Unbound, World, dnssec

from dohproxy.lab.certificates import Authority

NAME = "proxy.test"
QUESTIONS = {
    "www.rsa.peers. A": ("NOERROR", True, []),
    "far.rsa.peers. A": ("NOERROR", True, []),
    "www.insecure.peers. A": ("NOERROR", False, []),
    "nothing.p384.peers. A": ("NXDOMAIN", True, []),
    "mail.ed25519.peers. TXT": ("NOERROR", True, []),
    "www.expired.peers. A": ("SERVFAIL", False, [7]),
    "changed.broken.peers. A": ("SERVFAIL", False, [6]),
    "blocked.rsa.peers. A": ("NXDOMAIN", False, [15]),
    "large.rsa.peers. TXT": ("NOERROR", True, []),
    "huge.p256.peers. TXT": ("NOERROR", True, []),
}
"""And the RCODE, AD and extended errors of the answer."""
KEPT = 13
"""Cached Error: whether a failure is still known depends on how fast the questions come."""
CONFIG = """
[listen]
udp = ["127.0.0.1:PORT"]
tcp = ["127.0.0.1:PORT"]
dot = ["127.0.0.1:{dot}"]
doh = ["127.0.0.1:{doh}"]
doh3 = ["127.0.0.1:{doh3}"]
doq = ["127.0.0.1:{doq}"]
[tls]
certificate = "proxy.pem"
key = "proxy.key"
[cache]
max_ttl = 0
max_negative_ttl = 0
stale = false
[[policy.group]]
name = "default"
deny = ["blocked.rsa.peers"]
"""


class Facts(Struct, frozen=True):
    """What two answers have to agree on; not their TTLs."""

    rcode: str
    secure: bool
    """AD."""
    ede: tuple[int, ...]
    answer: frozenset[tuple[str, str, str]]
    authority: frozenset[tuple[str, str, str]]


def records(rrsets: list[dns.rrset.RRset]) -> frozenset[tuple[str, str, str]]:
    return frozenset(
        (rrset.name.to_text().lower(), dns.rdatatype.to_text(rrset.rdtype), rdata.to_text())
        for rrset in rrsets
        for rdata in rrset
    )


def facts(message: Message) -> Facts:
    codes = [int(option.code) for option in message.options if isinstance(option, dns.edns.EDEOption)]
    return Facts(
        dns.rcode.to_text(message.rcode()),
        bool(message.flags & dns.flags.AD),
        tuple(code for code in codes if code != KEPT),
        records(message.answer),
        records(message.authority),
    )


def query(text: str) -> Message:
    name, rdtype = text.split()
    made = dns.message.make_query(name, rdtype, use_edns=0, want_dnssec=True, payload=1232, id=0)
    made.flags |= dns.flags.AD
    return made


# Ways out


class Beyond:
    """The servers that the proxies ask: each is led to the same unbound, which does not validate."""

    def __init__(self, world: World, directory: Path, stack: ExitStack) -> None:
        self._world, self._directory = world, directory
        self.plain = Unbound(directory, "plain", world.nsd_port)
        stack.enter_context(self.plain)
        to = f"127.0.0.1:{self.plain.plain_port}"
        self._quic_go = stack.enter_context(QuicGo(build(directory), world.certificate, "-forward", to))
        self._dnsdist_port = self._dnsdist(to, stack)
        self._odoh = stack.enter_context(OdohServers(world.certificate, world.ca_file, self.plain.plain_port))

    def _dnsdist(self, to: str, stack: ExitStack) -> int:
        need("dnsdist")
        (port,) = free_ports(1)
        config = self._directory / "dnsdist.conf"
        certificate, key = self._world.certificate
        config.write_text(
            f'setLocal("127.0.0.1:{free_ports(1)[0]}")\nnewServer({{address="{to}", tcpOnly=true}})\n'
            f'addDOHLocal("127.0.0.1:{port}", "{certificate}", "{key}", "/dns-query")\n'
        )
        command = ["dnsdist", "--supervised", "--disable-syslog", "-C", config]
        stack.enter_context(Running(command, self._directory / "dnsdist.log", [port]))
        return port

    def asked(self, kind: str) -> int:
        """How often anybody asked for the first name there."""
        server = self._world.resolver if kind == "dot" else self.plain
        return len(re.findall(r"www\.rsa\.peers\. A IN$", server.log.read_text(), re.MULTILINE))

    def upstream(self, kind: str) -> str:
        """The lines of the configuration that lead there."""
        if kind == "plain":
            return f'[[zone]]\nname = "."\nplaintext = true\nupstream = ["udp://127.0.0.1:{self.plain.plain_port}"]\n'
        url = {
            "dot": f"tls://127.0.0.1:{self._world.resolver.dot_port}",
            "doh": f"https://127.0.0.1:{self._dnsdist_port}/dns-query",
            "doh3": f"h3://127.0.0.1:{self._quic_go.doh3_port}/dns-query",
            "doq": f"quic://127.0.0.1:{self._quic_go.doq_port}",
            "odoh": f"https://unbound.peers:{self._odoh.target_port}/dns-query",
        }[kind]
        trusted = f'tls_name = "unbound.peers"\nca_file = "{self._world.ca_file}"\n'
        if kind == "odoh":
            relay = f"https://127.0.0.1:{self._odoh.relay_port}/proxy"
            trusted += f'addresses = ["127.0.0.1"]\nrelay = {{ url = "{relay}", ca_file = "{self._world.ca_file}" }}\n'
        return f'[[upstream]]\nurl = "{url}"\n{trusted}'


OUT = ("dot", "doh", "doh3", "doq", "odoh", "plain")


# Ways in


class Place:
    """One proxy, with all its listeners."""

    def __init__(self, beyond: Beyond, world: World, kind: str, directory: Path) -> None:
        self.asked: Callable[[], int] = lambda: beyond.asked(kind)
        self.ports = dict(zip(("dot", "doh", "doh3", "doq"), free_ports(4), strict=True))
        authority = Authority("proxies")
        self.ca_file = authority.write(directory)
        authority.server(NAME, "localhost", "127.0.0.1").write(directory, "proxy")
        config = CONFIG.format(**self.ports) + beyond.upstream(kind) + dnssec(world.zones.anchor)
        self.proxy = Proxy(directory, config, kind)

    def by_udp(self) -> list[Message]:
        return [dns.query.udp_with_fallback(query(one), "127.0.0.1", 15, self.proxy.port)[0] for one in QUESTIONS]

    def by_tcp(self) -> list[Message]:
        return [dns.query.tcp(query(one), "127.0.0.1", 15, self.proxy.port) for one in QUESTIONS]

    def by_kdig(self, kind: str, flag: str) -> list[Message]:
        need("kdig")
        tls = (f"+tls-ca={self.ca_file}", f"+tls-hostname={NAME}", flag, "+keepopen", "+retry=0", "+timeout=15")
        asked = [part for one in QUESTIONS for part in one.split()]
        said = execute("kdig", "@127.0.0.1", "-p", str(self.ports[kind]), *tls, "+dnssec", "+adflag", *asked)
        return [read(part) for part in said.split(";; ->>HEADER<<-")[1:]]

    def by_quic_go(self, program: Path) -> list[Message]:
        url = f"https://localhost:{self.ports['doh3']}/dns-query"
        asked = "".join(query(one).to_wire().hex() + "\n" for one in QUESTIONS)
        command = [program, "-authority", self.ca_file, "-url", url]
        said = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=60, check=True).stdout
        return [dns.message.from_wire(bytes.fromhex(line)) for line in said.splitlines()]


def read(said: str) -> Message:
    """What kdig shows of one message."""
    message = dns.message.Message()
    header = re.search(r"status: (\w+);.*\n;; Flags: ([a-z ]+);", said)
    assert header is not None, said
    message.flags = dns.flags.from_text(header[2].upper())
    message.use_edns(0, options=[dns.edns.EDEOption(int(code)) for code in re.findall(r";; EDE: (\d+)", said)])
    message.set_rcode(dns.rcode.from_text(header[1]))
    for title, section in re.findall(r";; (ANSWER|AUTHORITY) SECTION:\n((?:[^;\n].*\n)+)", said):
        for line in section.splitlines():
            owner, ttl, rdclass, rdtype, rdata = line.split(None, 4)
            message.sections[1 if title == "ANSWER" else 2].append(dns.rrset.from_text(owner, int(ttl), rdclass, rdtype, rdata))
    return message


IN = ("udp", "tcp", "dot", "doh", "doq", "doh3")


@pytest.fixture(scope="module")
def ask_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Place, str], list[Message]]:
    program = build(tmp_path_factory.mktemp("client"), CLIENT)
    ways: dict[str, Callable[[Place], list[Message]]] = {
        "udp": Place.by_udp,
        "tcp": Place.by_tcp,
        "dot": lambda place: place.by_kdig("dot", "+tls"),
        "doh": lambda place: place.by_kdig("doh", "+https"),
        "doq": lambda place: place.by_kdig("doq", "+quic"),
        "doh3": lambda place: place.by_quic_go(program),
    }
    return lambda place, way: ways[way](place)


# The table


@pytest.fixture(scope="module")
def beyond(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beyond]:
    with ExitStack() as stack:
        yield Beyond(world, tmp_path_factory.mktemp("beyond"), stack)


@pytest.fixture(scope="module", params=OUT)
def place(
    request: pytest.FixtureRequest, beyond: Beyond, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    place = Place(beyond, world, request.param, tmp_path_factory.mktemp(request.param))
    with place.proxy:
        yield place


@pytest.fixture(scope="module")
def first() -> dict[str, Facts]:
    """What the first pair was told: all others have to be told the same."""
    return {}


@pytest.mark.parametrize("way", IN)
def test_the_same_answer(
    place: Place, way: str, ask_by: Callable[[Place, str], list[Message]], first: dict[str, Facts]
) -> None:
    before = place.asked()
    answers = dict(zip(QUESTIONS, ask_by(place, way), strict=True))
    assert place.asked() > before
    found = {question: facts(answer) for question, answer in answers.items()}
    assert {question: (one.rcode, one.secure, list(one.ede)) for question, one in found.items()} == QUESTIONS
    assert max(len(rdata) for _, _, rdata in found["huge.p256.peers. TXT"].answer) > 16384
    assert found == (first or found)
    first.update(found)
