"""What a question that no cache answers costs this process: CPU time a query, from datagram to datagram, over DoT.

    python tests/bench/miss_cost.py [--validated] [--queries 20000] [--at-once 256] [--profile FILE]

Upstream is an NSD, asked for fresh names; with --validated 70 % of them are signed, 20 % do not exist (NSEC3) and 10 %
lie below an insecure delegation. Generator and NSD are other processes, on another CPU. --profile writes what cProfile
saw, and prints the top of it: then the figures are of no worth.
"""

from __future__ import annotations

import argparse
import cProfile
import multiprocessing
import os
import pstats
import random
import select
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from dns_peers import Certificates
from programs import Running, execute, free_ports

from dohproxy.config.load import parse
from dohproxy.listen.intake import Intake
from dohproxy.listen.sockets import open_sockets
from dohproxy.listen.udp import UdpListener
from dohproxy.service import Service
from dohproxy.telemetry.counters import Counters
from dohproxy.wire import names
from dohproxy.worker import _settle_memory

APEX = "$ORIGIN {0}.\n$TTL 86400\n@ SOA ns hostmaster 1 3600 600 864000 3600\n@ NS ns\nns A 127.0.0.1\n"
ROUNDS = 3
"""Of which the cheapest is told: what else the machine does only adds."""


class Upstream(Running):
    """An NSD that serves over TLS plain.zz, the signed sec.zz and leaf.sec.zz, and the unsigned open.sec.zz."""

    def __init__(self, directory: Path, certificates: Certificates, signed_names: int) -> None:
        self.directory = directory
        (self.port,) = free_ports(1)
        (directory / "plain.zz").write_text(APEX.format("plain.zz") + "* A 192.0.2.33\n")
        (directory / "open.sec.zz").write_text(APEX.format("open.sec.zz") + "* A 192.0.2.33\n")
        files = {"plain.zz": "plain.zz", "open.sec.zz": "open.sec.zz"}
        self.anchor = ""
        if signed_names:
            leaf = self._sign("leaf.sec.zz", "".join(f"s{n} A 192.0.2.33\n" for n in range(signed_names)))
            self.anchor = self._sign("sec.zz", f"leaf NS ns\nopen NS ns\n{leaf}\n")
            files |= {"sec.zz": "sec.zz.signed", "leaf.sec.zz": "leaf.sec.zz.signed"}
        zones = "".join(f'zone:\n  name: {zone}\n  zonefile: "{directory}/{file}"\n' for zone, file in files.items())
        certificate, key = certificates.good
        config = directory / "nsd.conf"
        config.write_text(f"""server:
  server-count: 1
  ip-address: 127.0.0.1@{self.port}
  tls-service-pem: "{certificate}"
  tls-service-key: "{key}"
  tls-port: {self.port}
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  zonelistfile: "{directory}/zone.list"
  minimal-responses: yes
remote-control:
  control-enable: no
{zones}""")
        super().__init__(["nsd", "-d", "-c", config], directory / "nsd.log", [self.port])

    def _sign(self, zone: str, records: str) -> str:
        """Its DS."""
        directory = self.directory
        (directory / zone).write_text(APEX.format(zone) + records)
        key = execute("dnssec-keygen", "-q", "-a", "ECDSAP256SHA256", "-f", "KSK", zone, cwd=directory).strip()
        execute("dnssec-signzone", "-q", "-P", "-S", "-z", "-o", zone, "-3", "-", "-H", "0", zone, cwd=directory)
        return execute("dnssec-dsfromkey", "-2", key, cwd=directory).strip()


def plain_names(count: int, tag: str, zone: str = "plain.zz") -> Iterator[str]:
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


_numbers: dict[bytes, int] = {}


def _query(number: int, name: str) -> bytes:
    wire = names.from_text(name)
    _numbers[wire[:-1]] = number
    return (number & 0xFFFF).to_bytes(2) + b"\1\x20\0\1\0\0\0\0\0\0" + wire + b"\0\1\0\1"


def configuration(upstream: Upstream, ca: Path, validated: bool) -> str:
    """The proxy's."""
    return f"""[listen]
udp = ["127.0.0.1:{free_ports(1)[0]}"]
tcp = []
[[upstream]]
url = "tls://127.0.0.1:{upstream.port}"
tls_name = "dns.test"
ca_file = "{ca}"
[dnssec]
mode = "{"validate" if validated else "off"}"
trust_anchors = [{f'"{" ".join(upstream.anchor.split())}"' if validated else ""}]
"""


async def measure(config: str, options: argparse.Namespace) -> None:
    """Serves, has the generator ask, and prints what it cost."""
    settings = parse(config, "bench.toml", Path.cwd())
    counters = Counters()
    service = Service(settings, [counters])
    sockets = open_sockets(settings.listen)
    listener = UdpListener(sockets.udp[0], Intake(service.front, settings.listen, counters))
    port = sockets.udp[0].getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run)
        nursery.start_soon(listener.run)
        _settle_memory()
        await _ask(port, list(plain_names(500, "warm", "open.sec.zz" if options.validated else "plain.zz")), options.at_once)
        profile = cProfile.Profile() if options.profile else None
        costs = []
        for turn in range(1 if profile else ROUNDS):
            tag, count = str(turn), options.queries
            asked = mixed_names(count, tag, turn * (count * 7 // 10)) if options.validated else list(plain_names(count, tag))
            if profile:
                profile.enable()
            wall, cpu = time.perf_counter(), time.process_time()
            await _ask(port, asked, options.at_once)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if profile:
                profile.disable()
            costs.append((cpu / count * 1e6, count / wall))
        cost, rate = min(costs)
        print(f"{options.queries} queries, {options.at_once} at once: {cost:.1f} us CPU a query, {rate:.0f} queries/s")
        print(counters.summary())
        if profile:
            profile.dump_stats(options.profile)
            pstats.Stats(profile).sort_stats("tottime").print_stats(60)
        nursery.cancel_scope.cancel()


async def _ask(port: int, asked: list[str], at_once: int) -> None:
    generator = multiprocessing.get_context("fork").Process(target=generate, args=(port, asked, at_once), daemon=True)
    generator.start()
    await trio.to_thread.run_sync(generator.join)


def main() -> None:
    """Prepares zones and NSD, and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--validated", action="store_true")
    parser.add_argument("--queries", type=int, default=20000)
    parser.add_argument("--at-once", type=int, default=256)
    parser.add_argument("--profile")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        certificates = Certificates(Path(directory))
        upstream = Upstream(Path(directory), certificates, ROUNDS * options.queries * 7 // 10 if options.validated else 0)
        others, ours = {0}, {max(os.sched_getaffinity(0))}
        os.sched_setaffinity(0, others)
        with upstream:
            os.sched_setaffinity(0, ours)
            trio.run(measure, configuration(upstream, certificates.ca, options.validated), options)


if __name__ == "__main__":
    main()
