from __future__ import annotations

import json

from msgspec.structs import replace

from dohproxy.cli.render import Found, lines_of, problem_lines, record_of
from dohproxy.errors import NoReachableUpstream, Problem, ValidationFailed
from dohproxy.model import Action, Answer, Ede, Link, Question, RRset, Rule, Security, Source, Transport, Verdict
from dohproxy.wire import names
from dohproxy.wire.text import rdata_from_text

QUESTION = Question(names.from_text("www.example"), 1)
SIGNATURE = rdata_from_text(46, "DNSKEY 13 1 3600 20260131120000 20260101000000 4711 example. AAAA")
DS = rdata_from_text(43, "4711 13 2 " + "AB" * 32)
KEY = rdata_from_text(48, "257 3 13 AAAA")
EXAMPLE = names.from_text("example")
CHAIN = (
    Link(names.ROOT, Security.SECURE, None, None, 20326, 8, "trust anchor"),
    Link(
        EXAMPLE,
        Security.SECURE,
        RRset(EXAMPLE, 43, 60, (DS,)),
        RRset(EXAMPLE, 48, 60, (KEY,), (SIGNATURE,)),
        4711,
        13,
        "DS 4711 matched",
    ),
)
ANSWER = Answer(
    0,
    (RRset(QUESTION.qname, 1, 300, (bytes([192, 0, 2, 1]),)),),
    security=Security.SECURE,
    upstream="quad9",
    transport=Transport.DOT,
    verdict=Verdict(Action.ALLOW, Rule("*.example", 'group "a", allow', "a.toml", 7)),
    chain=CHAIN,
)


def test_an_answer_for_a_person() -> None:
    assert lines_of(Found(QUESTION, "10.0.0.1", "a", ANSWER, 0.0234)) == [
        "www.example. A: NOERROR, secure",
        "  www.example. 300 IN A 192.0.2.1",
        "",
        "chain     .         secure  -                        key 20326 RSASHA256     "
        "  -                                                    trust anchor",
        "          example.  secure  DS 4711 ECDSAP256SHA256  key 4711 ECDSAP256SHA256"
        "  signed 2026-01-01T00:00:00Z to 2026-01-31T12:00:00Z  DS 4711 matched",
        'policy    allow by *.example, group "a", allow (a.toml:7)',
        "source    quad9 by DNS over TLS",
        "client    10.0.0.1 (group a)",
        "time      23 ms",
    ]


def test_what_was_made_here() -> None:
    verdict = Verdict(Action.SINKHOLE, Rule("ads.example", 'list "ads"', "ads.txt"), ("192.0.2.9",))
    answer = Answer(3, ede=(Ede(15, "blocked"),), source=Source.POLICY, verdict=verdict)
    assert lines_of(Found(QUESTION, "::1", "default", answer, 0.001)) == [
        "www.example. A: NXDOMAIN, unchecked",
        "why       EDE 15 (Blocked): blocked",
        'policy    sinkhole to 192.0.2.9 by ads.example, list "ads" (ads.txt)',
        "source    made by policy",
        "client    ::1 (group default)",
        "time      1 ms",
    ]


def test_proofs_are_counted_and_signatures_left_out() -> None:
    soa = rdata_from_text(6, "ns.example. h.example. 1 2 3 4 5")
    nsec = rdata_from_text(47, "example. A RRSIG NSEC")
    authority = (RRset(EXAMPLE, 6, 60, (soa,), (SIGNATURE,)), RRset(EXAMPLE, 47, 60, (nsec,), (SIGNATURE,)))
    lines = lines_of(Found(QUESTION, "::1", "default", Answer(3, (), authority, Security.SECURE), 0.001))
    assert lines[:4] == [
        "www.example. A: NXDOMAIN, secure",
        "  example. 60 IN SOA ns.example. h.example. 1 2 3 4 5",
        "  (with 1 NSEC as proof)",
        "",
    ]


def test_a_bogus_answer_shows_how_far_the_chain_went() -> None:
    failed = ValidationFailed((Ede(7, "RRSIG expired"),), replace(ANSWER, security=Security.BOGUS, chain=CHAIN[:1]))
    found = Found(QUESTION, "::1", "default", failed, 0.001)
    assert lines_of(found)[:5] == [
        "www.example. A: SERVFAIL, bogus",
        "why       EDE 7 (Signature Expired): RRSIG expired",
        "chain     .  secure  -  key 20326 RSASHA256  -  trust anchor",
        'policy    allow by *.example, group "a", allow (a.toml:7)',
        "source    quad9 by DNS over TLS",
    ]
    assert (record_of(found)["upstream"], record_of(found)["answer"]) == ("quad9", [])
    assert record_of(found)["chain"][0]["key_tag"] == 20326


def test_an_error_for_a_person() -> None:
    lines = lines_of(Found(QUESTION, "::1", "default", NoReachableUpstream("nobody answered"), 5))
    assert lines == [
        "www.example. A: SERVFAIL",
        "why       EDE 22 (No Reachable Authority): nobody answered",
        "client    ::1 (group default)",
        "time      5000 ms",
    ]


def test_an_answer_for_machines() -> None:
    told = json.loads(json.dumps(record_of(Found(QUESTION, "10.0.0.1", "a", ANSWER, 0.0234))))
    assert told["answer"] == ["www.example. 300 IN A 192.0.2.1"]
    assert (told["name"], told["type"], told["rcode"], told["security"]) == ("www.example.", "A", "NOERROR", "secure")
    assert told["chain"][1] == {
        "zone": "example.",
        "security": "secure",
        "ds": [{"key_tag": 4711, "algorithm": 13, "digest_type": 2}],
        "key_tag": 4711,
        "algorithm": 13,
        "inception": "2026-01-01T00:00:00Z",
        "expiration": "2026-01-31T12:00:00Z",
        "note": "DS 4711 matched",
    }
    assert told["policy"]["rule"] == {"text": "*.example", "where": 'group "a", allow', "file": "a.toml", "line": 7}
    assert (told["upstream"], told["transport"], told["source"], told["milliseconds"]) == ("quad9", "tls", "upstream", 23.4)


def test_an_error_for_machines() -> None:
    told = record_of(Found(QUESTION, "::1", "default", NoReachableUpstream("nobody answered"), 5))
    assert told["rcode"] == "SERVFAIL"
    assert told["ede"] == [{"code": 22, "text": "nobody answered"}]


def test_problems() -> None:
    problem = Problem("a.toml", 3, "listen.upd", "there is no such key", "udp, tcp", "udp")
    assert problem_lines(problem) == [
        "a.toml:3: listen.upd: there is no such key",
        "    allowed: udp, tcp",
        "    did you mean udp?",
    ]
    assert problem_lines(Problem("a.toml", 0, "", "cannot be read"), "warning: ") == ["a.toml: warning: cannot be read"]


def test_whose_certificate_it_was() -> None:
    found = Found(QUESTION, "", "pay", ANSWER, 0.0, "spiffe://prod.example/pay")
    assert "client    spiffe://prod.example/pay (group pay)" in lines_of(found)
    assert record_of(found)["identity"] == "spiffe://prod.example/pay"
    assert "client    10.0.0.1 dns:web.example (group pay)" in lines_of(
        replace(found, client="10.0.0.1", identity="dns:web.example")
    )
    assert "identity" not in record_of(replace(found, identity=""))
