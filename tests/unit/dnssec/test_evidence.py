"""Verdicts that can be repeated offline."""

from __future__ import annotations

import json

import pytest
from memory_tree import WALL, Tree, name, usual_tree
from msgspec.structs import replace

from dohproxy.config.settings import Anchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.chain import Need
from dohproxy.dnssec.evidence import (
    Evidence,
    EvidenceError,
    Exchange,
    exchanges_of,
    read_evidence,
    recording,
    replay,
    write_evidence,
)
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import Judgement, validate
from dohproxy.errors import NoReachableUpstream
from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire import constants as c


@pytest.fixture(scope="module")
def tree() -> Tree:
    return usual_tree()


def recorded(tree: Tree, qname: str, qtype: int = c.A, answer: Answer | None = None) -> tuple[Evidence, Judgement]:
    question = Question(name(qname), qtype)
    given = answer or tree.answer(question)
    exchanges: list[Exchange] = []
    world = tree.world(keys=TrustCache(), budget=Budget())
    judgement = tree.drive(recording(validate(question, given, world), exchanges))
    outcome = judgement.security, judgement.ede
    evidence = Evidence(question, given, tuple(tree.anchors), world.limits, WALL, *outcome, tuple(exchanges), 'group "default"')
    return evidence, judgement


def anchors(tree: Tree) -> AnchorSet:
    return AnchorSet(tree.anchors)


QUESTIONS = [
    ("www.example.com.", c.A, Security.SECURE),
    ("a.wild.example.com.", c.A, Security.SECURE),
    ("nothing.example.com.", c.A, Security.SECURE),
    ("www.example.com.", c.TXT, Security.SECURE),
    ("far.example.com.", c.A, Security.SECURE),
    ("www.old.example.com.", c.A, Security.SECURE),
    ("www.insecure.com.", c.A, Security.INSECURE),
    ("out.example.com.", c.A, Security.INSECURE),
    ("www.below.insecure.com.", c.A, Security.INSECURE),
]


@pytest.mark.parametrize(("qname", "qtype", "security"), QUESTIONS)
def test_a_verdict_can_be_repeated_from_its_text(tree: Tree, qname: str, qtype: int, security: Security) -> None:
    evidence, judgement = recorded(tree, qname, qtype)
    assert judgement.security is security
    text = write_evidence(evidence)
    assert read_evidence(text) == evidence
    again = replay(read_evidence(text), anchors(tree))
    assert (again.security, again.ede, again.answer) == (judgement.security, judgement.ede, judgement.answer)


def test_a_failure_can_be_repeated_with_its_reason(tree: Tree) -> None:
    given = tree.answer(Question(name("www.example.com."), c.A))
    spoilt = replace(given, answer=tuple(replace(rrset, rdatas=(bytes((192, 0, 2, 9)),)) for rrset in given.answer))
    evidence, judgement = recorded(tree, "www.example.com.", answer=spoilt)
    assert judgement.security is Security.BOGUS
    again = replay(read_evidence(write_evidence(evidence)), anchors(tree))
    assert (again.security, again.ede) == (Security.BOGUS, evidence.ede)


def test_what_was_never_answered_is_recorded_as_such(tree: Tree) -> None:
    evidence, _ = recorded(tree, "www.example.com.")
    exchanges: list[Exchange] = []
    judging = recording(validate(evidence.question, evidence.answer, tree.world(keys=TrustCache(), budget=Budget())), exchanges)
    needs = next(judging)
    with pytest.raises(StopIteration) as end:
        while True:
            needs = judging.send(tuple(NoReachableUpstream("all upstreams failed") for _ in needs))
    judgement = end.value.value
    assert judgement.security in (Security.BOGUS, Security.INDETERMINATE)
    assert {exchange.outcome for exchange in exchanges} == {"all upstreams failed"}
    failed = replace(evidence, exchanges=tuple(exchanges))
    assert read_evidence(write_evidence(failed)) == failed
    assert replay(failed, anchors(tree)).security is judgement.security


def test_another_anchor_does_not_confirm_it(tree: Tree) -> None:
    evidence, _ = recorded(tree, "www.example.com.")
    key = usual_tree().anchors[0]
    other = Anchor(key.zone, key.rdtype, key.rdata[:-1] + bytes((key.rdata[-1] ^ 1,)))
    assert replay(evidence, AnchorSet([other])).security is Security.BOGUS


def test_a_record_with_other_data_does_not_pass(tree: Tree) -> None:
    evidence, _ = recorded(tree, "www.example.com.")
    section = tuple(replace(rrset, rdatas=(bytes(4),)) for rrset in evidence.answer.answer)
    forged = replace(evidence, answer=replace(evidence.answer, answer=section))
    assert replay(forged, anchors(tree)).security is Security.BOGUS


def test_a_record_from_which_something_is_missing_does_not_pass(tree: Tree) -> None:
    evidence, _ = recorded(tree, "www.example.com.")
    for left_out in evidence.exchanges:
        rest = tuple(exchange for exchange in evidence.exchanges if exchange is not left_out)
        assert replay(replace(evidence, exchanges=rest), anchors(tree)).security is not Security.SECURE
    bare = replay(replace(evidence, exchanges=()), anchors(tree))
    assert "the record does not hold" in " ".join(ede.text for ede in bare.ede)


def test_the_time_is_the_records(tree: Tree) -> None:
    evidence, _ = recorded(tree, "www.example.com.")
    late = replay(replace(evidence, wall=WALL + 400 * 86400), anchors(tree))
    assert late.security is Security.BOGUS
    assert late.ede[0].code == c.EDE_SIGNATURE_EXPIRED


def test_a_chain_stands_in_for_what_was_not_asked(tree: Tree) -> None:
    """With warm caches the validator asks nothing; its chain holds the keys."""
    evidence, judgement = recorded(tree, "www.example.com.")
    from_chain = replace(evidence, exchanges=exchanges_of(judgement.chain))
    assert {exchange.need for exchange in from_chain.exchanges} >= {Need(name("example.com."), c.DS), Need(b"\0", c.DNSKEY)}
    assert replay(from_chain, anchors(tree)).security is Security.SECURE


# The text


def test_the_text_is_what_the_docstring_says(tree: Tree) -> None:
    record = json.loads(write_evidence(recorded(tree, "www.example.com.")[0]))
    assert list(record) == [
        "version", "question", "verdict", "ede", "rule", "wall", "limits", "anchors", "answer", "exchanges",
    ]  # fmt: skip
    assert record["question"] == {"name": "www.example.com.", "type": 1, "class": 1}
    assert (record["verdict"], record["rule"], record["wall"]) == ("secure", 'group "default"', WALL)
    rrset = record["answer"]["answer"][0]
    assert (rrset["name"], rrset["type"], rrset["class"], rrset["rdata"]) == ("www.example.com.", 1, 1, ["wAACAQ=="])
    assert len(rrset["rrsig"]) == 1


def test_a_failure_without_words_is_still_a_failure(tree: Tree) -> None:
    evidence, _ = recorded(tree, "www.example.com.")
    silent = replace(evidence, exchanges=(Exchange(Need(name("com."), c.DS), ""),))
    assert read_evidence(write_evidence(silent)).exchanges[0].outcome == "failed"


def test_types_with_names_in_them_survive() -> None:
    mx = RRset(name("a.test."), c.MX, 5, (b"\0\x0a" + name("mail.test."),), rdclass=c.IN)
    evidence = Evidence(Question(name("a.test."), c.MX), Answer(0, (mx,)), (), usual_tree().limits, WALL, Security.INSECURE, ())
    assert read_evidence(write_evidence(evidence)) == evidence


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("question", "name"), "a..b."),
        (("question", "type"), 65536),
        (("verdict",), "fine"),
        (("wall",), -1),
        (("limits",), None),
        (("answer", "answer", 0, "rdata"), []),
        (("answer", "answer", 0, "rdata", 0), "?"),
        (("answer", "answer", 0, "rdata", 0), "wAAC"),
        (("answer", "answer", 0, "type"), c.NS),
        (("answer", "answer", 0, "ttl"), -1),
        (("answer", "answer", 0, "rrsig", 0), "="),
        (("anchors", 0, "zone"), ""),
        (("exchanges", 0, "question"), {}),
    ],
)
def test_a_record_that_cannot_be_read(tree: Tree, path: tuple[str | int, ...], value: object) -> None:
    record = json.loads(write_evidence(recorded(tree, "www.example.com.")[0]))
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(EvidenceError, match=r"cannot be read|has version 2"):
        read_evidence(json.dumps(record))


def test_a_text_that_is_no_json() -> None:
    with pytest.raises(EvidenceError, match="cannot be read"):
        read_evidence("{")
