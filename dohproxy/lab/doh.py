"""DNS over HTTPS, as a server (RFC 8484) on HTTP/2: GET and POST, streams answered as they are ready."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qs, urlsplit

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trio
from msgspec import Struct

from dohproxy.lab.faults import Fault
from dohproxy.lab.server import Responder, Stream, reset

ALPN = "h2"
PATH = "/dns-query"
MEDIA_TYPE = "application/dns-message"


async def converse(stream: Stream, responder: Responder) -> None:
    """Answers requests until the client ends it, or a fault does."""
    async with trio.open_nursery() as nursery:
        connection = _Connection(stream, responder, nursery)
        await connection.run()
        nursery.cancel_scope.cancel()


class _Request(Struct):
    headers: dict[str, str]
    body: bytes = b""

    def message(self) -> tuple[int, bytes]:
        """An HTTP status, and the DNS message where it is 200."""
        target = urlsplit(self.headers[":path"])
        if target.path != PATH:
            return 404, b""
        if self.headers[":method"] == "POST":
            return (200, self.body) if self.headers.get("content-type") == MEDIA_TYPE else (415, b"")
        if self.headers[":method"] != "GET":
            return 405, b""
        encoded = parse_qs(target.query).get("dns", [""])[0]
        try:
            return 200, base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except binascii.Error:
            return 400, b""


class _Connection:
    """One HTTP/2 connection and its streams."""

    def __init__(self, stream: Stream, responder: Responder, nursery: trio.Nursery) -> None:
        self._stream, self._responder, self._nursery = stream, responder, nursery
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="ascii"))
        self._requests: dict[int, _Request] = {}
        self._sending = trio.Lock()
        self._window_opened = trio.Event()

    async def run(self) -> None:
        self._h2.initiate_connection()
        await self._flush()
        async for chunk in self._stream:
            try:
                events = self._h2.receive_data(chunk)
            except h2.exceptions.ProtocolError:
                await self._flush()
                return
            for event in events:
                self._handle(event)
            await self._flush()

    def _handle(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.RequestReceived():
                self._requests[event.stream_id] = _Request({str(name): str(value) for name, value in event.headers})
            case h2.events.DataReceived():
                self._requests[event.stream_id].body += event.data
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                self._nursery.start_soon(self._respond, event.stream_id, self._requests.pop(event.stream_id))
            case h2.events.StreamReset():
                self._requests.pop(event.stream_id, None)
            case h2.events.WindowUpdated() | h2.events.RemoteSettingsChanged():
                self._window_opened.set()
                self._window_opened = trio.Event()

    async def _respond(self, stream_id: int, request: _Request) -> None:
        status, query = request.message()
        wire, fault = await self._responder.respond(query) if status == 200 else (b"", None)
        if fault in (Fault.RESET, Fault.CLOSE, Fault.CUT):
            await self._break(stream_id, wire, fault)
            return
        if fault is Fault.HTTP_ERROR:
            status, wire = 500, b""
        try:
            self._h2.send_headers(stream_id, [(":status", str(status)), ("content-type", MEDIA_TYPE)])
            await self._send(stream_id, wire)
        except h2.exceptions.ProtocolError:
            return  # the client gave this stream up

    async def _break(self, stream_id: int, wire: bytes, fault: Fault) -> None:
        if fault is Fault.RESET:
            reset(self._stream)
        elif fault is Fault.CLOSE:
            self._h2.close_connection(last_stream_id=max(stream_id - 2, 0))
        else:
            self._h2.send_headers(stream_id, [(":status", "200"), ("content-length", str(len(wire)))])
            self._h2.send_data(stream_id, wire[: len(wire) // 2])
        await self._flush()
        self._nursery.cancel_scope.cancel()

    async def _send(self, stream_id: int, data: bytes) -> None:
        while data:
            room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
            if room <= 0:
                await self._window_opened.wait()
                continue
            self._h2.send_data(stream_id, data[:room])
            data = data[room:]
        self._h2.end_stream(stream_id)
        await self._flush()

    async def _flush(self) -> None:
        async with self._sending:
            if octets := self._h2.data_to_send():
                await self._stream.send_all(octets)
