"""What a hit costs this process: CPU time per query from the socket and back, with no generator's speed in it.

    python tests/bench/hit_cost.py [--queries 200000] [--names 10000] [--kind plain|mixed|long] [--ports 1] [--limited]

plain: as a stub asks. mixed: EDNS, DO, cookies, padding and 0x20 in turn. long: replies that do not fit, truncated.
--ports: how many the client asks from, in turn; replies to one port may leave together. --limited: the client has a
rate, which is never reached. Of the rounds the least is what to look at: what disturbs only adds.
DOHPROXY_CORE=pure measures the twin.
"""

from __future__ import annotations

import argparse
import random
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import dns.edns
import dns.message
from stages import Canned, answer

from dohproxy import core
from dohproxy.cache.replies import ReplyStore
from dohproxy.clock import Clock
from dohproxy.config.settings import ClientLimits
from dohproxy.front import Front, Generation
from dohproxy.listen.limited import Limited
from dohproxy.model import Transport
from dohproxy.policy.rates import Prefixes, Rates
from dohproxy.telemetry.counters import Counters

HOST = "127.0.0.1"
ROUNDS = 5


class Everybody:
    def admit(self, host: str) -> str:  # noqa: ARG002
        return "default"


def queries_of(kind: str, names: int) -> list[bytes]:
    """One query a name."""
    chance, found = random.Random(1), []
    for i in range(names):
        name = f"n{i}.example."
        edns: dict[str, object] = {"use_edns": False}
        if kind == "mixed":
            name = "".join(chance.choice((c, c.upper())) for c in name)
            cookie = dns.edns.GenericOption(10, chance.randbytes(8))
            padding = dns.edns.GenericOption(12, bytes(40))
            edns = {"use_edns": 0, "want_dnssec": bool(i % 2), "options": [[], [cookie], [cookie, padding]][i % 3]}
        found.append(dns.message.make_query(name, "A", payload=1232, **edns).to_wire())  # type: ignore[arg-type]
    return found


async def filled(queries: list[bytes], long: bool) -> Front:
    """A front that has an answer to each of them at hand."""
    canned = Canned()
    clock = Clock()
    for wire in queries:
        name = dns.message.from_wire(wire).question[0].name.to_text().lower()
        lines = [f"{name} 300 A 192.0.2.{n}" for n in range(60 if long else 1)]
        canned.on(name.rstrip("."), answer(*lines, born=clock.now() - 5))
    front = Front(Generation(canned, Everybody(), ReplyStore(64 << 20), False, 1232, 5.0), (), clock)
    for wire in queries:
        await front.answer(wire, HOST, Transport.UDP)
    return front


def batches(queries: list[bytes], count: int) -> Iterator[list[bytes]]:
    """So many queries, 64 at a time, over and over."""
    for start in range(0, count, 64):
        at = start % (len(queries) - 64)
        yield queries[at : at + 64]


def cost(front: Front, queries: list[bytes], count: int, ports: int, limited: bool) -> float:
    """Microseconds a hit."""
    counters = Counters()
    limit = Limited(Rates(ClientLimits(1e9, 1000), Prefixes(32, 56)), counters) if limited else None
    with ExitStack() as opened:
        server, *clients = (opened.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(1 + ports))
        for sock in (server, *clients):
            sock.bind((HOST, 0))
            sock.setblocking(False)
        for client in clients:
            client.connect(server.getsockname())
        datagrams = core.datagrams(server, front.recall, counters, False, limit)
        spent = 0.0
        for batch in batches(queries, count):
            for wire, client in zip(batch, cycle(clients), strict=False):
                client.send(wire)
            before = time.thread_time()
            misses = datagrams.take()
            spent += time.thread_time() - before
            assert not misses
            for _, client in zip(batch, cycle(clients), strict=False):
                client.recv(4096)
    return spent / counters.hits * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--names", type=int, default=10_000)
    parser.add_argument("--kind", choices=("plain", "mixed", "long"), default="plain")
    parser.add_argument("--ports", type=int, default=1)
    parser.add_argument("--limited", action="store_true")
    given = parser.parse_args()
    queries = queries_of(given.kind, given.names)
    front = trio.run(filled, queries, given.kind == "long")
    rounds = sorted(cost(front, queries, given.queries // ROUNDS, given.ports, given.limited) for _ in range(ROUNDS))
    print(f"{given.kind}, {core.KIND}: {rounds[0]:.2f} us a hit at least, {rounds[-1]:.2f} at most")


if __name__ == "__main__":
    main()
