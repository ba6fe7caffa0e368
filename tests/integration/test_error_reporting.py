"""Error reporting from outside (RFC 9567): servers that name an agent, and what the agent is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import dns.asyncquery
import dns.edns
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
import trio
from dns_peers import Messages, Peer, framed
from real_peers import LISTEN, Proxy

AGENT = b"\x02an\x05agent\x00"
REPORT = "_er.1.a.domain.9._er.an.agent."
CONFIG = """
[[zone]]
name = "."
plaintext = true
upstream = ["tcp://127.0.0.1:{port}"]
[dnssec]
root_anchors = "none"
trust_anchors = ["a.domain. DS 50602 8 2 FA8EE175C47325F4BD46D8A4083C3EBEB11C977D689069F2B41F1A29B22446B1"]
report_errors = {report}
[cache]
failure_ttl = 1
"""


class Server:
    """Has the zone a.domain without keys and without signatures, and its agent."""

    def __init__(self, option: bytes | None = AGENT) -> None:
        self.option, self.asked = option, list[str]()
        self.options: list[int] = []

    def answer(self, wire: bytes) -> bytes:
        query = dns.message.from_wire(wire)
        [asked] = query.question
        self.asked.append(f"{asked.name} {dns.rdatatype.to_text(asked.rdtype)}")
        self.options += [int(option.otype) for option in query.options]
        reply = dns.message.make_response(query, recursion_available=True)
        if asked.rdtype == dns.rdatatype.A:
            reply.answer = [dns.rrset.from_text(asked.name, 5, "IN", "A", "192.0.2.1")]
            if self.option is not None:
                reply.use_edns(0, options=[dns.edns.GenericOption(18, self.option)])  # type: ignore[arg-type]
        elif asked.rdtype == dns.rdatatype.TXT:
            reply.answer = [dns.rrset.from_text(asked.name, 3600, "IN", "TXT", '"OK"')]
        return reply.to_wire()

    async def serve(self, _: Peer, stream: trio.abc.Stream) -> None:
        messages = Messages(stream)
        while True:
            await stream.send_all(framed(self.answer(await messages.next())))

    def reports(self) -> list[str]:
        return [one for one in self.asked if one.endswith(" TXT")]


async def proxied(server: Server, directory: Path, *, report: bool) -> AsyncIterator[Proxy]:
    async with trio.open_nursery() as nursery:
        peer = await Peer(server.serve).start(nursery, None)
        with Proxy(directory, LISTEN + CONFIG.format(port=peer.port, report=str(report).lower())) as proxy:
            yield proxy
        nursery.cancel_scope.cancel()


async def ask(proxy: Proxy, name: str, rdtype: str = "A") -> dns.message.Message:
    return await dns.asyncquery.udp(dns.message.make_query(name, rdtype, use_edns=0), "127.0.0.1", 5, proxy.port)


async def test_the_agent_is_asked_once_and_its_answer_is_cached(tmp_path: Path) -> None:
    server = Server()
    async for proxy in proxied(server, tmp_path, report=True):
        for _ in range(3):
            assert (await ask(proxy, "a.domain")).rcode() == dns.rcode.SERVFAIL
        got = await ask(proxy, REPORT, "TXT")
        assert "OK" in str(got.answer)
    assert server.reports() == [f"{REPORT} TXT"]
    assert 18 not in server.options  # RFC 9567 6.1: never in a query


@pytest.mark.parametrize(
    ("option", "report"),
    [(AGENT, False), (None, True), (b"", True), (b"\0", True), (AGENT + b"\xff" * 30, True)],
    ids=["switched off", "no agent", "empty", "root", "malformed"],
)
async def test_nobody_is_told_unless_switched_on_and_asked_for(tmp_path: Path, option: bytes | None, report: bool) -> None:
    server = Server(option)
    async for proxy in proxied(server, tmp_path, report=report):
        assert (await ask(proxy, "a.domain")).rcode() == dns.rcode.SERVFAIL
        await ask(proxy, "later.example")  # what was to be sent has been by now
    assert server.reports() == []
    assert "a.domain. A" in server.asked
