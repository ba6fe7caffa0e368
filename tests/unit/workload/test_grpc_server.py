"""The client of the Workload API beside a server of another hand: Google's gRPC."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trio
from spiffe_agents import bundles, der_of, issue, svids

from dohproxy.lab.certificates import Authority
from dohproxy.workload.client import Workload

grpc = pytest.importorskip("grpc")

WEB = "spiffe://prod.example/web"


class Server:
    """Streams what is put into its queues; demands the header that the standard has."""

    def __init__(self, socket: Path) -> None:
        self.svids: queue.Queue[bytes | None] = queue.Queue()
        self.bundles: queue.Queue[bytes | None] = queue.Queue()
        self._server = grpc.server(ThreadPoolExecutor(4))
        methods = {"FetchX509SVID": self._handler(self.svids), "FetchX509Bundles": self._handler(self.bundles)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("SpiffeWorkloadAPI", methods),))
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()

    def _handler(self, messages: queue.Queue[bytes | None]) -> Any:
        def stream(request: bytes, context: Any) -> Iterator[bytes]:
            if ("workload.spiffe.io", "true") not in context.invocation_metadata():
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
            assert request == b""
            while (message := messages.get()) is not None:
                yield message

        return grpc.unary_stream_rpc_method_handler(stream)

    def stop(self) -> None:
        self.svids.put(None)
        self.bundles.put(None)
        self._server.stop(None).wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "agent.sock")
    yield server
    server.stop()


async def test_svids_and_bundles_streamed_and_rotated(server: Server, tmp_path: Path, nursery: trio.Nursery) -> None:
    authority, other = Authority(), Authority()
    server.svids.put(svids(issue(authority, WEB), federated={f"{number}.example": der_of(other) * 20 for number in range(40)}))
    server.bundles.put(bundles({"far.example": der_of(other)}))
    workload = Workload(tmp_path / "agent.sock")
    await nursery.start(workload.run)
    before = workload.svid().current()
    with trio.fail_after(10):
        while "far.example" not in workload.bundles():  # noqa: ASYNC110 -- there is no event to wait for
            await trio.sleep(0.001)
    assert len(workload.bundles()) == 42
    for _ in range(50):
        server.svids.put(svids(issue(authority, WEB)))
    last = issue(other, WEB)
    server.svids.put(svids(last))
    with trio.fail_after(10):
        while workload.bundles()["prod.example"] != (der_of(other),):  # noqa: ASYNC110
            await trio.sleep(0.001)
    assert workload.svid().current() != before
