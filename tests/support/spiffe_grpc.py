"""A SPIFFE agent of another hand, in threads: Google's gRPC."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc")


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
