"""The lab's DoH server, asked by a plain HTTP/2 client."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator

import dns.message
import h2.connection
import h2.events
import pytest
import trio

from dohproxy.lab.faults import Fault
from dohproxy.lab.lab import Lab
from dohproxy.lab.zones import SERVER_NAME

QUERY = dns.message.make_query("www.rsa.lab.", "A", id=0, want_dnssec=True)
LARGE = dns.message.make_query("large.ed25519.lab.", "TXT", id=0, want_dnssec=True)


class Client:
    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.stream, self.h2 = stream, h2.connection.H2Connection()
        self.status: dict[int, str] = {}
        self.body: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.gone_away = False

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    def headers(self, method: str, path: str, media: str = "application/dns-message") -> list[tuple[str, str]]:
        fixed = [(":method", method), (":path", path), (":scheme", "https"), (":authority", SERVER_NAME)]
        return [*fixed, ("content-type", media), ("accept", "application/dns-message")]

    async def post(self, query: dns.message.Message, path: str = "/dns-query", media: str = "application/dns-message") -> int:
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, self.headers("POST", path, media))
        self.h2.send_data(stream_id, query.to_wire(), end_stream=True)
        await self.flush()
        return stream_id

    async def get(self, query: dns.message.Message) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        encoded = base64.urlsafe_b64encode(query.to_wire()).rstrip(b"=").decode()
        self.h2.send_headers(stream_id, self.headers("GET", f"/dns-query?dns={encoded}"), end_stream=True)
        await self.flush()
        return stream_id

    async def read(self, *stream_ids: int) -> None:
        while not self.ended.issuperset(stream_ids):
            chunk = await self.stream.receive_some(65536)
            if not chunk:
                raise EOFError
            for event in self.h2.receive_data(chunk):
                if isinstance(event, h2.events.ResponseReceived):
                    self.status[event.stream_id] = dict(event.headers)[b":status"].decode()
                elif isinstance(event, h2.events.DataReceived):
                    self.body[event.stream_id] = self.body.get(event.stream_id, b"") + event.data
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.ended.add(event.stream_id)
                elif isinstance(event, h2.events.ConnectionTerminated):
                    self.gone_away = True
            await self.flush()


@pytest.fixture
async def client(lab: Lab) -> AsyncIterator[Client]:
    context = ssl.create_default_context(cafile=str(lab.ca_file))
    context.set_alpn_protocols(["h2"])
    tcp = await trio.open_tcp_stream("127.0.0.1", lab.doh_port)
    client = Client(trio.SSLStream(tcp, context, server_hostname=SERVER_NAME, https_compatible=True))
    client.h2.initiate_connection()
    await client.flush()
    yield client
    await trio.aclose_forcefully(client.stream)


async def test_post_and_get_are_answered_alike(client: Client) -> None:
    posted, got = await client.post(QUERY), await client.get(QUERY)
    await client.read(posted, got)
    assert client.status == {posted: "200", got: "200"}
    assert client.body[posted] == client.body[got]
    answer = dns.message.from_wire(client.body[got])
    assert [rrset.rdtype.name for rrset in answer.answer] == ["A", "RRSIG"]


async def test_many_large_answers_wait_for_the_window(client: Client) -> None:
    ids = [await client.post(LARGE) for _ in range(30)]
    with trio.fail_after(5):
        await client.read(*ids)
    assert {len(client.body[stream_id]) for stream_id in ids} == {len(client.body[ids[0]])}
    assert sum(map(len, client.body.values())) > 65535


@pytest.mark.parametrize(
    ("path", "media", "status"), [("/other", "application/dns-message", "404"), ("/dns-query", "text/plain", "415")]
)
async def test_other_requests_are_refused(client: Client, path: str, media: str, status: str) -> None:
    stream_id = await client.post(QUERY, path, media)
    await client.read(stream_id)
    assert client.status[stream_id] == status


async def test_a_stalled_stream_holds_no_other(client: Client, lab: Lab) -> None:
    lab.faults.set(Fault.STALL, times=1)
    stalled = await client.post(QUERY)
    answered = await client.post(QUERY)
    with trio.fail_after(2):
        await client.read(answered)
    assert stalled not in client.ended


async def test_close_says_goaway(client: Client, lab: Lab) -> None:
    lab.faults.set(Fault.CLOSE, times=1)
    stream_id = await client.post(QUERY)
    with pytest.raises(EOFError):
        await client.read(stream_id)
    assert client.gone_away


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET])
async def test_it_ends_badly_when_told_to(client: Client, lab: Lab, fault: Fault) -> None:
    lab.faults.set(fault, times=1)
    stream_id = await client.post(QUERY)
    with trio.fail_after(2), pytest.raises((EOFError, trio.BrokenResourceError)):
        await client.read(stream_id)
    assert bool(client.body) is (fault is Fault.CUT)


async def test_http_errors(client: Client, lab: Lab) -> None:
    lab.faults.set(Fault.HTTP_ERROR, times=1)
    stream_id = await client.post(QUERY)
    await client.read(stream_id)
    assert client.status[stream_id] == "500"
