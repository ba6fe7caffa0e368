"""DNS over TLS, as a server (RFC 7858): many queries on a connection, each answered when its answer is ready."""

from __future__ import annotations

from collections.abc import AsyncIterator

import trio

from dohproxy.lab.faults import Fault
from dohproxy.lab.server import Responder, Stream, reset

ALPN = "dot"


async def converse(stream: Stream, responder: Responder) -> None:
    """Answers what comes until the client ends it, or a fault does."""
    sending = trio.Lock()
    async with trio.open_nursery() as nursery:

        async def reply(query: bytes) -> None:
            wire, fault = await responder.respond(query)
            framed = len(wire).to_bytes(2) + wire
            async with sending:
                if fault is Fault.RESET:
                    reset(stream)
                elif fault is Fault.CUT:
                    await stream.send_all(framed[: len(framed) // 2])
                elif fault is not Fault.CLOSE:
                    await stream.send_all(framed)
            if fault in (Fault.RESET, Fault.CUT, Fault.CLOSE):
                nursery.cancel_scope.cancel()

        async for query in _queries(stream):
            nursery.start_soon(reply, query)
        nursery.cancel_scope.cancel()


async def _queries(stream: Stream) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for chunk in stream:
        buffer += chunk
        while len(buffer) >= 2 and len(buffer) >= (end := 2 + int.from_bytes(buffer[:2])):
            yield bytes(buffer[2:end])
            del buffer[:end]
