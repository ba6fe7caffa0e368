"""What the tree answers, judged by dnspython's own validation of signatures and by the rules of denial."""

from __future__ import annotations

import time

import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
import pytest
from dns.message import Message
from dns.rdatatype import RdataType

from dohproxy.lab.answers import answer
from dohproxy.lab.signer import Tree
from dohproxy.lab.zones import ZONES


def ask(tree: Tree, name: str, rdtype: str = "A", *, do: bool = True) -> Message:
    return answer(tree, dns.message.make_query(name, rdtype, want_dnssec=do))


def types(section: list[dns.rrset.RRset]) -> list[str]:
    return [rrset.rdtype.name for rrset in section if rrset.rdtype != RdataType.RRSIG]


def verify(tree: Tree, section: list[dns.rrset.RRset]) -> None:
    """Every record has a good signature of the zone that it is in, but for unsigned zones and DNAME's CNAMEs."""
    signatures = {(rrset.name, rrset[0].type_covered): rrset for rrset in section if rrset.rdtype == RdataType.RRSIG}
    assert signatures
    for rrset in section:
        if rrset.rdtype != RdataType.RRSIG:
            rrsig = signatures[rrset.name, rrset.rdtype]
            signer = rrsig[0].signer
            keys = dns.rrset.from_rdata(signer, 0, tree.zones[signer].key.public)
            dns.dnssec.validate(rrset, rrsig, {signer: keys}, now=time.time())


@pytest.mark.parametrize("zone", [zone.origin for zone in ZONES if zone.algorithm is not None])
def test_every_signed_zone_signs_its_keys(tree: Tree, zone: str) -> None:
    response = ask(tree, zone, "DNSKEY")
    assert types(response.answer) == ["DNSKEY"]
    verify(tree, response.answer)


@pytest.mark.parametrize("zone", [zone.origin for zone in ZONES if zone.algorithm is not None and zone.origin != "."])
def test_the_parent_has_a_ds_that_fits_unless_it_is_to_be_wrong(tree: Tree, zone: str) -> None:
    response = ask(tree, zone, "DS")
    verify(tree, response.answer)
    signed = tree.zones[dns.name.from_text(zone)]
    assert (response.answer[0][0] == signed.key.ds(signed.origin)) is not signed.zone.wrong_ds


@pytest.mark.parametrize(
    ("name", "rdtype", "expected"),
    [
        ("www.rsa.lab", "A", ["A"]),
        ("www.ecdsa.lab", "AAAA", ["AAAA"]),
        ("large.ed25519.lab", "TXT", ["TXT"]),
        ("any.wild.rsa.lab", "A", ["A"]),
        ("far.ecdsa.lab", "A", ["CNAME", "CNAME", "A"]),
        ("www.rsa.lab", "ANY", ["A"]),
    ],
)
def test_answers_are_signed(tree: Tree, name: str, rdtype: str, expected: list[str]) -> None:
    response = ask(tree, name, rdtype)
    assert types(response.answer) == expected
    verify(tree, response.answer)


def test_a_dname_makes_a_cname(tree: Tree) -> None:
    response = ask(tree, "host.old.rsa.lab")
    assert types(response.answer) == ["DNAME", "CNAME", "A"]
    assert str(response.answer[-1].name) == "host.new.rsa.lab."


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "denial"),
    [
        ("nothing.rsa.lab", "A", 3, ["NSEC", "NSEC"]),
        ("www.rsa.lab", "MX", 0, ["NSEC"]),
        ("wild.rsa.lab", "A", 0, ["NSEC"]),
        ("any.wild.rsa.lab", "MX", 0, ["NSEC"]),
        ("any.wild.rsa.lab", "A", 0, ["NSEC"]),
        ("insecure.rsa.lab", "DS", 0, ["NSEC"]),
        ("nothing.ecdsa.lab", "A", 3, ["NSEC3", "NSEC3", "NSEC3"]),
        ("www.ecdsa.lab", "MX", 0, ["NSEC3"]),
        ("below.here.ecdsa.lab", "A", 0, ["NSEC3"]),
        ("any.wild.ecdsa.lab", "A", 0, ["NSEC3"]),
        ("insecure.ecdsa.lab", "DS", 0, ["NSEC3"]),
        ("insecure.lab", "DS", 0, ["NSEC3", "NSEC3"]),
    ],
)
def test_denial_is_proven(tree: Tree, name: str, rdtype: str, rcode: int, denial: list[str]) -> None:
    response = ask(tree, name, rdtype)
    assert response.rcode() == rcode
    found = types(response.authority)
    assert [kind for kind in found if kind != "SOA"] == denial
    assert ("SOA" in found) is not bool(response.answer)
    verify(tree, response.authority)


def test_denial_is_left_out_where_it_is_to_be(tree: Tree) -> None:
    assert types(ask(tree, "nothing.nodenial.lab").authority) == ["SOA"]


def test_delegations_under_opt_out_are_not_in_the_chain(tree: Tree) -> None:
    chain = tree.zones[dns.name.from_text("lab.")].chain
    assert chain.match(dns.name.from_text("insecure.lab.")) is None
    assert chain.match(dns.name.from_text("rsa.lab.")) is not None


@pytest.mark.parametrize("name", ["www.insecure.lab", "www.insecure.rsa.lab", "any.wild.insecure.lab", "nothing.insecure.lab"])
def test_insecure_zones_have_no_signatures(tree: Tree, name: str) -> None:
    response = ask(tree, name)
    assert not any(rrset.rdtype == RdataType.RRSIG for rrset in (*response.answer, *response.authority))


@pytest.mark.parametrize("name", ["expired.bogus.lab", "notyet.bogus.lab", "flipped.bogus.lab"])
def test_spoiled_signatures_do_not_verify(tree: Tree, name: str) -> None:
    with pytest.raises(dns.dnssec.ValidationFailure):
        verify(tree, ask(tree, name).answer)


def test_one_signature_is_missing(tree: Tree) -> None:
    assert [rrset.rdtype.name for rrset in ask(tree, "unsigned.bogus.lab").answer] == ["A"]
    verify(tree, ask(tree, "good.bogus.lab").answer)


def test_without_do_there_are_no_dnssec_records_unless_asked_for(tree: Tree) -> None:
    response = ask(tree, "any.wild.rsa.lab", do=False)
    assert [rrset.rdtype.name for rrset in (*response.answer, *response.authority)] == ["A"]
    assert types(ask(tree, "rsa.lab", "DNSKEY", do=False).answer) == ["DNSKEY"]
    assert types(ask(tree, "rsa.lab", "NSEC", do=False).answer) == ["NSEC"]


def test_recursion_is_available_and_nothing_is_said_to_be_authentic(tree: Tree) -> None:
    flags = ask(tree, "www.rsa.lab").flags
    assert flags & dns.flags.RA and not flags & (dns.flags.AD | dns.flags.AA)


def test_odd_queries_are_refused(tree: Tree) -> None:
    query = dns.message.make_query("www.rsa.lab", "A")
    query.question = []
    assert answer(tree, query).rcode() == dns.rcode.FORMERR
