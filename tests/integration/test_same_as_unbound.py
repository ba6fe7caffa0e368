"""Every question: the proxy behind an unbound that does not validate says what an unbound that validates says."""

from __future__ import annotations

import pytest
from dns.message import Message
from dns.rdatatype import RdataType
from real_peers import Proxy, World, ask, ede_codes, facts
from signed_zones import ZONES

SOUND = [zone.origin for zone in ZONES if "www A" in zone.records and zone.origin not in ("broken.peers.", "wrongds.peers.")]
EACH_ZONE = [
    ("www", "A"),
    ("www", "AAAA"),
    ("www", "MX"),
    ("", "SOA"),
    ("", "NS"),
    ("", "DNSKEY"),
    ("", "DS"),
    ("www", "DS"),
    ("nothing", "A"),
    ("nothing.below.www", "TXT"),
    ("any.wild", "A"),
    ("any.other.wild", "TXT"),
    ("any.wild", "MX"),
    ("wild", "A"),
    ("below.here", "A"),
    ("deep.below.here", "A"),
    ("mail", "MX"),
    ("local", "A"),
    ("local", "CNAME"),
    ("far", "AAAA"),
    ("farther", "A"),
    ("nowhere", "A"),
    ("out", "A"),
    ("lost", "A"),
    ("www.old", "A"),
    ("old", "DNAME"),
    ("nothing.old", "A"),
    ("large", "TXT"),
    ("_443._tcp.www", "TLSA"),
    ("service", "HTTPS"),
    ("loop", "A"),
]
OTHERS = [
    ("n7.many.peers.", "A"),
    ("n2000.many.peers.", "A"),
    (".", "DNSKEY"),
    (".", "NS"),
    (".", "SOA"),
    (".", "DS"),
    ("peers.", "DS"),
    ("peers.", "DNSKEY"),
    ("here.peers.", "A"),
    ("nothing.peers.", "A"),
    ("a.b.c.nothing.peers.", "A"),
    ("nothing.", "A"),
    ("child.optout.peers.", "DS"),
    ("nothing.child.optout.peers.", "A"),
    ("www.wrongds.peers.", "A"),
    ("nothing.wrongds.peers.", "A"),
    ("wrongds.peers.", "DS"),
    ("www.broken.peers.", "A"),
    ("www.broken.peers.", "MX"),
    ("unsigned.broken.peers.", "A"),
    ("unsigned.broken.peers.", "AAAA"),
    ("flipped.broken.peers.", "A"),
    ("changed.broken.peers.", "A"),
    ("any.wild.broken.peers.", "A"),
]


def signatures(message: Message) -> set[tuple[str, str]]:
    return {
        (str(rrset.name).lower(), RdataType.to_text(rdata.type_covered))
        for rrset in message.answer
        for rdata in rrset
        if rrset.rdtype == RdataType.RRSIG
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("www.rsa.peers.", ("NOERROR", True)),
        ("www.rsa512.peers.", ("NOERROR", True)),
        ("www.p256.peers.", ("NOERROR", True)),
        ("www.p384.peers.", ("NOERROR", True)),
        ("www.ed25519.peers.", ("NOERROR", True)),
        ("www.ldns.peers.", ("NOERROR", True)),
        ("nothing.ldns3.peers.", ("NXDOMAIN", True)),
        ("www.insecure.peers.", ("NOERROR", False)),
        ("www.expired.peers.", ("SERVFAIL", False)),
    ],
)
def test_the_judge_can_tell_them_apart(world: World, name: str, said: tuple[str, bool]) -> None:
    assert facts(ask(world.judge.plain_port, name))[:2] == said


@pytest.mark.parametrize("zone", SOUND)
def test_each_kind_of_question_in_each_zone(world: World, proxy: Proxy, zone: str) -> None:
    for label, rdtype in EACH_ZONE:
        name = f"{label}.{zone}" if label else zone
        ours, theirs = ask(proxy.port, name, rdtype), ask(world.judge.plain_port, name, rdtype)
        assert facts(ours) == facts(theirs), (name, rdtype, ours.to_text())


@pytest.mark.parametrize(("name", "rdtype"), OTHERS)
def test_other_questions(world: World, proxy: Proxy, name: str, rdtype: str) -> None:
    ours, theirs = ask(proxy.port, name, rdtype), ask(world.judge.plain_port, name, rdtype)
    assert facts(ours) == facts(theirs), ours.to_text()


@pytest.mark.parametrize("name", ["www.rsa.peers.", "any.wild.p384.peers.", "farther.ed25519.peers.", "www.old.rsa.peers."])
def test_with_do_the_signatures_come_too(world: World, proxy: Proxy, name: str) -> None:
    ours, theirs = ask(proxy.port, name, do=True), ask(world.judge.plain_port, name, do=True)
    assert signatures(ours) == signatures(theirs) != set()
    assert not signatures(ask(proxy.port, name))


@pytest.mark.parametrize(
    "name", ["www.expired.peers.", "flipped.broken.peers.", "unsigned.broken.peers.", "www.wrongds.peers."]
)
def test_with_cd_even_bogus_data_comes(world: World, proxy: Proxy, name: str) -> None:
    ours, theirs = ask(proxy.port, name, cd=True), ask(world.judge.plain_port, name, cd=True)
    assert facts(ours) == facts(theirs)
    assert ours.answer
    assert facts(ask(proxy.port, name))[:2] == ("SERVFAIL", False)


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("www.expired.peers.", {7}),
        ("www.future.peers.", {8}),
        ("flipped.broken.peers.", {6}),
        ("changed.broken.peers.", {6}),
        ("unsigned.broken.peers.", {10}),
        ("www.wrongds.peers.", {6, 9}),
        ("nothing.nodenial.peers.", {12}),
        ("lost.rsa.peers.", {7}),
    ],
)
def test_the_reason_is_told(proxy: Proxy, name: str, codes: set[int]) -> None:
    answer = ask(proxy.port, name)
    assert facts(answer)[:2] == ("SERVFAIL", False)
    assert ede_codes(answer)[0] in codes
