"""What both servers of the lab share: a TLS connection, the tree that answers, and the ways to end badly."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from functools import partial

import dns.exception
import dns.message
import trio

from dohproxy.lab.answers import answer
from dohproxy.lab.faults import Fault, Faults, distort
from dohproxy.lab.signer import Tree

Stream = trio.SSLStream[trio.SocketStream]


class Responder:
    """Answers messages from the tree, with the faults of the moment."""

    def __init__(self, tree: Tree, faults: Faults) -> None:
        self._tree, self.faults = tree, faults

    async def respond(self, wire: bytes) -> tuple[bytes, Fault | None]:
        """The reply, and what is still to be done wrong in sending it; raises dns.exception.DNSException."""
        query = dns.message.from_wire(wire)
        fault = self.faults.meet(query)
        await self.faults.hold(fault)
        return distort(answer(self._tree, query), fault), fault


Conversation = Callable[[Stream, Responder], Awaitable[None]]


async def listen(
    nursery: trio.Nursery, port: int, context: ssl.SSLContext, responder: Responder, conversation: Conversation
) -> int:
    """Takes TLS connections on 127.0.0.1 from now on, in `nursery`; answers the port, which is chosen where it is 0."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    serve = partial(_connection, context=context, responder=responder, conversation=conversation)
    nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
    bound: int = listeners[0].socket.getsockname()[1]
    return bound


async def _connection(
    tcp: trio.SocketStream, context: ssl.SSLContext, responder: Responder, conversation: Conversation
) -> None:
    stream = trio.SSLStream(tcp, context, server_side=True, https_compatible=True)
    try:
        await stream.do_handshake()
        responder.faults.connections += 1
        await conversation(stream, responder)
        await stream.aclose()
    except* (trio.BrokenResourceError, trio.ClosedResourceError, dns.exception.DNSException):
        pass  # the client left, would not trust us, or talks nonsense: its connection ends, the others stay
    finally:
        await trio.aclose_forcefully(tcp)


def reset(stream: Stream) -> None:
    """Ends the TCP connection with a RST, at once."""
    sock = stream.transport_stream.socket
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
