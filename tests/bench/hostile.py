#!/usr/bin/env python3
"""What zones made to be costly cost: CPU time per answer, beside a validating unbound's, by hand.

Both ask the same resolver over DNS over TLS, in turn, for the same fresh names of zones that tests/unit/dnssec/
test_hostile_zones.py plays too: an honest one, KeyTrap's (CVE-2023-50387), and one of long names and many NSEC3 parameters
(CVE-2023-50868). `hostile.py [--queries 200]`; unbound must be installed.
"""

from __future__ import annotations

import argparse
import os
import queue
import ssl
import sys
import tempfile
import threading
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "unit" / "dnssec")]

import dns.exception
import dns.message
import dns.query
import dns.rcode
import trio
from memory_tree import WALL, Tree, name
from programs import Running, free_ports
from real_peers import LISTEN, Proxy, dnssec, upstream
from test_hostile_zones import SIGNATURES, hashed, zone

from dohproxy.lab import dot
from dohproxy.lab.certificates import Authority
from dohproxy.lab.faults import Faults
from dohproxy.lab.server import listen
from dohproxy.model import Answer, Question
from dohproxy.wire import constants as c
from dohproxy.wire import names
from dohproxy.wire.reply import compile_reply, render
from dohproxy.wire.request import parse_request_untrusted
from dohproxy.wire.text import rdata_to_text

SERVER = "upstream.test"


class Responder:
    """A resolver over one tree; `deny` makes the answers to names below `deny.trap`."""

    def __init__(self, tree: Tree) -> None:
        self.tree, self.faults = tree, Faults()
        soa = tree.zones[name("trap")].get(name("trap"), c.SOA)
        salts = [b"%d" % number for number in range(4)]
        self.denial = Answer(c.NXDOMAIN, (), (soa, *(hashed(bytes(19) + salt, bytes(20), 50, salt) for salt in salts)))

    async def respond(self, wire: bytes) -> tuple[bytes, None]:
        request = parse_request_untrusted(wire)
        question: Question = request.question
        denied = question.qname.endswith(name("deny.trap")) and question.qtype != c.DNSKEY
        reply = compile_reply(self.denial if denied else self.tree.answer(question), request)
        return render(reply, request.id, request.qname, 0.0, c.MAX_MESSAGE), None


def serve(tree: Tree, certificate: tuple[Path, Path], ports: queue.Queue[int]) -> None:
    """The resolver, for a thread of its own."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            context.set_alpn_protocols([dot.ALPN])
            ports.put(await listen(nursery, 0, context, Responder(tree), dot.converse))

    trio.run(run)


UNBOUND = """server:
  interface: 127.0.0.1@{port}
  do-not-query-localhost: no
  num-threads: 1
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  do-ip6: no
  qname-minimisation: no
  directory: "{directory}"
  tls-cert-bundle: "{directory}/ca.pem"
  module-config: "validator iterator"
  trust-anchor: "{anchor}"
  val-override-date: "{wall}"
  access-control: 127.0.0.0/8 allow
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: 127.0.0.1@{upstream}#{server}
  forward-tls-upstream: yes
"""


def unbound(directory: Path, upstream_port: int, anchor: str) -> tuple[Running, int]:
    """A validating one."""
    (port,) = free_ports(1)
    config = directory / "unbound.conf"
    config.write_text(
        UNBOUND.format(port=port, directory=directory, anchor=anchor, wall=WALL, upstream=upstream_port, server=SERVER)
    )
    return Running(["unbound", "-d", "-c", config], directory / "unbound.log", [port]), port


def dohproxy(directory: Path, upstream_port: int, anchor: str) -> tuple[Running, int]:
    """This tree's."""
    when = datetime.fromtimestamp(WALL, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    proxy = Proxy(
        directory,
        LISTEN
        + upstream(f"tls://127.0.0.1:{upstream_port}", directory / "ca.pem", SERVER)
        + dnssec(anchor, f"override_time = {when}\n"),
    )
    return proxy, proxy.port


def cpu_seconds(running: Running) -> float:
    """User and system time of the process so far."""
    assert running.process is not None
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cost(running: Running, port: int, names: list[str]) -> tuple[float, Counter[str]]:
    """Milliseconds of CPU for each answer, and the RCODEs."""
    rcodes: Counter[str] = Counter()
    began = cpu_seconds(running)
    for qname in names:
        query = dns.message.make_query(qname, "A", want_dnssec=True)
        try:
            reply = dns.query.udp(query, "127.0.0.1", port=port, timeout=10, ignore_unexpected=True)
            rcodes[dns.rcode.to_text(reply.rcode())] += 1
        except dns.exception.Timeout:
            rcodes["time-out"] += 1
    return (cpu_seconds(running) - began) / len(names) * 1000, rcodes


def main() -> None:
    """Print a row for each zone and system."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    count = parser.parse_args().queries
    cases = {
        "honest, RSA-2048": (zone(0, 0), "{}.wild.trap"),
        "1 key, 40 signatures": (zone(0, SIGNATURES), "{}.wild.trap"),
        "50 colliding keys, 40 signatures": (zone(50, SIGNATURES), "{}.wild.trap"),
        "long names, 4 sets of NSEC3, 50 iterations": (zone(0, 0), "{}." + "a." * 110 + "deny.trap"),
    }
    print(f"{'zone':44} {'system':10} {'ms CPU an answer':>17}  answers")
    for what, (tree, pattern) in cases.items():
        with tempfile.TemporaryDirectory() as made:
            directory, ports = Path(made), queue.Queue[int]()
            threading.Thread(target=serve, args=(tree, _certificate(directory), ports), daemon=True).start()
            upstream_port, anchor = ports.get(), tree.zones[names.ROOT].key
            line = f". IN DS {rdata_to_text(c.DS, anchor.ds(names.ROOT))}"
            for kind in (dohproxy, unbound):
                running, port = kind(directory, upstream_port, line)
                with running:
                    cost(running, port, [pattern.format(f"w{number}") for number in range(5)])
                    spent, rcodes = cost(running, port, [pattern.format(f"q{number}") for number in range(count)])
                print(f"{what:44} {kind.__name__:10} {spent:17.2f}  {dict(rcodes)}", flush=True)


def _certificate(directory: Path) -> tuple[Path, Path]:
    authority = Authority()
    authority.write(directory)
    return authority.server(SERVER, "127.0.0.1").write(directory, "server")


if __name__ == "__main__":
    main()
