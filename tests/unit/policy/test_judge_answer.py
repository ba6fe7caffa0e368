from __future__ import annotations

import pytest
from policies import Maker, ask, group
from stages import answer

from dohproxy.model import Action, Answer, Rule, Source, Verdict
from dohproxy.policy.engine import Engine
from dohproxy.wire.constants import AAAA, HTTPS

NXDOMAIN = Action.NXDOMAIN
ADS = {"ads": (NXDOMAIN, "ads.example\n")}
QUESTION = ask("www.example")


def judge(engine: Engine, found: Answer, asked: Verdict | None = None, exempt: bool = False) -> tuple[Action, str, str] | None:
    verdict = engine.judge_answer(QUESTION, found, engine.group_of(""), asked, exempt)
    return verdict and (verdict.action, verdict.rule.text, verdict.rule.where)


ALIAS = answer("www.example. 60 CNAME X.Ads.Example.", "x.ads.example. 60 A 192.0.2.1")
LISTED = (NXDOMAIN, "ads.example", 'list "ads"')


def test_public_addresses_pass(make: Maker) -> None:
    assert judge(make(**ADS), answer("www.example. 60 A 192.0.2.1 8.8.8.8 172.15.0.1 172.32.0.1 100.128.0.1")) is None
    assert judge(make(**ADS), answer("www.example. 60 AAAA 2001:db8::1 2606:4700::1 64:ff9b::808:808 2002:808:808::1")) is None


def test_an_alias_of_a_listed_name_is_blocked(make: Maker) -> None:
    assert judge(make(**ADS), ALIAS) == LISTED
    assert judge(make(group(deny=["*.ads.example"])), ALIAS) == (NXDOMAIN, "*.ads.example", 'group "default", deny')
    assert judge(make(), ALIAS) is None


def test_an_alias_may_be_allowed_itself(make: Maker) -> None:
    assert judge(make(group(allow=["x.ads.example"]), **ADS), ALIAS) is None


def test_allowing_the_question_does_not_allow_its_alias(make: Maker) -> None:
    asked = Verdict(Action.ALLOW, Rule("www.example", 'group "default", allow'))
    assert judge(make(group(allow=["www.example"]), **ADS), ALIAS, asked) == LISTED


def test_the_default_is_not_asked_of_an_alias(make: Maker) -> None:
    engine = make(group(allow=["www.example"], default=Action.REFUSED))
    assert judge(engine, ALIAS) is None


@pytest.mark.parametrize(
    "record",
    ["example. 60 DNAME ads.example.", "www.example. 60 HTTPS 0 x.ads.example.", "www.example. 60 SVCB 1 ads.example."],
)
def test_other_ways_to_point_at_a_listed_name_are_blocked(make: Maker, record: str) -> None:
    assert judge(make(**ADS), answer(record)) == LISTED


PRIVATE = [
    *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.0.1"),
    *("::", "::1", "fe80::1", "fd00::1", "fc00::1", "fec0::1", "::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::10.0.0.1"),
    *("64:ff9b:1::8.8.8.8", "2002:c0a8:1::1", "255.255.255.255"),
]


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_of_public_names_are_blocked(make: Maker, address: str) -> None:
    found = answer(
        f"www.example. 60 {'AAAA' if ':' in address else 'A'} {'2001:db8::1' if ':' in address else '192.0.2.1'} {address}"
    )
    action, text, where = judge(make(), found) or (None, "", "")
    assert action is NXDOMAIN and "rebinding" in text and where == 'group "default", rebinding'
    assert judge(make(), found, exempt=True) is None
    assert judge(make(group(rebinding=False)), found) is None
    assert judge(make(group(rebinding_allow=["*.example"])), found) is None
    assert judge(make(group(rebinding_allow=["*.other.example"])), found) is not None


def test_local_answers_may_have_private_addresses(make: Maker) -> None:
    assert judge(make(), answer("www.example. 60 A 10.0.0.1", source=Source.LOCAL)) is None


def test_allowing_the_question_does_not_allow_rebinding(make: Maker) -> None:
    asked = Verdict(Action.ALLOW, Rule("www.example", 'group "default", allow'))
    assert judge(make(group(allow=["www.example"])), answer("www.example. 60 A 10.0.0.1"), asked) is not None


def test_an_allowed_alias_does_not_allow_rebinding(make: Maker) -> None:
    found = answer("www.example. 60 CNAME nas.corp.test.", "nas.corp.test. 60 A 10.0.0.1")
    assert judge(make(group(rebinding_allow=["*.corp.test"])), found) is not None


def test_hints_are_addresses_too(make: Maker) -> None:
    assert judge(make(), answer("www.example. 60 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1,10.0.0.1")) is not None
    assert judge(make(), answer("www.example. 60 HTTPS 1 . alpn=h2 ipv6hint=2001:db8::1,fd00::1")) is not None
    assert judge(make(), answer("www.example. 60 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1")) is None


def test_broken_service_parameters_do_no_harm(make: Maker) -> None:
    whole = answer("www.example. 60 HTTPS 1 www.example. ipv4hint=192.0.2.1").answer[0]
    for end in range(len(whole.rdatas[0])):
        cut = type(whole)(whole.owner, HTTPS, 60, (whole.rdatas[0][:end],))
        assert judge(make(**ADS), Answer(0, (cut,))) is None


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ("www.example. 60 A 203.0.113.7", "203.0.113.7"),
        ("www.example. 60 AAAA ::ffff:203.0.113.7", "203.0.113.7"),
        ("www.example. 60 AAAA 2001:db8:bad::1", "2001:db8:bad::1"),
        ("www.example. 60 HTTPS 1 . ipv4hint=203.0.113.7", "203.0.113.7"),
    ],
)
def test_denied_addresses_are_blocked(make: Maker, record: str, told: str) -> None:
    engine = make(group(deny_addresses=["203.0.113.0/24", "203.0.113.128/25", "2001:db8:bad::/48"]))
    assert judge(engine, answer(record), exempt=True) == (NXDOMAIN, told, 'group "default", deny_addresses')
    assert judge(engine, answer("www.example. 60 A 203.0.112.255 203.0.114.0")) is None


def test_log_is_told_where_the_question_said_nothing(make: Maker) -> None:
    engine = make(trial=(Action.LOG, "ads.example"))
    logged = (Action.LOG, "ads.example", 'list "trial"')
    assert judge(engine, ALIAS) == logged
    assert judge(engine, ALIAS, Verdict(Action.LOG, Rule("www.example", "before"))) is None
    both = answer("www.example. 60 CNAME x.ads.example.", "x.ads.example. 60 A 10.0.0.1")
    assert (judge(engine, both) or [None])[0] is NXDOMAIN


def test_types_of_rules_hold_for_aliases(make: Maker) -> None:
    engine = make(group(deny=["*.ads.example AAAA"]))
    assert judge(engine, ALIAS) is None
    assert engine.judge_answer(ask("www.example", AAAA), ALIAS, engine.group_of(""), None) is not None
