"""What a question to an encrypted upstream costs this process: CPU time per query over DoT, DoH, DoQ and DoH3 on loopback.

    python tests/bench/upstream_cost.py [--scheme tls|https|quic|h3] [--queries 20000] [--at-once 256] [--raw]

The server is a process of its own: ours of the tests, or over QUIC one on quic-go. With --raw the answers are not parsed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from dns_peers import Certificates, Peer, framed, reply_to
from http2_peers import Http2
from quic_go_peer import QuicGo, build

from dohproxy.config.settings import Forwarding, Upstream
from dohproxy.model import INTERNAL, Answer, Query, Question, Transport
from dohproxy.upstream import connection
from dohproxy.upstream.doh import Doh
from dohproxy.upstream.doh3 import Doh3
from dohproxy.upstream.doq import Doq
from dohproxy.upstream.dot import Dot
from dohproxy.wire import names

KINDS = {"tls": Dot, "https": Doh, "quic": Doq, "h3": Doh3}


async def echo(peer: Peer, stream: trio.abc.Stream) -> None:
    """Answers everything that a read brings with one write."""
    rest = b""
    while data := await stream.receive_some(65536):
        rest += data
        answers, at = [], 0
        while len(rest) - at >= 2 and len(rest) >= at + 2 + int.from_bytes(rest[at : at + 2]):
            end = at + 2 + int.from_bytes(rest[at : at + 2])
            answers.append(framed(reply_to(rest[at + 2 : end])))
            at = end
        rest = rest[at:]
        if answers:
            await stream.send_all(b"".join(answers))


def serve(pipe: Pipe, certificate: tuple[Path, Path], scheme: str) -> None:
    """The server's process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.set_alpn_protocols(["dot" if scheme == "tls" else "h2"])

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            peer = Peer(echo if scheme == "tls" else Http2(streams=1000))
            await peer.start(nursery, context)
            pipe.send(peer.port)

    trio.run(main)


@contextmanager
def serving(directory: Path, certificate: tuple[Path, Path], scheme: str) -> Iterator[int]:
    """The port of a server that runs until the block ends."""
    if scheme in ("quic", "h3"):
        with QuicGo(build(directory), certificate, "-streams", "1000") as server:
            yield server.doq_port if scheme == "quic" else server.doh3_port
        return
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(theirs, certificate, scheme), daemon=True)
    server.start()
    yield ours.recv()
    server.terminate()
    server.join()


async def measure(upstream: Dot | Doh | Doq | Doh3, queries: int, at_once: int) -> None:
    """Asks, and prints what it cost."""
    left = iter(range(queries))

    async def asker() -> None:
        for number in left:
            question = Question(names.from_text(f"n{number}.bench.example."), 1)
            await upstream.resolve(Query(question, INTERNAL, trio.current_time() + 10))

    async with trio.open_nursery() as running:
        await running.start(upstream.run)
        wall, cpu = time.perf_counter(), time.process_time()
        async with trio.open_nursery() as asking:
            for _ in range(at_once):
                asking.start_soon(asker)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        running.cancel_scope.cancel()
    print(f"{queries} queries, {at_once} at once: {cpu / queries * 1e6:.1f} us CPU a query, {queries / wall:.0f} queries/s")


def _unparsed(reply: bytes, upstream: str, transport: Transport, born: float) -> Answer:
    return Answer(0, born=born, upstream=upstream, transport=transport)


def main() -> None:
    """Starts the server and measures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scheme", choices=tuple(KINDS), default="tls")
    parser.add_argument("--queries", type=int, default=20000)
    parser.add_argument("--at-once", type=int, default=256)
    parser.add_argument("--raw", action="store_true")
    options = parser.parse_args()
    if options.raw:
        connection.answer_from = _unparsed
    with tempfile.TemporaryDirectory() as directory:
        certificates = Certificates(Path(directory))
        with serving(Path(directory), certificates.good, options.scheme) as port:
            upstream = Upstream(
                name="bench",
                scheme=options.scheme,
                host="dns.test",
                port=port,
                tls_name="dns.test",
                ca_file=certificates.ca,
                addresses=("127.0.0.1",),
            )
            trio.run(measure, KINDS[options.scheme](upstream, Forwarding(pipeline=1000)), options.queries, options.at_once)


if __name__ == "__main__":
    main()
