"""Captures messages of other people's programs for property tests: queries of clients, answers of servers.

    python tests/support/capture.py

Needs nsd, unbound, dig, kdig and delv. What was captured is in captured.txt, a message a line: whose it is, and its octets.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from captured import CAPTURED
from programs import SEARCH, free_ports
from real_peers import Unbound, nsd
from signed_zones import SignedZones

ZONES = ("p256.peers", "rsa.peers", "optout.peers", "insecure.peers")
NAMES = ("www", "mail", "x.wild", "nothing", "local", "farther", "nowhere", "x.old", "loop", "_443._tcp.www", "below")
APEX = ("SOA", "NS", "DNSKEY", "DS", "NSEC3PARAM", "NSEC", "TYPE65534", "ANY")
CLIENTS = (
    ("dig", "+noall"),
    ("dig", "+noall", "+noedns", "+norec"),
    ("dig", "+noall", "+dnssec", "+nocookie", "+bufsize=4096"),
    ("dig", "+noall", "+cd", "+ad", "+nsid", "+subnet=192.0.2.0/24", "+padding=128", "+expire", "+keepalive"),
    ("dig", "+noall", "+ednsflags=0x40", "+ednsopt=65001:c0ffee", "+ednsnegotiation"),
    ("kdig", "+noall"),
    ("kdig", "+noall", "+dnssec", "+padding", "+nsid", "+nocookie"),
    ("delv", "+nocrypto", "-i"),
)


class Tap:
    """A relay of datagrams before a server, which remembers what passes."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.found = name, list[tuple[str, bytes]]()
        self._to = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.client = ""

    def run(self) -> None:
        while True:
            query, client = self._socket.recvfrom(65535)
            if not query:
                return
            self.found.append((self.client, query))
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
                server.settimeout(3)
                server.sendto(query, self._to)
                answer = server.recv(65535)
            self.found.append((self.name, answer))
            self._socket.sendto(answer, client)

    def stop(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())


@contextmanager
def tapped(name: str, port: int) -> Iterator[Tap]:
    tap = Tap(name, port)
    thread = threading.Thread(target=tap.run)
    thread.start()
    try:
        yield tap
    finally:
        tap.stop()
        thread.join()


def ask(tap: Tap, client: tuple[str, ...], name: str, rdtype: str) -> None:
    program, *options = client
    tap.client = program
    command = [program, "@127.0.0.1", "-p", str(tap.port), *options, "-t", rdtype, name]
    if program != "delv":
        command += ["+tries=1" if program == "dig" else "+retry=0", "+time=3", "+ignore"]
    subprocess.run(command, env=os.environ | {"PATH": SEARCH}, stdout=subprocess.DEVNULL, check=False, timeout=30)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        directory = Path(temporary)
        zones = SignedZones(directory)
        (port,) = free_ports(1)
        resolver = Unbound(directory, "resolver", port, anchor=zones.anchor, more="  ede: yes\n")
        with (
            nsd(directory, zones, port),
            resolver,
            tapped("nsd", port) as first,
            tapped("unbound", resolver.plain_port) as second,
        ):
            for number, (zone, name) in enumerate(product(ZONES, NAMES)):
                for tap in (first, second):
                    ask(tap, CLIENTS[number % len(CLIENTS)], f"{name}.{zone}", ("A", "AAAA", "TXT", "MX", "HTTPS")[number % 5])
                    ask(tap, CLIENTS[2], f"{name}.{zone}", ("MX", "A", "HTTPS")[number % 3])
            for number, (zone, rdtype) in enumerate(product((".", "peers", "ldns.peers", "p384.peers"), APEX)):
                for tap in (first, second):
                    ask(tap, CLIENTS[number % len(CLIENTS)], zone, rdtype)
            for name in ("www.broken", "unsigned.broken", "www.expired", "www.future", "www.wrongds", "large.p256"):
                for client in CLIENTS[2:5]:
                    ask(second, client, f"{name}.peers", "A")
    found = first.found + [(name, message) for name, message in second.found if name == second.name]  # the queries are alike
    CAPTURED.write_text("".join(f"{name} {message.hex()}\n" for name, message in found))
    print(len(found), "messages")


if __name__ == "__main__":
    main()
