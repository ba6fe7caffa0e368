import json

import pytest
from msgspec.structs import replace

from dohproxy.config.settings import Log
from dohproxy.model import Action, Client, Ede, Outcome, Question, Rule, Security, Source, Transport, Verdict
from dohproxy.telemetry.querylog import QueryLog, shortened

VERDICT = Verdict(Action.NXDOMAIN, Rule("*.ads.example", 'list "ads"', "ads.txt", 3))


class Lines:
    def __init__(self):
        self.lines = []

    def put(self, line):
        self.lines.append(line.decode())


def logged(log, *, address="192.0.2.77", question=Question(b"\3www\7example\0", 28), verdict=None, ede=(), rcode=0):  # noqa: B008
    lines = Lines()
    client = Client(address, Transport.UDP, "kids")
    QueryLog(replace(log, queries=True), lines).observe(
        Outcome(question, client, rcode, Security.SECURE, Source.UPSTREAM, verdict, ede, "quad9", 0.0123456, 99)
    )
    [line] = lines.lines
    return line


def test_json_line():
    event = json.loads(logged(Log(format="json"), verdict=VERDICT, ede=(Ede(15, "blocked"), Ede(4))))
    event.pop("time")
    assert event == {
        "event": "query",
        "client": "192.0.2.77",
        "assurance": "inferred",
        "group": "kids",
        "transport": "udp",
        "name": "www.example.",
        "type": "AAAA",
        "rcode": "NOERROR",
        "security": "secure",
        "source": "upstream",
        "upstream": "quad9",
        "action": "nxdomain",
        "rule": 'list "ads": *.ads.example',
        "ede": "15 blocked; 4",
        "ms": 12.346,
        "size": 99,
    }


def test_text_line_quotes_what_needs_it():
    line = logged(Log(), ede=(Ede(7, 'expired "x"'),))
    assert line.endswith(' upstream=quad9 ede="7 expired \\"x\\"" ms=12.346 size=99\n')
    assert " query client=192.0.2.77 assurance=inferred group=kids transport=udp name=www.example. type=AAAA " in line


def test_a_name_cannot_forge_a_line():
    line = logged(Log(), question=Question(b"\5a\nb=c\0", 1))
    assert line.count("\n") == 1
    assert r'name="a\\010b\\=c."' in line


def test_unreadable_and_silent():
    event = json.loads(logged(Log(format="json"), question=None, rcode=-1))
    assert event["rcode"] == "dropped"
    assert "name" not in event


@pytest.mark.parametrize(
    ("clients", "address", "told"),
    [
        ("full", "192.0.2.77", "192.0.2.77"),
        ("short", "192.0.2.77", "192.0.2.0"),
        ("short", "2001:db8:1:2::5", "2001:db8:1::"),
        ("none", "192.0.2.77", None),
    ],
)
def test_client_addresses(clients, address, told):
    assert json.loads(logged(Log(format="json", clients=clients), address=address)).get("client") == told


def test_shortening_nothing():
    assert shortened("") == ""


@pytest.mark.parametrize(
    ("security", "source", "action", "told"),
    [
        (Security.SECURE, Source.UPSTREAM, None, False),
        (Security.SECURE, Source.CACHE, Action.ALLOW, False),
        (Security.UNCHECKED, Source.POLICY, Action.NXDOMAIN, False),
        (Security.BOGUS, None, None, False),  # refused: SERVFAIL
        (Security.BOGUS, Source.UPSTREAM, None, True),  # let through by log-only
        (Security.INDETERMINATE, Source.CACHE, None, True),
        (Security.SECURE, Source.CACHE, Action.LOG, True),
    ],
)
def test_what_is_there_to_be_told_is_told_without_the_query_log(security, source, action, told):
    lines = Lines()
    verdict = action and Verdict(action, VERDICT.rule)
    client = Client("192.0.2.77", Transport.UDP, "kids")
    question = Question(b"\3www\7example\0", 1)
    QueryLog(Log(), lines).observe(Outcome(question, client, 0, security, source, verdict, (), "", 0.0, 9))
    assert bool(lines.lines) is told


@pytest.mark.parametrize("clients", ["full", "short", "none"])
def test_what_a_certificate_attests_is_told_in_any_case(clients):
    lines = Lines()
    client = Client("192.0.2.77", Transport.DOT, "pay", "spiffe://prod.example/ns/pay")
    QueryLog(Log(format="json", queries=True, clients=clients), lines).observe(
        Outcome(Question(b"\1a\0", 1), client, 0, Security.SECURE, Source.CACHE, None, (), "", 0.0, 99)
    )
    event = json.loads(lines.lines[0])
    assert (event["identity"], event["assurance"]) == ("spiffe://prod.example/ns/pay", "attested")
    assert event.get("client") == {"full": "192.0.2.77", "short": "192.0.2.0", "none": None}[clients]


def test_an_identity_cannot_forge_a_line():
    lines = Lines()
    client = Client("192.0.2.77", Transport.DOT, "pay", 'subject:CN=x" security=secure\n2026')
    QueryLog(Log(queries=True), lines).observe(
        Outcome(Question(b"\1a\0", 1), client, 0, Security.BOGUS, Source.CACHE, None, (), "", 0.0, 99)
    )
    [line] = lines.lines
    assert line.count("\n") == 1
    assert '\\" security=secure' in line
