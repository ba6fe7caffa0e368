from __future__ import annotations

import pytest
import trio
from dns_peers import QUICK, Bench, ask

from dohproxy.upstream.addresses import Addresses

FOUR, SIX = ("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")


async def order(*given: str, worked: str = "") -> tuple[str, ...]:
    addresses = Addresses(given)
    if worked:
        addresses.worked(worked)
    return await addresses.known()


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ((*FOUR, *SIX), (FOUR[0], SIX[0], FOUR[1], SIX[1])),
        ((*SIX, *FOUR), (SIX[0], FOUR[0], SIX[1], FOUR[1])),
        (FOUR, FOUR),
        ((SIX[0], *FOUR), (SIX[0], *FOUR)),
    ],
)
async def test_families_take_turns(given: tuple[str, ...], ordered: tuple[str, ...]) -> None:
    assert await order(*given) == ordered


async def test_what_worked_last_is_tried_first_then_the_other_family() -> None:
    assert await order(*FOUR, *SIX, worked="2001:db8:0::2") == (SIX[1], FOUR[0], SIX[0], FOUR[1])
    assert await order(*FOUR, worked=FOUR[1]) == (FOUR[1], FOUR[0])


async def test_what_worked_and_is_not_told_any_more_does_not_matter() -> None:
    assert await order(*FOUR, worked="198.51.100.1") == FOUR


async def test_an_upstream_remembers_what_worked(bench: Bench) -> None:
    peer = await bench.serve()
    dot = await bench.dot(peer.port, QUICK, addresses=("127.0.0.77", "127.0.0.1"))
    await dot.resolve(ask())
    assert await dot._route.addresses.known() == ("127.0.0.1", "127.0.0.77")


async def test_an_address_that_swallows_costs_a_quarter_of_a_second(bench: Bench) -> None:
    peer = await bench.serve()
    dot = await bench.dot(peer.port, QUICK, addresses=("192.0.2.77", "127.0.0.1"))
    before = trio.current_time()
    await dot.resolve(ask())
    assert trio.current_time() - before < 0.6
