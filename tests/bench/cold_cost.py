"""What a miss costs but for its input and output, by how long ago the miss before it was: medians, µs of wall-clock time.

    python tests/bench/cold_cost.py [--since 0 0.5 1 2 5] [--busy] [--at-once 1] [--turns 800]

From the octets of the query to those of the question, and from the answer's to the reply's: in one process, without sockets
and TLS. Between misses the process sleeps half a millisecond at a time, as where hits come at 2000/s, or with --busy keeps
the CPU. What it shows is how soon a machine forgets what was not used for a while: its caches, which others share.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path

import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from wires import WirePool, serving

from dohproxy import courses
from dohproxy.front import Front
from dohproxy.model import Transport
from dohproxy.wire.framing import Unframer, frame

CONFIG = """
[listen]
udp = ["127.0.0.1:5399"]
[[upstream]]
url = "tls://127.0.0.1:8853"
tls_name = "upstream.example"
[dnssec]
mode = "off"
"""
NAP = 0.0005
QUERY, ANSWER = b"\1\x20\0\1\0\0\0\0\0\0", b"\x81\x80\0\1\0\1\0\0\0\0"  # flags and counts
QTYPE_QCLASS, RECORD = b"\0\1\0\1", b"\xc0\x0c\0\1\0\1\0\0\x0e\x10\0\4\x7f\0\0\1"
WARMING = 50
serials = itertools.count()


def let_pass(seconds: float, busy: bool) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        if not busy:
            time.sleep(NAP)


def query() -> bytes:
    return b"\0\7" + QUERY + b"\x09m%08d\7example\0" % next(serials) + QTYPE_QCLASS


def answer(asked: bytes) -> bytes:
    question = asked[12 : asked.index(QTYPE_QCLASS, 12) + 4]  # and no EDNS
    return frame(asked[:2] + ANSWER + question + RECORD)


async def measure(front: Front, pool: WirePool, at_once: int, turns: int, since: float, busy: bool) -> tuple[float, float]:
    """Seconds a miss takes until it is asked, and from its answer on."""
    asking, replying = list[float](), list[float]()
    replies: list[bytes] = []
    connection = pool._connections[0]
    async with courses.owned() as begun:
        for _ in range(turns):
            queries = [query() for _ in range(at_once)]
            let_pass(since, busy)
            start = time.perf_counter()
            for wire in queries:
                front.begin(wire, "127.0.0.1", Transport.UDP, begun, replies.append)
            asked = time.perf_counter()
            answers = b"".join(map(answer, Unframer().receive_untrusted(b"".join(connection._session.take()))))
            let_pass(since, busy)
            connection._active = connection._heard = trio.current_time()
            received = time.perf_counter()
            for each in connection._session.receive_untrusted(answers):
                connection._deliver(each)
            end = time.perf_counter()
            assert len(replies) == at_once, f"{len(replies)} replies"
            replies.clear()
            asking.append((asked - start) / at_once)
            replying.append((end - received) / at_once)
    return statistics.median(asking), statistics.median(replying)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--since", type=float, nargs="+", default=[0, 0.5, 1, 2, 5], metavar="MS", help="milliseconds")
    parser.add_argument("--busy", action="store_true", help="do not sleep meanwhile")
    parser.add_argument("--at-once", type=int, default=1, metavar="N", help="misses in a turn; at most 90")
    parser.add_argument("--turns", type=int, default=800, metavar="N")
    args = parser.parse_args()
    async with serving(CONFIG) as (service, _, pools):
        [pool] = pools.values()
        await trio.testing.wait_all_tasks_blocked()
        pool.look()  # the probe of a new connection
        await trio.testing.wait_all_tasks_blocked()
        await measure(service.front, pool, args.at_once, WARMING, 0, True)
        for since in args.since:
            asking, replying = await measure(service.front, pool, args.at_once, args.turns, since / 1000, args.busy)
            print(f"{since:g} ms since the last: {asking * 1e6:.1f} us to the question, {replying * 1e6:.1f} to the reply")


if __name__ == "__main__":
    trio.run(main)
