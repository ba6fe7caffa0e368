"""Verdicts that can be repeated offline."""

from __future__ import annotations

import json

import pytest
from memory_tree import WALL, Tree, name, usual_tree
from msgspec.structs import replace

from dohproxy.config.settings import Anchor, NegativeAnchor
from dohproxy.dnssec.anchors import AnchorSet
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.chain import Need
from dohproxy.dnssec.evidence import (
    Circumstances,
    Evidence,
    EvidenceError,
    Exchange,
    Lost,
    lost_line,
    read_evidence,
    read_line,
    write_evidence,
)
from dohproxy.dnssec.replay import evidence_of, recording, replay, rule_of
from dohproxy.dnssec.trust import TrustCache
from dohproxy.dnssec.validate import Judgement, validate
from dohproxy.errors import NoReachableUpstream
from dohproxy.model import INTERNAL, Action, Answer, Client, Ede, Question, RRset, Rule, Security, Transport, Verdict
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
    return evidence_of(question, given, world, judgement, exchanges, client=INTERNAL), judgement


def anchors(tree: Tree) -> tuple[Anchor, ...]:
    return tuple(tree.anchors)


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
    assert {ede.code for exchange in exchanges for ede in exchange.ede} == {c.EDE_NO_REACHABLE_AUTHORITY}
    failed = replace(evidence, exchanges=tuple(exchanges), security=judgement.security, ede=judgement.ede)
    assert read_evidence(write_evidence(failed)) == failed
    again = replay(failed, anchors(tree))
    assert (again.security, again.ede) == (judgement.security, judgement.ede)


def test_another_anchor_does_not_confirm_it(tree: Tree) -> None:
    evidence, _ = recorded(tree, "www.example.com.")
    key = usual_tree().anchors[0]
    other = Anchor(key.zone, key.rdtype, key.rdata[:-1] + bytes((key.rdata[-1] ^ 1,)))
    assert replay(evidence, [other]).security is Security.BOGUS


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


# The text


def test_the_text_is_what_the_docstring_says(tree: Tree) -> None:
    record = json.loads(write_evidence(recorded(tree, "www.example.com.")[0]))
    assert list(record) == [
        "version", "question", "verdict", "ede", "rule", "circumstances", "wall", "limits", "anchors", "negative_anchors",
        "answer", "exchanges",
    ]  # fmt: skip
    assert record["question"] == {"name": "www.example.com.", "type": 1, "class": 1}
    assert (record["verdict"], record["rule"], record["wall"]) == ("secure", "RFC 4035 5.3", WALL)
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


# Circumstances, anchors, rules


CLIENT = Client("192.0.2.7", Transport.UDP, "payments")
VERDICT = Verdict(Action.ALLOW, Rule("*.example.com", 'group "payments", allow', "dohproxy.toml", 12))


def test_the_circumstances_are_told_as_far_as_they_may(tree: Tree) -> None:
    evidence = replace(recorded(tree, "www.example.com.")[0], client=CLIENT)
    told = replace(evidence, answer=replace(evidence.answer, upstream="quad9", transport=Transport.DOT))
    line = told.written(1_795_000_000.5, "192.0.2.0", VERDICT)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert read_evidence(line).circumstances == Circumstances(
        "2026-11-18T11:06:40.500Z", "192.0.2.0", "payments", "udp", "quad9", "tls", "allow", VERDICT.rule, "", "inferred"
    )
    assert b"192.0.2.7" not in line


def test_records_from_before_clients_had_identities_are_read(tree: Tree) -> None:
    record = json.loads(replace(recorded(tree, "www.example.com.")[0], client=CLIENT).written(0.0, "192.0.2.0", VERDICT))
    del record["circumstances"]["identity"], record["circumstances"]["assurance"]
    found = read_evidence(json.dumps(record)).circumstances
    assert (found.client, found.identity, found.assurance) == ("192.0.2.0", "", "")


def test_what_the_proxy_asks_itself_is_in_no_group(tree: Tree) -> None:
    line = recorded(tree, "www.example.com.")[0].written(0.0, "", None)
    found = read_evidence(line).circumstances
    assert (found.client, found.group, found.transport, found.action, found.policy) == ("", "", "internal", "", None)


def test_only_anchors_that_rule_names_met_are_told(tree: Tree) -> None:
    key = tree.anchors[0]
    elsewhere = Anchor(name("corp.test."), key.rdtype, key.rdata)
    unused = NegativeAnchor(name("secret.test."))
    question = Question(name("www.example.com."), c.A)
    world = tree.world(keys=TrustCache(), budget=Budget())
    world = replace(world, anchors=AnchorSet([*tree.anchors, elsewhere], [unused]))
    exchanges: list[Exchange] = []
    given = tree.answer(question)
    judgement = tree.drive(recording(validate(question, given, world), exchanges))
    evidence = evidence_of(question, given, world, judgement, exchanges, client=INTERNAL)
    assert evidence.anchors == tuple(tree.anchors)
    assert evidence.negative == ()


def test_a_negative_anchor_is_told_and_repeated(tree: Tree) -> None:
    negative = NegativeAnchor(name("example.com."), WALL + 5, "broken signer")
    question = Question(name("www.example.com."), c.A)
    world = replace(tree.world(keys=TrustCache(), budget=Budget()), anchors=AnchorSet(tree.anchors, [negative]))
    given, exchanges = tree.answer(question), list[Exchange]()
    judgement = tree.drive(recording(validate(question, given, world), exchanges))
    evidence = read_evidence(write_evidence(evidence_of(question, given, world, judgement, exchanges, client=INTERNAL)))
    assert (evidence.security, evidence.negative, evidence.rule) == (Security.INSECURE, (negative,), "RFC 7646 2")
    again = replay(evidence, anchors(tree))
    assert (again.security, again.ede) == (Security.INSECURE, evidence.ede)


@pytest.mark.parametrize(
    ("qname", "qtype", "rule"),
    [
        ("www.example.com.", c.A, "RFC 4035 5.3"),
        ("nothing.example.com.", c.A, "RFC 4035 5.4"),
        ("www.example.com.", c.TXT, "RFC 4035 5.4"),
        ("www.insecure.com.", c.A, "RFC 4035 5.2"),
    ],
)
def test_the_rule_is_the_section_that_decided(tree: Tree, qname: str, qtype: int, rule: str) -> None:
    assert recorded(tree, qname, qtype)[0].rule == rule


JUDGED = Judgement(Security.INSECURE, (), (), 0, (), ())


@pytest.mark.parametrize(
    ("security", "code", "rule"),
    [
        (Security.BOGUS, c.EDE_SIGNATURE_EXPIRED, "RFC 4035 5.3.1"),
        (Security.BOGUS, c.EDE_NSEC_MISSING, "RFC 4035 5.4"),
        (Security.BOGUS, c.EDE_OTHER, ""),
        (Security.INDETERMINATE, c.EDE_INDETERMINATE, "RFC 4035 4.3"),
        (Security.INSECURE, c.EDE_UNSUPPORTED_NSEC3_ITERATIONS, "RFC 9276 3.2"),
        (Security.INSECURE, c.EDE_UNSUPPORTED_DNSKEY_ALGORITHM, "RFC 4035 5.2"),
    ],
)
def test_the_rule_behind_an_extended_error(security: Security, code: int, rule: str) -> None:
    assert rule_of(replace(JUDGED, security=security, ede=(Ede(code, "why"),))) == rule


def test_without_an_anchor_nothing_is_judged() -> None:
    assert rule_of(JUDGED) == "RFC 4035 4.3"


def test_lost_records_have_a_line_of_their_own() -> None:
    assert read_line(lost_line(3)) == Lost(3)
    with pytest.raises(EvidenceError, match="3 records were lost"):
        read_evidence(lost_line(3))


def test_an_anchor_below_an_unanchored_root_is_told_as_the_key_that_it_is() -> None:
    tree = usual_tree()
    zone = tree.zones[name("example.com.")]
    assert zone.key is not None
    tree.anchors = [Anchor(zone.origin, c.DNSKEY, zone.key.rdata)]
    evidence, judgement = recorded(tree, "www.example.com.")
    assert (judgement.security, evidence.anchors) == (Security.SECURE, tuple(tree.anchors))
    assert replay(read_evidence(write_evidence(evidence)), anchors(tree)).security is Security.SECURE
