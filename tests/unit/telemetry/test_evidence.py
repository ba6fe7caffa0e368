"""Which verdicts are written, and with what."""

import json
import threading
from ipaddress import ip_network

import pytest
from msgspec.structs import replace

from dohproxy.config.settings import (
    Access,
    Cache,
    Dnssec,
    Forwarding,
    Listen,
    Local,
    Log,
    Policy,
    PolicyGroup,
    Settings,
    Workers,
    Zone,
)
from dohproxy.config.settings import Evidence as EvidenceSettings
from dohproxy.dnssec.chain import Limits
from dohproxy.dnssec.evidence import Evidence
from dohproxy.model import (
    INTERNAL,
    Action,
    Answer,
    Client,
    Ede,
    Mode,
    Outcome,
    Question,
    Rule,
    Security,
    Source,
    Transport,
    Verdict,
)
from dohproxy.telemetry.counters import Counters
from dohproxy.telemetry.evidence import EvidenceLog

QUESTION = Question(b"\3www\7example\0", 1)
KIDS, OTHERS = Client("192.0.2.77", Transport.UDP, "kids"), Client("198.51.100.1", Transport.TCP)
VERDICT = Verdict(Action.NXDOMAIN, Rule("*.ads.example", 'list "ads"', "ads.txt", 3))
SECURE, INSECURE, BOGUS, LOST = Security.SECURE, Security.INSECURE, Security.BOGUS, Security.INDETERMINATE


def settings(tmp_path, write="off", kids=None, **more):
    groups = (
        PolicyGroup("kids", (ip_network("192.0.2.0/24"),), evidence=kids, mode=more.pop("mode", None)),
        PolicyGroup("default"),
    )
    made = Settings(
        Listen(), Access(()), (), Forwarding(), Dnssec(), (), Policy((), groups), Cache(), Local(), Log(), Workers(),
        EvidenceSettings(tmp_path / "evidence", write),
    )  # fmt: skip
    return replace(made, **more)


class Proxy:
    def __init__(self, tmp_path, *args, **more):
        self.file, self.counters = tmp_path / "evidence", Counters()
        self.log = EvidenceLog(settings(tmp_path, *args, **more), self.counters, wall=lambda: 1_795_000_000.0)

    def tell(self, client, security, source=Source.UPSTREAM, verdict=None, made_for=None):
        """As the validator and then the front do it."""
        evidence = None
        if self.log.wants(client, security):
            evidence = Evidence(QUESTION, Answer(0), (), Limits(), 5, security, (Ede(6, "why"),), client=made_for or client)
        told = Security.UNCHECKED if source is Source.POLICY else security
        self.log.observe(Outcome(QUESTION, client, 0, told, source, verdict, (), "", 0.0, 0, evidence))

    def records(self):
        self.log.close()
        return [json.loads(line) for line in self.file.read_text().splitlines()] if self.file.exists() else []

    def written(self):
        return [(record["circumstances"]["group"], record["verdict"]) for record in self.records()]


def everything(proxy):
    for client in (KIDS, OTHERS):
        for security in (SECURE, INSECURE, BOGUS, LOST, Security.UNCHECKED):
            proxy.tell(client, security, None if security in (BOGUS, LOST) else Source.UPSTREAM)


FAILED = ["bogus", "indeterminate"]
ALL = ["secure", "insecure", *FAILED]


@pytest.mark.parametrize(
    ("write", "kids", "of_kids", "of_others"),
    [
        ("off", None, [], []),
        ("failures", None, FAILED, FAILED),
        ("all", None, ALL, ALL),
        ("off", "all", ALL, []),
        ("failures", "off", [], FAILED),
        ("all", "failures", FAILED, ALL),
    ],
)
def test_each_group_has_its_level(tmp_path, write, kids, of_kids, of_others):
    proxy = Proxy(tmp_path, write, kids)
    everything(proxy)
    assert proxy.written() == [("kids", one) for one in of_kids] + [("default", one) for one in of_others]
    assert proxy.counters.evidence == len(of_kids) + len(of_others)
    assert proxy.file.exists() == bool(of_kids or of_others)


def test_insecure_is_a_failure_where_it_was_refused(tmp_path):
    proxy = Proxy(tmp_path, "failures", mode=Mode.REQUIRE_SECURE)
    proxy.tell(KIDS, INSECURE, None)
    proxy.tell(KIDS, INSECURE)
    proxy.tell(OTHERS, INSECURE, None)
    assert proxy.written() == [("kids", "insecure")]


def test_a_zone_may_refuse_for_every_group(tmp_path):
    proxy = Proxy(tmp_path, "failures", zones=(Zone(b"\4corp\0", (), Mode.REQUIRE_SECURE),))
    assert proxy.log.wants(OTHERS, INSECURE)
    assert not proxy.log.wants(INTERNAL, INSECURE)
    assert not proxy.log.wants(OTHERS, SECURE)


def test_who_joins_a_question_under_way_writes_no_second_record(tmp_path):
    proxy = Proxy(tmp_path, "all")
    proxy.tell(KIDS, SECURE)
    proxy.tell(OTHERS, SECURE, made_for=KIDS)
    assert proxy.written() == [("kids", "secure")]


def test_renewals_have_the_general_level_and_no_client(tmp_path):
    proxy = Proxy(tmp_path, "failures", "all")
    assert proxy.log.wants(INTERNAL, BOGUS)
    assert not proxy.log.wants(INTERNAL, SECURE)
    proxy.log.record(Evidence(QUESTION, Answer(0), (), Limits(), 5, BOGUS, ()))
    [record] = proxy.records()
    assert (record["circumstances"]["client"], record["circumstances"]["group"]) == ("", "")


def test_the_rule_of_policy_and_the_client_are_told(tmp_path):
    proxy = Proxy(tmp_path, "all")
    proxy.tell(KIDS, SECURE, Source.POLICY, VERDICT)
    [record] = proxy.records()
    assert record["circumstances"] == {
        "time": "2026-11-18T11:06:40.000Z",
        "client": "192.0.2.77",
        "group": "kids",
        "transport": "udp",
        "upstream": "",
        "upstream_transport": "",
        "action": "nxdomain",
        "policy": {"text": "*.ads.example", "where": 'list "ads"', "file": "ads.txt", "line": 3},
        "identity": "",
        "assurance": "inferred",
    }


def test_what_a_certificate_attests_is_told_in_any_case(tmp_path):
    proxy = Proxy(tmp_path, "all", log=Log(clients="none"))
    proxy.tell(Client("192.0.2.77", Transport.DOT, "kids", "spiffe://prod.example/pay"), SECURE)
    [record] = proxy.records()
    told = record["circumstances"]
    assert (told["client"], told["identity"], told["assurance"]) == ("", "spiffe://prod.example/pay", "attested")


@pytest.mark.parametrize(("clients", "told"), [("full", "192.0.2.77"), ("short", "192.0.2.0"), ("none", "")])
def test_the_address_is_told_as_the_log_may_tell_it(tmp_path, clients, told):
    proxy = Proxy(tmp_path, "all", log=Log(clients=clients))
    proxy.tell(KIDS, SECURE)
    [record] = proxy.records()
    assert record["circumstances"]["client"] == told
    assert ("192.0.2.77" in json.dumps(record)) == (clients == "full")


def test_a_reload_changes_the_level_and_the_file(tmp_path):
    proxy = Proxy(tmp_path, "off")
    assert not proxy.log.active
    proxy.tell(KIDS, SECURE)
    proxy.log.use(settings(tmp_path, "all"))
    proxy.tell(KIDS, SECURE)
    proxy.log.use(settings(tmp_path, "all", evidence=EvidenceSettings(tmp_path / "other", "all")))
    proxy.tell(KIDS, BOGUS, None)
    proxy.log.use(settings(tmp_path, "off"))
    proxy.tell(KIDS, SECURE)
    for writer in [thread for thread in threading.enumerate() if thread.name == "log"]:
        writer.join(5)
    assert proxy.written() == [("kids", "secure")]
    assert len((tmp_path / "other").read_text().splitlines()) == 1


def test_a_file_that_cannot_be_written_costs_records_and_is_counted(tmp_path):
    where = EvidenceSettings(tmp_path / "missing" / "evidence", "all")
    proxy = Proxy(tmp_path, evidence=where)
    proxy.tell(KIDS, SECURE)
    proxy.log.close(5.0)
    assert (proxy.counters.evidence, proxy.counters.evidence_lost) == (1, 1)
