from __future__ import annotations

import pytest
from stages import Canned, answer, query, question

from dohproxy.errors import NoReachableUpstream, UpstreamFailed
from dohproxy.resolve.chased import Chased
from dohproxy.resolve.routed import Routed
from dohproxy.wire import names

CORP, ROOT = names.from_text("corp.example"), names.ROOT


@pytest.mark.parametrize(
    ("name", "qtype", "zone"),
    [
        ("www.corp.example", "A", CORP),
        ("CORP.example", "SOA", CORP),
        ("corp.example", "DS", ROOT),  # the parent's (RFC 4035 3.1.4.1)
        ("sub.corp.example", "DS", CORP),
        ("xcorp.example", "A", ROOT),
        (".", "DS", ROOT),
    ],
)
def test_the_closest_enclosing_zone_decides(name: str, qtype: str, zone: bytes) -> None:
    assert Routed({ROOT: Canned(), CORP: Canned()}).zone_of(question(name, qtype)) == zone


async def test_a_name_that_nobody_is_responsible_for_is_an_error() -> None:
    with pytest.raises(NoReachableUpstream, match=r"no upstream is configured for www\.example\."):
        await Routed({CORP: Canned()}).resolve(query("www.example"))


async def test_a_whole_chain_is_left_alone(canned: Canned) -> None:
    whole = answer("a.example. 60 CNAME b.example.", "b.example. 60 A 192.0.2.1")
    canned.on("a.example", whole)
    assert await Chased(Routed({ROOT: canned})).resolve(query("a.example")) is whole


async def test_an_open_chain_is_followed_to_its_end(canned: Canned) -> None:
    canned.on("a.example", answer("a.example. 60 CNAME b.example."))
    canned.on("b.example", answer("b.example. 60 CNAME c.example.", "c.example. 60 A 192.0.2.1"))
    got = await Chased(Routed({ROOT: canned})).resolve(query("a.example"))
    assert (
        got.answer
        == answer("a.example. 60 CNAME b.example.", "b.example. 60 CNAME c.example.", "c.example. 60 A 192.0.2.1").answer
    )


async def test_what_a_zone_says_of_foreign_names_is_not_believed(canned: Canned) -> None:
    corp = Canned().on("www.corp.example", answer("www.corp.example. 60 CNAME cdn.test.", "cdn.test. 60 A 192.0.2.66"))
    canned.on("cdn.test", answer("cdn.test. 60 A 192.0.2.1"))
    got = await Chased(Routed({ROOT: canned, CORP: corp})).resolve(query("www.corp.example"))
    assert got.answer == answer("www.corp.example. 60 CNAME cdn.test.", "cdn.test. 60 A 192.0.2.1").answer


async def test_a_negative_end_of_a_chain_is_an_end(canned: Canned) -> None:
    soa = "example. 60 SOA ns.example. h.example. 1 2 3 4 5"
    whole = answer("a.example. 60 CNAME b.example.", rcode=3, authority=(soa,))
    canned.on("a.example", whole)
    assert await Chased(Routed({ROOT: canned})).resolve(query("a.example")) is whole
    canned.on("b.example", answer("b.example. 60 CNAME c.example.", authority=(soa,)))
    assert (await Chased(Routed({ROOT: canned})).resolve(query("b.example"))).rcode == 0
    assert len(canned.asked) == 2


async def test_a_loop_of_aliases_is_told_as_far_as_it_goes(canned: Canned) -> None:
    canned.on("a.example", answer("a.example. 60 CNAME b.example."))
    canned.on("b.example", answer("b.example. 60 CNAME a.example."))
    got = await Chased(Routed({ROOT: canned})).resolve(query("a.example"))
    assert len(got.answer) == 2
    assert len(canned.asked) == 2


async def test_a_chain_without_end_is_an_error(canned: Canned) -> None:
    for number in range(20):
        canned.on(f"n{number}.example", answer(f"n{number}.example. 60 CNAME n{number + 1}.example."))
    with pytest.raises(UpstreamFailed, match="a chain of more than 12 aliases"):
        await Chased(Routed({ROOT: canned})).resolve(query("n0.example"))
    assert len(canned.asked) == 12


async def test_an_alias_that_was_asked_for_is_not_followed(canned: Canned) -> None:
    canned.on("a.example", answer("a.example. 60 CNAME b.example."), "CNAME")
    await Chased(Routed({ROOT: canned})).resolve(query("a.example", "CNAME"))
    assert len(canned.asked) == 1
