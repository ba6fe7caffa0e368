"""Feeds all compiled parts, of `core`, `wire`, `dnssec` and `cache`, random octets, with AddressSanitizer and UBSan.

    python tests/fuzz/core.py [--seconds 120] [--seed N]

Needs gcc and Cython; the twins in Python are the oracle. Half the time goes to the core: queries that have a finished reply
at hand are mutated bit by bit, cut, joined and sent to sockets: of one address, of all, and of one where clients have a rate.
The other half is shared by `wire`, which reads and writes messages as in tests/property/test_quick.py, `dnssec`, which reads
records as in test_dnssec_quick.py there, and the store of `cache`, as in tests/unit/cache/test_bounded_twins.py. Ends with
status 1 at the first difference, or when a sanitizer says something.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import socket
import struct
import subprocess
import sys
import tempfile
import time
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from limits import EveryThird

from dohproxy.cache.replies import ReplyStore
from dohproxy.clock import Clock
from dohproxy.core import pure
from dohproxy.core.pktinfo import ask_for_packet_info, wants_packet_info
from dohproxy.front import Front, Generation
from dohproxy.model import Answer, Ede, Query, RRset, Transport
from dohproxy.telemetry.counters import Counters

ROOT = Path(__file__).parents[2]
FLAGS = "-O1 -g -fPIC -shared -fwrapv -fno-strict-aliasing -fsanitize=address,undefined -fno-sanitize-recover=all"
LIBRARIES = ("libasan.so", "libubsan.so")
HOST = "127.0.0.1"
NOW = 1000.0
OPT = b"\0\0\x29\x04\xd0\0\0\x80\0"
OPTIONS = (b"\0\0", b"\0\x0c\0\x0a\0\x08cookiecl", b"\0\x20\0\x0c\0\x1c" + bytes(28))
CUTS = (b"", b"\0", b"\xc0\x0c", b"\xff\xff", b"\0\0\x29", b"\0\x0a\0\x08abcdefgh", bytes(300), b"\x3f" * 64)


def restart_with_sanitizers() -> None:
    """Build the core anew and run this program again with it, and with what it needs preloaded."""
    sys.path.insert(0, str(ROOT))
    from hatch_build import SOURCES, compile_core

    with tempfile.TemporaryDirectory() as directory:
        for source in SOURCES:
            built = Path(directory, source.parent.name, "_compiled" + EXTENSION_SUFFIXES[0])
            built.parent.mkdir()
            compile_core(ROOT / source, built, FLAGS)
        found = [subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip() for name in LIBRARIES]
        environment = os.environ | {
            "FUZZED": directory,
            "LD_PRELOAD": ":".join(found),
            "PYTHONMALLOC": "malloc",  # so that no read beyond an object goes unnoticed
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONPATH": str(ROOT),
            "DOHPROXY_CORE": "pure",
        }
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment, check=False).returncode)


def load(room: str) -> ModuleType:
    """The compiled part of this room as it was built for this: also for whoever imports it from now on."""
    name = f"dohproxy.{room}._compiled"
    path = Path(os.environ["FUZZED"], room, "_compiled" + EXTENSION_SUFFIXES[0])
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seeds() -> list[bytes]:
    """Queries as they come."""
    found = []
    for name in (b"\3www\7example\0", b"\0", b"\3big\7example\0", (b"\x3f" + b"x" * 63) * 3 + b"\x3d" + b"y" * 61 + b"\0"):
        for qtype in (1, 65):
            question = name + struct.pack("!HH", qtype, 1)
            found.append(b"\0\1\1\0\0\1\0\0\0\0\0\0" + question)
            found += [b"\0\1\1\x20\0\1\0\0\0\0\0\1" + question + OPT + options for options in OPTIONS]
    return found


def mutated(wire: bytes, chance: random.Random) -> bytes:
    """The query, less well."""
    out = bytearray(wire)
    for _ in range(chance.choice((0, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(5):
            case 0 if at < len(out):
                out[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(out):
                out[at] = chance.choice((0, 1, 12, 63, 64, 127, 128, 192, 255))
            case 2:
                del out[at:]
            case 3:
                out[at:at] = chance.choice(CUTS)
            case _:
                out += chance.choice(CUTS)
    return bytes(out[:5000])


class Side:
    """One core with a socket of its own, and a client that asks it."""

    def __init__(self, core: ModuleType, front: Front, bound_to: str = HOST, limit: EveryThird | None = None) -> None:
        self.counters = Counters()
        self._limit = limit
        self.recall = core.Recaller(lambda: NOW, print)
        self.recall.use(front._groups, front._generation.replies.get, 1232)
        family, host = (socket.AF_INET6, "::1") if ":" in bound_to else (socket.AF_INET, HOST)
        self.server, self.client = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
        for sock, address in ((self.server, bound_to), (self.client, host)):
            sock.bind((address, 0))
            sock.setblocking(False)
        if wants_packet_info(self.server):
            ask_for_packet_info(self.server)
        self.client.connect((host, self.server.getsockname()[1]))
        self._datagrams = core.Datagrams(self.server, self.recall, self.counters, wants_packet_info(self.server), limit)

    def exchange(self, batch: list[bytes]) -> tuple[list[bytes], list[bytes], list[bytes | None]]:
        """The replies, what was handed back, and what is recalled of the same over TCP."""
        for wire in batch:
            self.client.send(wire)
        before = self._limit.silent if self._limit else 0
        missed = [wire for wire, _, _ in self._datagrams.take()]
        silent = self._limit.silent - before if self._limit else 0
        replies = sorted(self.client.recv(65535) for _ in range(len(batch) - len(missed) - silent))  # in any order
        return replies, missed, [self.recall(wire, HOST, Transport.TCP) for wire in batch]


class Anything:
    """Everybody is served, and there is an answer to every question; to some a long one."""

    def admit(self, host: str) -> str:  # noqa: ARG002
        return "default"

    async def resolve(self, query: Query) -> Answer:
        question = query.question
        count = 90 if question.qname.startswith(b"\3big") else 2
        rrset = RRset(question.qname, question.qtype, 300, tuple(bytes((192, 0, 2, n)) for n in range(count)))
        return Answer(0, (rrset,), ede=(Ede(29, "made up"),), born=NOW - 10)


async def filled(corpus: list[bytes]) -> Front:
    """A front that has the answers to all these at hand."""
    stage = Anything()
    front = Front(Generation(stage, stage, ReplyStore(1 << 22), False, 1232, 5.0), (), Clock(lambda: NOW, lambda: NOW))
    for wire in corpus:
        await front.answer(wire, HOST, Transport.UDP)
    return front


def compare(pairs: list[tuple[Side, Side]], corpus: list[bytes], seconds: float, chance: random.Random) -> None:
    """Go on for so long; raises AssertionError at the first difference."""
    tried, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        batch = [mutated(chance.choice(corpus), chance) for _ in range(chance.randrange(1, 65))]
        first, second = (side.exchange(batch) for side in pairs[tried % len(pairs)])
        assert first == second, f"they differ over {[wire.hex() for wire in batch]}"
        tried += len(batch)
    hits = 0
    for sides in pairs:
        told, other = (side.counters.snapshot() for side in sides)
        assert told == other
        hits += told["hits"]
    print(f"{tried} datagrams, {hits} of them hits: no difference")


def compare_messages(seconds: float, chance: random.Random) -> None:
    """The same for what `wire` reads and writes, for what `dnssec` reads, and for what `cache` keeps."""
    for room in ("wire", "dnssec", "cache"):
        load(room)
    sys.path[:0] = [str(ROOT / "tests" / part) for part in ("property", "support", "unit/cache")]
    import test_bounded_twins
    import test_dnssec_quick
    import test_quick

    for test, what in ((test_quick, "messages"), (test_dnssec_quick, "signatures"), (test_bounded_twins, "operations")):
        rounds, until = 0, time.monotonic() + seconds / 3
        while time.monotonic() < until:
            test.compare(chance.getrandbits(64), 100)
            rounds += 100
        print(f"{rounds} {what} of each kind: no difference")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    if "FUZZED" not in os.environ:
        restart_with_sanitizers()
    corpus = seeds()
    front = trio.run(filled, corpus)
    cores = (pure, load("core"))
    kinds = [(HOST, False), ("0.0.0.0", False), ("::", False), (HOST, True)]
    pairs = [tuple(Side(core, front, host, EveryThird() if limited else None) for core in cores) for host, limited in kinds]
    chance = random.Random(given.seed)
    compare(pairs, corpus, given.seconds / 2, chance)
    compare_messages(given.seconds / 2, chance)


if __name__ == "__main__":
    main()
