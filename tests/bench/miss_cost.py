"""What a question that no cache answers costs this process: CPU time a query, from datagram to datagram.

    python tests/bench/miss_cost.py [--transport dot|doh|doq|h3] [--validated] [--inbound udp|tcp] [--queries 20000]
        [--at-once 256] [--rounds 3] [--profile FILE]

Upstream is an NSD over TLS, an unbound over HTTP/2, or a server on quic-go over QUIC and HTTP/3, asked for fresh names. With
--validated, which only NSD can, 70 % of them are signed, 20 % do not exist (NSEC3) and 10 % lie below an insecure
delegation. Queries come by UDP, or over eight TCP connections. Generator and upstream are other processes, on another CPU.
--profile writes what cProfile saw, and prints the top of it: then the figures are of no worth.
"""

from __future__ import annotations

import argparse
import cProfile
import itertools
import multiprocessing
import os
import pstats
import random
import select
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from dns_peers import Certificates
from miss_upstreams import PLAIN, Upstream, upstream
from programs import free_ports

from dohproxy.config.load import parse
from dohproxy.listen.intake import Intake
from dohproxy.listen.sockets import open_sockets
from dohproxy.listen.tcp import ConnectionTable, TcpListener
from dohproxy.listen.udp import UdpListener
from dohproxy.service import Service
from dohproxy.telemetry.counters import Counters
from dohproxy.wire import names
from dohproxy.worker import _settle_memory

CONNECTIONS = 8
Generate = Callable[[int, list[str], int], None]
"""Asks on this port, of the host itself, for these names, so many at once."""


def plain_names(count: int, tag: str, zone: str = PLAIN) -> Iterator[str]:
    """Names that a wildcard answers for."""
    return (f"m{number}x{tag}.{zone}" for number in range(count))


def mixed_names(count: int, tag: str, first: int) -> list[str]:
    """Names to be validated; of the signed ones from `first` on, so that none is asked twice."""
    found = [f"s{first + number}.leaf.sec.zz" for number in range(count * 7 // 10)]
    found += [f"no{number}x{tag}.leaf.sec.zz" for number in range(count * 2 // 10)]
    found += [f"o{number}x{tag}.open.sec.zz" for number in range(count // 10)]
    random.Random(7).shuffle(found)
    return found


def generate(port: int, asked: list[str], at_once: int) -> None:
    """The generator's process: each name once, so many under way; what is lost is asked again."""
    os.sched_setaffinity(0, {0})
    waiting = {number: _query(number, name) for number, name in enumerate(asked)}
    fresh, under_way = iter(list(waiting)), set[int]()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.connect(("127.0.0.1", port))
        while waiting:
            while len(under_way) < at_once and (number := next(fresh, None)) is not None:
                sock.send(waiting[number])
                under_way.add(number)
            if not select.select([sock], [], [], 1.0)[0]:
                under_way.clear()
                fresh = iter(list(waiting))
                continue
            reply = sock.recv(4096)
            name_end = reply.index(b"\0", 12)
            number = _numbers[reply[12:name_end]]
            waiting.pop(number, None)
            under_way.discard(number)


def generate_over_tcp(port: int, asked: list[str], at_once: int) -> None:
    """The same over connections."""
    os.sched_setaffinity(0, {0})
    fresh = iter([_query(number, name) for number, name in enumerate(asked)])
    poll, left = select.poll(), len(asked)
    connections = {sock.fileno(): sock for sock in (socket.create_connection(("127.0.0.1", port)) for _ in range(CONNECTIONS))}
    received = dict.fromkeys(connections, b"")

    def ask(sock: socket.socket, count: int) -> None:
        sock.sendall(b"".join(len(query).to_bytes(2) + query for query in itertools.islice(fresh, count)))

    for fd, sock in connections.items():
        poll.register(fd, select.POLLIN)
        ask(sock, at_once // CONNECTIONS)
    while left:
        for fd, _ in poll.poll():
            octets, at, answers = received[fd] + connections[fd].recv(65536), 0, 0
            while len(octets) - at > 2 and len(octets) - at >= (size := 2 + int.from_bytes(octets[at : at + 2])):
                at, answers = at + size, answers + 1
            received[fd] = octets[at:]
            left -= answers
            ask(connections[fd], answers)


_numbers: dict[bytes, int] = {}


def _query(number: int, name: str) -> bytes:
    wire = names.from_text(name)
    _numbers[wire[:-1]] = number
    return (number & 0xFFFF).to_bytes(2) + b"\1\x20\0\1\0\0\0\0\0\0" + wire + b"\0\1\0\1"


def configuration(asked: Upstream, ca: Path, validated: bool) -> str:
    """The proxy's."""
    return f"""[listen]
udp = ["127.0.0.1:{free_ports(1)[0]}"]
tcp = ["127.0.0.1:{free_ports(1)[0]}"]
[[upstream]]
url = "{asked.url}"
tls_name = "dns.test"
ca_file = "{ca}"
[dnssec]
mode = "{"validate" if validated else "off"}"
trust_anchors = [{f'"{" ".join(asked.anchor.split())}"' if validated else ""}]
"""


async def measure(config: str, options: argparse.Namespace) -> None:
    """Serves, has the generator ask, and prints what it cost."""
    settings = parse(config, "bench.toml", Path.cwd())
    counters = Counters()
    service = Service(settings, [counters])
    sockets = open_sockets(settings.listen)
    intake = Intake(service.front, settings.listen, counters)
    listener: UdpListener | TcpListener = UdpListener(sockets.udp[0], intake)
    sock, ask = sockets.udp[0], partial(_ask, generate)
    if options.inbound == "tcp":
        listener = TcpListener(sockets.tcp[0], intake, ConnectionTable(settings.listen, counters))
        sock, ask = sockets.tcp[0], partial(_ask, generate_over_tcp)
    port = sock.getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        nursery.start_soon(listener.run)
        _settle_memory()
        await ask(port, list(plain_names(500, "warm", "open.sec.zz" if options.validated else PLAIN)), options.at_once)
        profile = cProfile.Profile() if options.profile else None
        costs = []
        for turn in range(1 if profile else options.rounds):
            tag, count = str(turn), options.queries
            found = mixed_names(count, tag, turn * (count * 7 // 10)) if options.validated else list(plain_names(count, tag))
            if profile:
                profile.enable()
            wall, cpu = time.perf_counter(), time.process_time()
            await ask(port, found, options.at_once)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if profile:
                profile.disable()
            costs.append((cpu / count * 1e6, count / wall))
        cost, rate = min(costs)
        under = f"{options.inbound} to {options.transport}, {options.queries} queries, {options.at_once} at once"
        print(f"{under}: {cost:.1f} us CPU a query, {rate:.0f} queries/s")
        print(counters.summary())
        if profile:
            profile.dump_stats(options.profile)
            pstats.Stats(profile).sort_stats("tottime").print_stats(60)
        nursery.cancel_scope.cancel()


async def _ask(generate: Generate, port: int, asked: list[str], at_once: int) -> None:
    generator = multiprocessing.get_context("fork").Process(target=generate, args=(port, asked, at_once), daemon=True)
    generator.start()
    await trio.to_thread.run_sync(generator.join)


def main() -> None:
    """Prepares the upstream, and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transport", choices=("dot", "doh", "doq", "h3"), default="dot")
    parser.add_argument("--validated", action="store_true")
    parser.add_argument("--inbound", choices=("udp", "tcp"), default="udp")
    parser.add_argument("--queries", type=int, default=20000)
    parser.add_argument("--at-once", type=int, default=256)
    parser.add_argument(
        "--rounds", type=int, default=3, help="of which the cheapest is told: what else the machine does only adds"
    )
    parser.add_argument("--profile")
    options = parser.parse_args()
    if options.validated and options.transport != "dot":
        parser.error("only over DoT are there names to validate")
    signed_names = options.rounds * options.queries * 7 // 10 if options.validated else 0
    with tempfile.TemporaryDirectory() as directory:
        certificates = Certificates(Path(directory))
        asked = upstream(options.transport, Path(directory), certificates.good, signed_names)
        others, ours = {0}, {max(os.sched_getaffinity(0))}
        os.sched_setaffinity(0, others)
        with asked:
            os.sched_setaffinity(0, ours)
            trio.run(measure, configuration(asked, certificates.ca, options.validated), options)


if __name__ == "__main__":
    main()
