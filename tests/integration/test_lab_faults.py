"""The proxy as a process in front of the lab: faults of every kind, each once and for ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest
import trio
from dns.message import Message
from real_peers import Proxy, ede_codes

from dohproxy.lab.faults import Fault
from dohproxy.lab.lab import Lab, open_lab
from dohproxy.lab.samples import SAMPLES, ask

QUICK = "[forwarding]\ntimeout = 3.0\ntry_timeout = 0.5\nconnect_timeout = 1.0\n"
_fresh = count()


def fresh() -> str:
    """A name that no cache has: the lab's wildcard in NSEC3, or in an unsigned zone, answers."""
    return f"n{next(_fresh)}.wild.insecure.lab."


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as opened:
        yield opened


@pytest.fixture(params=["dot", "doh"])
def alone(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> AsyncIterator[Proxy]:
    """A proxy that has one of the lab's servers and nothing else."""
    url = lab.dot_url if request.param == "dot" else lab.doh_url
    with Proxy(tmp_path, lab.config_toml(0, [url], QUICK).replace("127.0.0.1:0", "127.0.0.1:PORT")) as proxy:
        yield proxy


@pytest.fixture
def both(lab: Lab, tmp_path: Path) -> AsyncIterator[Proxy]:
    """A proxy that has both."""
    with Proxy(tmp_path, lab.config_toml(0, more=QUICK).replace("127.0.0.1:0", "127.0.0.1:PORT")) as proxy:
        yield proxy


async def answer(proxy: Proxy, name: str, rdtype: str = "A", within: float = 4.5) -> Message:
    query = dns.message.make_query(name, rdtype, use_edns=0, payload=1232)
    query.flags |= dns.flags.AD
    message, _ = await dns.asyncquery.udp_with_fallback(query, "127.0.0.1", within, proxy.port)
    return message


async def test_each_sample_of_the_lab_is_right(both: Proxy) -> None:
    assert [result for sample in SAMPLES if not (result := await ask(sample, both.port)).right] == []


ONCE = [fault for fault in Fault if fault not in (Fault.FLIPPED, Fault.STRIPPED, Fault.HTTP_ERROR)]


@pytest.mark.parametrize("fault", ONCE, ids=lambda fault: fault.name)
async def test_what_goes_wrong_at_one_upstream_is_got_from_the_other(both: Proxy, lab: Lab, fault: Fault) -> None:
    assert (await answer(both, fresh())).rcode() == dns.rcode.NOERROR
    for _ in range(3):
        lab.faults.set(fault, name := fresh(), times=1)
        with trio.fail_after(3):
            message = await answer(both, name)
        assert message.rcode() == dns.rcode.NOERROR and message.answer, message
    lab.faults.clear()
    assert (await answer(both, fresh())).rcode() == dns.rcode.NOERROR


@pytest.mark.parametrize("fault", [*ONCE, Fault.HTTP_ERROR], ids=lambda fault: fault.name)
async def test_what_is_always_wrong_is_an_error_in_time(alone: Proxy, lab: Lab, fault: Fault) -> None:
    if fault is Fault.HTTP_ERROR and "https://" not in alone.config.read_text():
        return  # DoT has no status
    assert (await answer(alone, fresh())).rcode() == dns.rcode.NOERROR
    lab.faults.set(fault)
    message = await answer(alone, fresh())
    assert message.rcode() == dns.rcode.SERVFAIL and not message.answer
    assert ede_codes(message)[0] in (22, 23)
    lab.faults.clear()
    with trio.fail_after(15):
        await recovered(alone)


async def recovered(proxy: Proxy) -> None:
    for _ in range(100):
        if (await answer(proxy, fresh())).rcode() == dns.rcode.NOERROR:
            return
        await trio.sleep(0.1)
    pytest.fail("it does not recover")


@pytest.mark.parametrize(("fault", "codes"), [(Fault.FLIPPED, {6}), (Fault.STRIPPED, {10, 9, 12})])
async def test_spoiled_signatures_are_bogus(alone: Proxy, lab: Lab, fault: Fault, codes: set[int]) -> None:
    lab.faults.set(fault)
    message = await answer(alone, "www.rsa.lab.")
    assert message.rcode() == dns.rcode.SERVFAIL and not message.answer
    assert ede_codes(message)[0] in codes


@pytest.mark.parametrize("fault", [Fault.FLIPPED, Fault.STRIPPED], ids=lambda fault: fault.name)
async def test_signatures_that_one_upstream_spoils_are_asked_for_elsewhere(both: Proxy, lab: Lab, fault: Fault) -> None:
    assert (await answer(both, "www.rsa.lab.")).flags & dns.flags.AD
    lab.faults.set(fault, "www.ecdsa.lab.", times=1)
    message = await answer(both, "www.ecdsa.lab.")
    assert message.rcode() == dns.rcode.NOERROR and message.flags & dns.flags.AD


async def test_who_spoils_signatures_is_doubted_and_the_log_says_why(both: Proxy, lab: Lab) -> None:
    for name in ("www.ecdsa.lab.", "www.ed25519.lab.", "www.rsa.lab."):
        lab.faults.set(Fault.STRIPPED, name, times=1)
        assert (await answer(both, name)).flags & dns.flags.AD
    log = both.log.read_text()
    assert log.count("is doubted, for what it says of www.ecdsa.lab.: ") == 1
    assert log.count("is doubted") <= 2, "it is told once a minute for each"


async def test_one_question_is_asked_once_by_many(both: Proxy, lab: Lab) -> None:
    lab.faults.delay = 0.2
    name, messages = fresh(), []

    async def one() -> None:
        messages.append(await answer(both, name))

    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(one)
    assert {message.rcode() for message in messages} == {dns.rcode.NOERROR} and len(messages) == 30
    assert lab.faults.asked[name, "A"] == 1


async def test_many_questions_share_a_connection(alone: Proxy, lab: Lab) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(answer, alone, fresh())
    assert lab.faults.connections <= 4
