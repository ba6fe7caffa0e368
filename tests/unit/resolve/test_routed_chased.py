from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from stages import Canned, answer, query, question

from dohproxy.errors import NoReachableUpstream, UpstreamFailed
from dohproxy.model import Answer, Question
from dohproxy.resolve.chased import Chased
from dohproxy.resolve.redirections import Redirections
from dohproxy.resolve.routed import Routed
from dohproxy.wire import names


def chased(routes: dict[bytes, Canned], proven: Callable[[Question], Answer | None] = lambda _: None) -> Chased:
    return Chased(Routed(routes, trio.current_time), Redirections(trio.current_time), proven)


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
    assert Routed({ROOT: Canned(), CORP: Canned()}, trio.current_time).zone_of(question(name, qtype)) == zone


async def test_a_name_that_nobody_is_responsible_for_is_an_error() -> None:
    with pytest.raises(NoReachableUpstream, match=r"no upstream is configured for www\.example\."):
        await Routed({CORP: Canned()}, trio.current_time).resolve(query("www.example"))


async def test_a_whole_chain_is_left_alone(canned: Canned) -> None:
    whole = answer("a.example. 60 CNAME b.example.", "b.example. 60 A 192.0.2.1")
    canned.on("a.example", whole)
    assert (await chased({ROOT: canned}).resolve(query("a.example"))).answer == whole.answer


async def test_an_open_chain_is_followed_to_its_end(canned: Canned) -> None:
    canned.on("a.example", answer("a.example. 60 CNAME b.example."))
    canned.on("b.example", answer("b.example. 60 CNAME c.example.", "c.example. 60 A 192.0.2.1"))
    got = await chased({ROOT: canned}).resolve(query("a.example"))
    assert (
        got.answer
        == answer("a.example. 60 CNAME b.example.", "b.example. 60 CNAME c.example.", "c.example. 60 A 192.0.2.1").answer
    )


async def test_what_a_zone_says_of_foreign_names_is_not_believed(canned: Canned) -> None:
    corp = Canned().on("www.corp.example", answer("www.corp.example. 60 CNAME cdn.test.", "cdn.test. 60 A 192.0.2.66"))
    canned.on("cdn.test", answer("cdn.test. 60 A 192.0.2.1"))
    got = await chased({ROOT: canned, CORP: corp}).resolve(query("www.corp.example"))
    assert got.answer == answer("www.corp.example. 60 CNAME cdn.test.", "cdn.test. 60 A 192.0.2.1").answer


async def test_a_negative_end_of_a_chain_is_an_end(canned: Canned) -> None:
    soa = "example. 60 SOA ns.example. h.example. 1 2 3 4 5"
    whole = answer("a.example. 60 CNAME b.example.", rcode=3, authority=(soa,))
    canned.on("a.example", whole)
    assert (await chased({ROOT: canned}).resolve(query("a.example"))).answer == whole.answer
    canned.on("b.example", answer("b.example. 60 CNAME c.example.", authority=(soa,)))
    assert (await chased({ROOT: canned}).resolve(query("b.example"))).rcode == 0
    assert len(canned.asked) == 2


async def test_a_loop_of_aliases_is_told_as_far_as_it_goes(canned: Canned) -> None:
    canned.on("a.example", answer("a.example. 60 CNAME b.example."))
    canned.on("b.example", answer("b.example. 60 CNAME a.example."))
    got = await chased({ROOT: canned}).resolve(query("a.example"))
    assert len(got.answer) == 2
    assert len(canned.asked) == 2


async def test_a_chain_without_end_is_an_error(canned: Canned) -> None:
    for number in range(20):
        canned.on(f"n{number}.example", answer(f"n{number}.example. 60 CNAME n{number + 1}.example."))
    with pytest.raises(UpstreamFailed, match="a chain of more than 12 aliases"):
        await chased({ROOT: canned}).resolve(query("n0.example"))
    assert len(canned.asked) == 12


async def test_an_alias_that_was_asked_for_is_not_followed(canned: Canned) -> None:
    canned.on("a.example", answer("a.example. 60 CNAME b.example."), "CNAME")
    await chased({ROOT: canned}).resolve(query("a.example", "CNAME"))
    assert len(canned.asked) == 1


DNAME = ("d.example. 100 DNAME e.example.", "x.d.example. 100 CNAME x.e.example.", "x.e.example. 60 A 192.0.2.1")


async def test_a_dname_redirects_without_being_asked_for_again(canned: Canned, autojump_clock: trio.testing.MockClock) -> None:
    canned.on("x.d.example", answer(*DNAME)).on("y.e.example", answer("y.e.example. 60 A 192.0.2.2"))
    stage = chased({ROOT: canned})
    await stage.resolve(query("x.d.example"))
    await trio.sleep(40)
    got = await stage.resolve(query("y.d.example"))
    assert (
        got.answer
        == answer("d.example. 60 DNAME e.example.", "y.d.example. 60 CNAME y.e.example.", "y.e.example. 60 A 192.0.2.2").answer
    )
    assert [asked.question.qname for asked in canned.asked[1:]] == [names.from_text("y.e.example")]
    await trio.sleep(61)
    canned.on("y.d.example", answer("y.d.example. 60 A 192.0.2.3"))
    assert len((await stage.resolve(query("y.d.example"))).answer) == 1


async def test_a_second_try_elsewhere_relies_on_no_dname_at_hand(canned: Canned) -> None:
    canned.on("x.d.example", answer(*DNAME)).on("y.d.example", answer("y.d.example. 60 A 192.0.2.3"))
    stage = chased({ROOT: canned})
    await stage.resolve(query("x.d.example"))
    assert len((await stage.resolve(query("y.d.example", avoid=("quad9",)))).answer) == 1


async def test_a_zone_s_upstream_redirects_only_names_of_the_zone(canned: Canned) -> None:
    foreign = answer("www.corp.example. 60 CNAME x.d.example.", *DNAME)
    corp = Canned().on("www.corp.example", foreign)
    canned.on("x.d.example", answer("x.d.example. 60 A 192.0.2.4")).on("y.d.example", answer("y.d.example. 60 A 192.0.2.3"))
    stage = chased({ROOT: canned, CORP: corp})
    await stage.resolve(query("www.corp.example"))
    assert len((await stage.resolve(query("y.d.example"))).answer) == 1


async def test_a_dname_redirects_the_question_for_a_cname_too(canned: Canned, autojump_clock: trio.testing.MockClock) -> None:
    canned.on("x.d.example", answer(*DNAME[:2]), "CNAME")
    stage = chased({ROOT: canned})
    await stage.resolve(query("x.d.example", "CNAME"))
    got = await stage.resolve(query("y.d.example", "CNAME"))
    assert got.answer == answer(DNAME[0], "y.d.example. 100 CNAME y.e.example.").answer
    assert len(canned.asked) == 1


async def test_an_alias_at_hand_helps_where_asking_fails(canned: Canned, autojump_clock: trio.testing.MockClock) -> None:
    canned.on("a.example", answer("a.example. 100 CNAME b.example.", "b.example. 60 A 192.0.2.1"))
    canned.on("a.example", UpstreamFailed("SERVFAIL"), "MX").on("b.example", answer("b.example. 60 MX 1 c.example."), "MX")
    stage = chased({ROOT: canned})
    await stage.resolve(query("a.example"))
    await trio.sleep(40)
    got = await stage.resolve(query("a.example", "MX"))
    assert got.answer == answer("a.example. 60 CNAME b.example.", "b.example. 60 MX 1 c.example.").answer
    with pytest.raises(UpstreamFailed):
        await stage.resolve(query("a.example", "MX", avoid=("quad9",)))
    with pytest.raises(UpstreamFailed):
        await stage.resolve(query("a.example", "MX", cd=True))
    await trio.sleep(60)
    with pytest.raises(UpstreamFailed):
        await stage.resolve(query("a.example", "MX"))


async def test_nobody_is_asked_for_an_alias_s_target_of_which_all_is_proven(canned: Canned) -> None:
    canned.on("a.example", answer("a.example. 60 CNAME b.example.")).on("b.example", answer("b.example. 60 A 192.0.2.1"))
    denial = answer(rcode=3, authority=("example. 60 SOA ns.example. h.example. 1 2 3 4 5",))
    stage = chased({ROOT: canned}, lambda asked: denial if asked == question("b.example") else None)
    assert (await stage.resolve(query("a.example"))).rcode == 3
    assert len(canned.asked) == 1
    assert (await stage.resolve(query("a.example", cd=True))).rcode == 0
    assert (await stage.resolve(query("a.example", avoid=("quad9",)))).rcode == 0


async def test_the_age_that_an_answer_came_with_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    await trio.sleep(100)
    old = Canned().on("www.example", answer("www.example. 300 A 192.0.2.1", born=70.0))
    found = await Routed({ROOT: old}, lambda: 5000.0).resolve(query("www.example"))
    assert found.born == 4970.0
