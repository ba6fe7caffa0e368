from msgspec.structs import replace

from dohproxy.dnssec.reasons import CLOCK_NOT_SET
from dohproxy.model import Action, Client, Ede, Outcome, Question, Rule, Security, Source, Transport, Verdict
from dohproxy.telemetry.counters import Counters

CLIENT = Client("192.0.2.1", Transport.UDP)
BLOCKED = Verdict(Action.NXDOMAIN, Rule("ads.example", 'list "ads"'))


def outcome(rcode=0, *, readable=True, security=Security.SECURE, source=Source.UPSTREAM, verdict=None, ede=()):
    question = Question(b"\1a\0", 1) if readable else None
    return Outcome(question, CLIENT, rcode, security, source, verdict, ede, "", 0.001, 40)


def test_counts_what_became_of_queries():
    counters = Counters()
    counters.observe(outcome())
    counters.observe(outcome(security=Security.INSECURE))
    counters.observe(outcome(3, security=Security.UNCHECKED, verdict=BLOCKED, source=Source.POLICY))
    counters.observe(outcome(2, security=Security.BOGUS, source=None, ede=(Ede(6, "bogus"),)))
    assert counters.security == {"secure": 1, "insecure": 1, "unchecked": 1, "bogus": 1}
    assert counters.blocked == {'list "ads"': 1}
    assert counters.upstream_failures == 0


def test_queries_of_attested_clients_are_counted():
    counters = Counters()
    counters.observe(outcome())
    counters.observe(replace(outcome(), client=Client("192.0.2.1", Transport.DOT, identity="dns:web.example")))
    assert counters.attested == 1


def test_hits_count_with_what_validation_had_found():
    counters = Counters()
    counters.observe(outcome())
    counters.recalled[list(Security).index(Security.SECURE)] += 2
    counters.recalled[list(Security).index(Security.INSECURE)] += 1
    assert counters.snapshot()["security"] == {"secure": 3, "insecure": 1}
    assert "recalled" not in counters.snapshot()


def test_silence_is_garbage_or_a_decision():
    counters = Counters()
    counters.observe(outcome(-1, readable=False, source=None))
    counters.observe(outcome(-1))
    assert (counters.garbage, counters.silenced) == (1, 1)
    assert not counters.security


def test_an_allowing_verdict_is_no_block():
    counters = Counters()
    counters.observe(outcome(verdict=Verdict(Action.ALLOW, Rule("example", "group"))))
    counters.observe(outcome(verdict=Verdict(Action.LOG, Rule("example", "group"))))
    assert not counters.blocked


def test_upstream_failures_are_errors_with_their_ede():
    counters = Counters()
    counters.observe(outcome(2, source=None, ede=(Ede(22),)))
    counters.observe(outcome(2, source=None, ede=(Ede(23),)))
    counters.observe(outcome(0, source=Source.CACHE, ede=(Ede(3), Ede(22))))
    assert counters.upstream_failures == 2


def test_snapshot_does_not_change_any_more():
    counters = Counters()
    counters.hits += 2
    counters.rcodes[3] += 1
    taken = counters.snapshot()
    counters.observe(outcome())
    counters.rcodes[3] += 1
    assert (taken["hits"], taken["rcodes"], taken["security"]) == (2, {"3": 1}, {})


def test_what_was_let_through_unvalidated_is_counted_by_why():
    counters = Counters()
    by_name = Ede(0, "negative trust anchor broken.example.: they know")
    counters.observe(outcome(security=Security.INSECURE, ede=(by_name,)))
    counters.observe(outcome(2, security=Security.INSECURE, source=None, ede=(Ede(0, "insecure"), by_name)))
    counters.observe(outcome(security=Security.INSECURE, ede=(Ede(0, CLOCK_NOT_SET),)))
    counters.observe(outcome(security=Security.INSECURE, ede=(Ede(2, "unsupported"),)))
    counters.observe(outcome(security=Security.UNCHECKED, ede=(by_name,)))  # perhaps of an upstream's making
    assert counters.unvalidated == {"negative trust anchor broken.example.": 2, "boot clock": 1}


def test_summary_is_one_line_without_zeros():
    counters = Counters()
    assert counters.summary() == "nothing yet"
    counters.hits = 7
    counters.rcodes[0] = 7
    counters.observe(outcome(verdict=BLOCKED))
    assert counters.summary() == 'hits=7 rcodes[0]=7 security[secure]=1 blocked[list "ads"]=1'
