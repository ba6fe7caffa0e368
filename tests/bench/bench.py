#!/usr/bin/env python3
"""Compares dohproxy with its peers on this machine, on loopback; see README.md."""

import argparse
import itertools
import json
import os
import platform
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import data
import streams
import systems
from procs import Server, ServerFailed, blast, counted
from systems import Job, System

Metrics = dict[str, float]
SUT_CPU, GENERATOR_CPU = 1, 0
FIRST_PORT = 20100
HIT_WINDOW, MISS_WINDOW = 128, 64  # queries in flight
MISS_RATE, HIT_RATES = 1000, (2000, 10000)  # queries a second
ROUNDS, FEWER_ROUNDS = 7, {"memory": 3, "rules": 3}  # those take long, and vary little
BAD = {"lost": "lost %", "wrong": "wrong %"}
SPEED = {"qps": "q/s", "cpu": "cpu µs/q"} | BAD
COUNTED = {  # perf's events, a thousand queries
    "syscalls:sys_enter_epoll_wait": "turns/1000",
    "syscalls:sys_enter_recvmmsg": "batches/1000",
    "context-switches": "switches/1000",
}
RESIDENT = {"start": "start s", "rss": "RSS MiB"}


class Subject:
    """One system as it takes part in one scenario."""

    def __init__(self, bench: "Bench", system: System, port: int, name: str) -> None:
        self.bench, self.system, self.port, self.name = bench, system, port, name
        self.upstream = system.upstream_for(bench.args.upstream)
        self.server: Server

    @contextmanager
    def running(self, block: bool = False) -> Iterator[Server]:
        run = self.bench.fresh_directory()
        job = Job(self.bench.work, run, self.port, self.upstream, self.bench.validate, block, self.bench.inbound)
        command = self.system.prepare(self.system.path or "", job)
        with Server(
            self.name,
            command,
            self.port,
            self.bench.args.cpus,
            run / "log",
            ready_zone=self.bench.ready_zone,
            patience=90 if block else 20,
        ) as self.server:
            yield self.server

    def load(self, queries: Path, *, window: int = 0, rate: float = 0, seconds: float = 20, once: bool = False) -> Metrics:
        """One run of the load generator, for some seconds or until each query was asked once."""
        before = self.server.cpu_seconds()
        with counted(self.server.pids(), [*COUNTED]) if self.bench.args.counts else nullcontext({}) as counts:
            got = blast(
                self.bench.work / "blast",
                self.port,
                queries,
                GENERATOR_CPU,
                seconds=seconds,
                window=window,
                rate=rate,
                once=once,
                ad=self.bench.validate,
                timeout=2 if once or rate else 0.2,
                ports=self.bench.args.ports,
            )
        cpu = self.server.cpu_seconds() - before
        return {
            "qps": got["qps"],
            "cpu": cpu / max(1, got["received"]) * 1e6,
            "p50": got["p50"],
            "p99": got["p99"],
            "lost": 100 * got["lost"] / max(1, got["sent"]),
            "wrong": 100 * got["wrong"] / max(1, got["sent"]),
        } | {event: 1000 * count / max(1, got["received"]) for event, count in counts.items()}

    def hits(self, queries: Path) -> Metrics:
        return self.load(queries, window=self.bench.args.window or HIT_WINDOW, seconds=self.bench.args.seconds)


@dataclass
class Results:
    samples: dict[str, list[Metrics]] = field(default_factory=dict)  # by system
    ratios: dict[str, list[Metrics]] = field(default_factory=dict)  # by peer: each pair's SUT / peer

    def add(self, name: str, metrics: Metrics) -> None:
        self.samples.setdefault(name, []).append(metrics)

    def add_ratio(self, peer: str, sut: Metrics, other: Metrics) -> None:
        self.ratios.setdefault(peer, []).append({k: v / other[k] for k, v in sut.items() if other.get(k)})

    def figure(self, name: str, metric: str) -> float | None:
        """The median; of what went bad the mean, which hides nothing."""
        values = [m[metric] for m in self.samples.get(name, []) if metric in m]
        return (statistics.fmean if metric in BAD else statistics.median)(values) if values else None

    def ratio(self, peer: str, metric: str) -> str:
        values = [m[metric] for m in self.ratios.get(peer, []) if metric in m]
        return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})" if values else ""


class Bench:
    """One call of bench.py: its directories, the upstreams, and who takes part."""

    def __init__(self, args: argparse.Namespace, stack: ExitStack) -> None:
        self.args, self.stack = args, stack
        self.work: Path = args.work.resolve()
        self.validate = args.scenario == "validated"
        self.inbound: str = {"stream": args.inbound, "handshake": "dot"}.get(args.scenario, "udp")
        self.ready_zone = "open.sec.zz" if self.validate else "plain.zz"
        self.rounds: int = args.rounds or FEWER_ROUNDS.get(args.scenario, ROUNDS)
        self.scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self.work / "run")))
        self.results = Results()
        self.pairs = self._pairs()
        self._start_upstreams()

    @property
    def subjects(self) -> Iterator[Subject]:
        return (subject for pair in self.pairs for subject in pair)

    def fresh_directory(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.scratch))

    def queries(self, lines: list[str]) -> Path:
        return data.write_queries(self.fresh_directory() / "queries", lines)

    def _pairs(self) -> list[list[Subject]]:
        """The SUT and a peer, for each peer, or one of them alone. Each pair has a SUT of its own, that saw as much."""
        args, known = self.args, systems.peers(self.args.dnscrypt_proxy)
        extra = args.sut_extra.read_text() if args.sut_extra else ""
        sut_name = f"sut={args.sut}" if args.sut in known else "sut"
        chosen = {sut_name: known.get(args.sut) or systems.dohproxy("dohproxy", args.sut, extra)}
        if args.base:
            chosen["base"] = systems.dohproxy("base", args.base, "" if args.plain_base else extra)
        for name in filter(None, args.peers.split(",")):
            if name not in known:
                raise SystemExit(f"unknown peer {name!r}; there are: {', '.join(known)}")
            chosen[name] = known[name]
        usable = {name: system for name, system in chosen.items() if self._can_use(name, system)}
        sut = [sut_name] if sut_name in usable else []
        names = [[*sut, peer] for peer in usable if peer != sut_name] or [sut]
        ports = itertools.count(FIRST_PORT)
        return [[Subject(self, usable[name], next(ports), name) for name in pair] for pair in names]

    def _can_use(self, name: str, system: System) -> bool:
        reason = (
            f"{system.binary} is not installed"
            if not system.path
            else "does not validate"
            if self.validate and not system.validates
            else "no block list for it here"
            if self.args.scenario == "rules" and not system.blocks
            else f"does not serve {self.inbound}"
            if self.inbound not in system.serves
            else ""
        )
        if reason:
            say(f"skipped: {name}: {reason}")
        return not reason

    def _start_upstreams(self) -> None:
        wanted = {s.upstream for s in self.subjects}
        upstreams: list[tuple[str, systems.Prepare, int]] = [("nsd", systems.nsd, systems.PORTS["udp"])]
        if "doh" in wanted:
            upstreams.append(("unbound", systems.unbound_doh, 20054))
        if wanted & {"h3", "doq"}:
            upstreams.append((str(self.work / "quic_go"), systems.quic, 20055))
        for binary, prepare, port in upstreams:
            path = shutil.which(binary, path=systems.SYSTEM_PATH)
            if not path:
                raise SystemExit(f"{binary} is not installed: run setup.sh")
            job = Job(self.work, self.fresh_directory(), port, "", self.validate)
            self.stack.enter_context(
                Server(
                    f"upstream ({binary})",
                    prepare(path, job),
                    port,
                    str(GENERATOR_CPU),
                    job.run / "log",
                    ready_zone=self.ready_zone,
                )
            )

    def start_all(self, warm: Path | None = None, block: bool = False) -> None:
        """Starts every system, to stay, and has it answer each query of `warm`. One that can't leaves its pair."""
        for pair in self.pairs:
            for subject in list(pair):
                try:
                    server = self.stack.enter_context(subject.running(block))
                except ServerFailed as e:
                    say(f"skipped: {e}")
                    pair.remove(subject)
                    continue
                self.results.add(subject.name, {"start": server.ready_after})
                self.stack.callback(self._add_memory, subject)
                if warm and subject.load(warm, window=32, once=True)["lost"]:
                    subject.load(warm, window=32, once=True)
        self.pairs = [pair for pair in self.pairs if pair]
        if not self.pairs:
            raise ServerFailed("nothing left to measure")

    def _add_memory(self, subject: Subject) -> None:
        self.results.add(subject.name, {"rss": subject.server.rss_mib()})

    def measure(self, one: Callable[[Subject, str], Metrics], rounds: int = 0) -> None:
        """Measures the two of each pair back to back, in either order; pair after pair, in a new order each round.

        `one` gets the subject and a tag of this turn, by which both do the same work, which nobody did before.
        """
        for number in range(rounds or self.rounds):
            for pair in random.sample(self.pairs, len(self.pairs)):
                got = {s: one(s, f"{number}x{pair[0].port}") for s in random.sample(pair, len(pair))}
                for subject, metrics in got.items():
                    self.results.add(subject.name, metrics)
                if len(pair) == 2:
                    sut, peer = pair
                    self.results.add_ratio(peer.name, got[sut], got[peer])
            print(f"  round {number + 1} of {rounds or self.rounds}", file=sys.stderr, flush=True)


# ---- scenarios: each measures, and answers what its table shows ----


@dataclass(frozen=True)
class Table:
    figures: dict[str, str]  # metric: title
    ratios: dict[str, str]


def hit(bench: Bench) -> Table:
    """Answers from the cache, as fast as they come."""
    queries = bench.work / "queries" / "hit"
    bench.start_all(warm=queries)
    bench.measure(lambda s, _: s.hits(queries))
    return Table(SPEED | RESIDENT, {"qps": "q/s", "cpu": "cpu"})


def fresh_work(bench: Bench, rate: int, calm: Callable[[str], list[str]], full: Callable[[str], list[str]]) -> Table:
    """Queries that only the pair's other half asks too: at a fixed rate, then as fast as answers come."""
    calm_file = cache(lambda tag: bench.queries(calm(tag + "calm")))
    full_file = cache(lambda tag: bench.queries(full(tag)))

    def one(subject: Subject, tag: str) -> Metrics:
        slow = subject.load(calm_file(tag), rate=rate, once=True)
        fast = subject.load(full_file(tag), window=bench.args.window or MISS_WINDOW, once=True)
        return fast | {k: max(fast[k], slow[k]) for k in BAD} | {"calm50": slow["p50"], "calm99": slow["p99"]}

    bench.measure(one)
    return Table(
        SPEED | {"calm50": f"p50 µs at {rate}/s", "calm99": "p99 µs"} | RESIDENT,
        {"qps": "q/s", "cpu": "cpu", "calm50": "p50", "calm99": "p99"},
    )


def miss(bench: Bench) -> Table:
    """Names that must be fetched from the upstream."""
    bench.start_all()
    count, rate = bench.args.queries or 30000, bench.args.rate or MISS_RATE
    return fresh_work(bench, rate, lambda tag: data.fresh_queries(tag, 2 * rate), lambda tag: data.fresh_queries(tag, count))


def validated(bench: Bench) -> Table:
    """Names that must be fetched and validated; the AD bits of the answers are checked."""
    bench.start_all()
    names = data.ValidatedQueries()
    count, rate = bench.args.queries or 5000, bench.args.rate or MISS_RATE
    return fresh_work(bench, rate, lambda _: names.take(rate), lambda _: names.take(count))


def mix(bench: Bench) -> Table:
    """90 % hits, drawn by Zipf's law from 100 000 cached names, and 10 % misses."""
    bench.start_all(warm=bench.work / "queries" / "fill")
    count, rate = bench.args.queries or 120000, bench.args.rate or HIT_RATES[0]
    return fresh_work(bench, rate, lambda tag: data.mixed_queries(tag, 2 * rate), lambda tag: data.mixed_queries(tag, count))


def latency(bench: Bench) -> Table:
    """The time of an answer at fixed, modest rates: from the cache (hit), and fetched (miss)."""
    hits = bench.work / "queries" / "hit"
    bench.start_all(warm=hits)
    misses = cache(lambda tag: bench.queries(data.fresh_queries(tag, 2 * MISS_RATE)))
    runs = [(f"hit@{rate}", rate) for rate in HIT_RATES] + [(f"miss@{MISS_RATE}", MISS_RATE)]

    def one(subject: Subject, tag: str) -> Metrics:
        total = dict.fromkeys(BAD, 0.0)
        for name, rate in runs:
            fetched = name.startswith("miss")
            got = subject.load(misses(tag) if fetched else hits, rate=rate, seconds=2, once=fetched)
            total |= {f"{name} {k}": got[k] for k in ("p50", "p99", "cpu")} | {k: max(total[k], got[k]) for k in BAD}
        return total

    bench.measure(one)
    return Table(
        {f"{name} {p}": f"{name} {p}" for name, _ in runs for p in ("p50", "p99")} | BAD,
        {f"{name} p50": f"{name} p50" for name, _ in runs},
    )


def startup(bench: Bench) -> Table:
    """From the start of the process to the first right answer through the upstream."""

    def one(subject: Subject, _: str) -> Metrics:
        with subject.running() as server:
            return {"start": server.ready_after, "cpu": server.cpu_seconds(), "rss": server.rss_mib()}

    bench.measure(one)
    return Table({"start": "start s", "cpu": "cpu s", "rss": "RSS MiB"}, {"start": "start", "cpu": "cpu"})


def memory(bench: Bench) -> Table:
    """Resident memory when idle, and with 100 000 names in the cache."""

    def one(subject: Subject, _: str) -> Metrics:
        with subject.running() as server:
            time.sleep(0.5)
            idle = server.rss_mib()
            filled = subject.load(bench.work / "queries" / "fill", window=32, once=True, seconds=60)
            full = server.rss_mib()
            bad = {k: filled[k] for k in BAD}
            return {"idle": idle, "full": full, "name": (full - idle) * 2**20 / data.FILL_NAMES} | bad

    bench.measure(one)
    return Table({"idle": "idle MiB", "full": "full MiB", "name": "bytes/name"} | BAD, {"idle": "idle", "full": "full"})


def rules(bench: Bench) -> Table:
    """A million blocked names: time and memory to load them, and hits with them; every tenth query is blocked.

    A list is loaded for the first time, and again, when there may be something at hand of that; then, and without a list, the
    same names are asked for, none of which is blocked.
    """

    def load_list(subject: Subject, _: str) -> Metrics:
        os.environ["XDG_CACHE_HOME"] = str(bench.fresh_directory())

        def warm_hits() -> float:
            subject.load(bench.work / "queries" / "hit", window=32, once=True)
            return subject.hits(bench.work / "queries" / "hit")["qps"]

        with subject.running() as server:
            bare, without = server.rss_mib(), warm_hits()
        with subject.running(block=True) as server:
            first = server.ready_after
        with subject.running(block=True) as server:
            rss, again = server.rss_mib(), server.ready_after
            beside = 100 * warm_hits() / without
        return {"first": first, "load": again, "rss": rss, "list": rss - bare, "beside": beside}

    queries = bench.work / "queries" / "rules"
    bench.measure(load_list)
    bench.start_all(warm=queries, block=True)
    for subject in bench.subjects:
        for i in range(0, data.BLOCKED_NAMES, data.BLOCKED_NAMES // 20):
            if socket.inet_aton(data.ADDRESS) in subject.server.ask(data.blocked_name(i)):
                raise SystemExit(f"{subject.name} does not block {data.blocked_name(i)}")
    bench.measure(lambda s, _: s.hits(queries), bench.args.rounds or ROUNDS)
    return Table(
        {"first": "load s", "load": "again s", "rss": "RSS MiB", "list": "list MiB", "beside": "hits, % without"} | SPEED,
        {"first": "load", "rss": "RSS", "qps": "q/s", "cpu": "cpu"},
    )


def overload(bench: Bench) -> Table:
    """Twice as many queries as it sustains: the share of answers that still leave, and hits beside a flood of misses."""
    hits = bench.work / "queries" / "hit"
    bench.start_all(warm=hits)
    count = bench.args.queries or 20000
    files = cache(lambda tag: bench.queries(data.fresh_queries(tag, count)))

    def flooded(subject: Subject, tag: str, rate: float) -> tuple[Metrics, Metrics]:
        """A flood of fresh names, and 1000 hits a second meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            flood = pool.submit(subject.load, files(tag), rate=rate, once=True)
            beside = subject.load(hits, rate=MISS_RATE, seconds=0.8 * count / rate)
            return flood.result(), beside

    def one(subject: Subject, tag: str) -> Metrics:
        most = subject.hits(hits)
        more = subject.load(hits, rate=2 * most["qps"], seconds=bench.args.seconds)
        misses = subject.load(files(tag + "a"), window=bench.args.window or MISS_WINDOW, once=True)
        flood, beside = flooded(subject, tag + "b", 2 * misses["qps"])
        return {
            "hits": most["qps"],
            "hits over": 100 * more["qps"] / most["qps"],
            "misses": misses["qps"],
            "misses over": 100 * flood["qps"] / misses["qps"],
            "p50": beside["p50"],
            "p99": beside["p99"],
            "lost beside": beside["lost"],
            "wrong": most["wrong"] + more["wrong"] + misses["wrong"] + beside["wrong"],
        }

    bench.measure(one)
    return Table(
        {
            "hits": "hits q/s",
            "hits over": "at twice %",
            "misses": "misses q/s",
            "misses over": "at twice %",
            "p50": "hit p50 µs",
            "p99": "p99 µs",
            "lost beside": "lost %",
            "wrong": "wrong %",
        },
        {},
    )


def stream(bench: Bench) -> Table:
    """Answers from the cache over 100 kept connections: TCP, or what --inbound says (DNS over TLS, over HTTPS)."""
    queries = bench.work / "queries" / "hit"
    bench.start_all(warm=queries)
    kind = bench.args.inbound

    def one(subject: Subject, _: str) -> Metrics:
        before = subject.server.cpu_seconds()
        got = streams.ask(kind, systems.inbound(kind, subject.port), queries, GENERATOR_CPU, bench.args.seconds)
        cpu = subject.server.cpu_seconds() - before
        return got | {"cpu": cpu / max(1, got["received"]) * 1e6}

    bench.measure(one)
    return Table(SPEED | RESIDENT, {"qps": "q/s", "cpu": "cpu"})


def handshake(bench: Bench) -> Table:
    """What a new connection by DNS over TLS costs, with one query on it: a whole handshake, and a resumed one."""
    bench.start_all(warm=bench.work / "queries" / "hit")

    def one(subject: Subject, _: str) -> Metrics:
        metrics = {}
        for name, resume in (("whole", False), ("resumed", True)):
            before = subject.server.cpu_seconds()
            count = streams.shake_hands(systems.inbound("dot", subject.port), bench.work / "pki" / "ca.pem", resume=resume)
            metrics[name] = (subject.server.cpu_seconds() - before) / count * 1e6
        return metrics

    bench.measure(one)
    return Table({"whole": "cpu µs", "resumed": "resumed µs"} | RESIDENT, {"whole": "whole", "resumed": "resumed"})


SCENARIOS: dict[str, Callable[[Bench], Table]] = {
    f.__name__: f for f in (hit, miss, validated, latency, mix, memory, startup, rules, overload, stream, handshake)
}


# ---- reporting ----


def say(text: str) -> None:
    print(text, flush=True)


def digits(value: float | None) -> str:
    """Three of them, about."""
    return "" if value is None else f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def print_table(bench: Bench, table: Table) -> None:
    results, titles = bench.results, table.figures | (COUNTED if bench.args.counts else {})
    rows = [["", "upstream", *titles.values(), *(f"SUT/peer {title}" for title in table.ratios.values())]]
    upstreams = {s.name: s.upstream for s in bench.subjects}
    for name, upstream in upstreams.items():
        figures = [digits(results.figure(name, metric)) for metric in titles]
        rows.append([name, upstream, *figures, *(results.ratio(name, metric) for metric in table.ratios)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(row)).rstrip())
    for name in upstreams:
        lost, wrong = (results.figure(name, metric) or 0 for metric in BAD)
        if wrong > 0.1 or lost > 1:
            say(f"! {name}: {wrong:.2f} % wrong, {lost:.2f} % lost: its speed is not a result")


def report(bench: Bench, table: Table) -> None:
    args = bench.args
    say(f"\n{args.scenario}: {SCENARIOS[args.scenario].__doc__}")
    say(f"Upstream {args.upstream}, {bench.rounds} rounds. Medians; ratios: median (min–max) of pairs run in turn.\n")
    print_table(bench, table)
    if args.json:
        args.json.write_text(
            json.dumps(
                {
                    "scenario": args.scenario,
                    "upstream": args.upstream,
                    "rounds": bench.rounds,
                    "sut": args.sut,
                    "machine": {"kernel": platform.release(), "cpus": os.cpu_count(), "load_average": os.getloadavg()},
                    "systems": {s.name: s.upstream for s in bench.subjects},
                    "samples": bench.results.samples,
                    "ratios": bench.results.ratios,
                },
                indent=1,
            )
        )


# ---- command line ----


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    work = Path(os.environ.get("BENCH_WORK") or Path(tempfile.gettempdir()) / f"dohproxy-bench-{os.getuid()}")
    add = parser.add_argument
    add("scenario", choices=[*SCENARIOS, "list"], help="list: tell which peers are installed")
    add(
        "--sut",
        default="dohproxy run --config {config}",
        metavar="COMMAND",
        help="the system under test: a command, or a peer's name",
    )
    add("--sut-extra", type=Path, metavar="FILE", help="TOML to append to dohproxy's configuration")
    add("--base", metavar="COMMAND", help="another build of dohproxy, as one more peer")
    add("--plain-base", action="store_true", help="have the base go without what --sut-extra appends")
    add("--peers", default="unbound,kresd,dnscrypt-proxy,dnsdist")
    add("--dnscrypt-proxy", default="dnscrypt-proxy", metavar="BIN")
    add("--upstream", default="dot", choices=("dot", "doh", "doq", "h3"), help="a peer that can't keeps its own")
    add("--inbound", default="tcp", choices=("tcp", "dot", "doh"), help="of the scenario stream")
    add("--rounds", type=int, default=0, help=f"0: {ROUNDS}, or fewer for memory and rules")
    add("--seconds", type=float, default=1.5, help="of each run of hits")
    add(
        "--rate",
        type=int,
        default=0,
        help=f"queries a second, where they come at a fixed rate; 0: {MISS_RATE}, or {HIT_RATES[0]} for mix",
    )
    add("--window", type=int, default=0, help=f"queries in flight; 0: {HIT_WINDOW} for hits, else {MISS_WINDOW}")
    add("--ports", type=int, default=8, help="that the generator asks from, by UDP; at most 64")
    add("--queries", type=int, default=0, help="of each run of fresh names; 0: as the scenario likes")
    add("--cpus", default=str(SUT_CPU), help="where the systems run, as for taskset")
    add("--counts", action="store_true", help="have perf count how often they turn, read datagrams, and leave the CPU")
    add("--work", type=Path, default=work, help="the directory that setup.sh filled")
    add("--json", type=Path, metavar="FILE", help="write all samples and ratios there")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.scenario == "list":
        for system in systems.peers(args.dnscrypt_proxy).values():
            say(f"{system.name}: {system.path or 'not installed'}")
        return
    if not (args.work / "zones" / "sec.zz.signed").exists():
        raise SystemExit(f"nothing in {args.work}: run setup.sh --work {args.work} first")
    if not {SUT_CPU, GENERATOR_CPU} <= os.sched_getaffinity(0):
        raise SystemExit(f"needs CPU {SUT_CPU} for the systems and CPU {GENERATOR_CPU} for generator and upstreams")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with ExitStack() as stack:
            bench = Bench(args, stack)
            if not any(bench.subjects):
                raise SystemExit("nothing to measure")
            table = SCENARIOS[args.scenario](bench)
        report(bench, table)
    except (ServerFailed, subprocess.SubprocessError) as e:
        raise SystemExit(str(e)) from e


if __name__ == "__main__":
    main()
