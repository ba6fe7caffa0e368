"""The client of the Workload API beside a server of another hand: Google's gRPC."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from spiffe_agents import bundles, der_of, issue, svids
from spiffe_grpc import Server

from dohproxy.lab.certificates import Authority
from dohproxy.workload.client import Workload

WEB = "spiffe://prod.example/web"


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
