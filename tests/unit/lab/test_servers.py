"""The lab's DoT and DoH servers, asked by dnspython, and their faults."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import dns.asyncquery
import dns.exception
import dns.message
import dns.query
import pytest
import trio
from dns.message import Message

from dohproxy.lab.faults import Fault
from dohproxy.lab.lab import Lab
from dohproxy.lab.zones import SERVER_NAME

Ask = Callable[[Lab, Message], Awaitable[Message]]


def context(lab: Lab) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(lab.ca_file))


async def connect(lab: Lab) -> trio.SSLStream[trio.SocketStream]:
    tcp = await trio.open_tcp_stream("127.0.0.1", lab.dot_port)
    return trio.SSLStream(tcp, context(lab), server_hostname=SERVER_NAME, https_compatible=True)


async def read_message(stream: trio.SSLStream[trio.SocketStream]) -> Message:
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2]):
        chunk = await stream.receive_some(65536)
        if not chunk:
            raise EOFError(data)
        data += chunk
    return dns.message.from_wire(data[2:])


async def ask_dot(lab: Lab, query: Message) -> Message:
    stream = await connect(lab)
    async with stream:
        wire = query.to_wire()
        await stream.send_all(len(wire).to_bytes(2) + wire)
        return await read_message(stream)


def question(name: str = "www.rsa.lab.", rdtype: str = "A") -> Message:
    return dns.message.make_query(name, rdtype, want_dnssec=True)


async def test_dot_answers_with_signatures(lab: Lab) -> None:
    query = question()
    answer = await ask_dot(lab, query)
    assert query.is_response(answer)
    assert [rrset.rdtype.name for rrset in answer.answer] == ["A", "RRSIG"]
    assert lab.faults.asked == {("www.rsa.lab.", "A"): 1}


async def test_large_answers_come_whole(lab: Lab) -> None:
    answer = await ask_dot(lab, question("large.ed25519.lab.", "TXT"))
    assert len(answer.to_wire()) > 4000


async def test_the_certificate_is_for_name_and_address(lab: Lab) -> None:
    for name in (SERVER_NAME, "127.0.0.1"):
        tcp = await trio.open_tcp_stream("127.0.0.1", lab.dot_port)
        async with trio.SSLStream(tcp, context(lab), server_hostname=name) as stream:
            await stream.do_handshake()
    tcp = await trio.open_tcp_stream("127.0.0.1", lab.dot_port)
    with pytest.raises(trio.BrokenResourceError):
        await trio.SSLStream(tcp, context(lab), server_hostname="other.lab").do_handshake()
    await tcp.aclose()


async def test_dot_answers_out_of_order(lab: Lab) -> None:
    lab.faults.set(Fault.STALL, "www.rsa.lab.", times=1)
    async with await connect(lab) as stream:
        for query in (question(), question("www.ecdsa.lab.")):
            wire = query.to_wire()
            await stream.send_all(len(wire).to_bytes(2) + wire)
        with trio.fail_after(2):
            answer = await read_message(stream)
    assert str(answer.question[0].name) == "www.ecdsa.lab."


@pytest.mark.parametrize("fault", [Fault.CLOSE, Fault.CUT, Fault.RESET])
async def test_dot_ends_badly_when_told_to(lab: Lab, fault: Fault) -> None:
    lab.faults.set(fault, times=1)
    with trio.fail_after(2), pytest.raises((EOFError, trio.BrokenResourceError)) as caught:
        await ask_dot(lab, question())
    if fault is Fault.CUT:
        assert len(caught.value.args[0]) > 2
    assert await ask_dot(lab, question())


async def test_messages_are_distorted(lab: Lab) -> None:
    query = question()
    lab.faults.set(Fault.WRONG_ID, times=1)
    assert (await ask_dot(lab, query)).id != query.id
    lab.faults.set(Fault.WRONG_QUESTION, times=1)
    assert (await ask_dot(lab, query)).question != query.question
    lab.faults.set(Fault.SERVFAIL, times=1)
    assert (await ask_dot(lab, query)).rcode() == dns.rcode.SERVFAIL
    lab.faults.set(Fault.STRIPPED, times=1)
    assert len((await ask_dot(lab, query)).answer) == 1
    lab.faults.set(Fault.FLIPPED, times=1)
    flipped, sound = await ask_dot(lab, query), await ask_dot(lab, query)
    assert flipped.answer[0] == sound.answer[0] and flipped.answer[1] != sound.answer[1]


async def test_rules_hold_for_a_name_and_until_cleared(lab: Lab) -> None:
    lab.faults.set(Fault.SERVFAIL, "www.RSA.lab")
    rcodes = [(await ask_dot(lab, question(name))).rcode() for name in ("www.rsa.lab.", "www.ecdsa.lab.", "www.rsa.lab.")]
    lab.faults.clear()
    rcodes.append((await ask_dot(lab, question())).rcode())
    assert [int(rcode) for rcode in rcodes] == [2, 0, 2, 0]
