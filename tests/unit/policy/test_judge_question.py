from __future__ import annotations

import pytest
from policies import SINKHOLE, Maker, ask, group

from dohproxy.config.settings import Policy, PolicyGroup
from dohproxy.errors import ConfigError
from dohproxy.model import Action, Client, Transport
from dohproxy.policy.engine import Engine
from dohproxy.wire.constants import DS, TXT, A

ALLOW, LOG, NXDOMAIN, DENIED = Action.ALLOW, Action.LOG, Action.NXDOMAIN, {"default": Action.REFUSED}
ADS = {"ads": (NXDOMAIN, "ads.example\n")}


def judge(engine: Engine, name: str, qtype: int = A) -> tuple[Action, str, str] | None:
    verdict = engine.judge_question(ask(name, qtype), engine.group_of("192.0.2.1"))
    return verdict and (verdict.action, verdict.rule.text, verdict.rule.where)


def test_nothing_is_said_where_there_is_no_rule(make: Maker) -> None:
    assert judge(make(), "www.example") is None


@pytest.mark.parametrize(
    ("allow", "deny", "question", "winner"),
    [
        # the most specific name wins, whatever it says
        (["*.example"], ["evil.example"], ("evil.example", A), "evil.example"),
        (["*.good.example"], ["*.example"], ("www.good.example", A), "*.good.example"),
        (["*.example"], ["*.bad.example"], ("www.bad.example", A), "*.bad.example"),
        # the name alone is more specific than the name and all below, which is as specific as all below
        (["example"], [".example"], ("example", A), "example"),
        ([".example"], ["example"], ("example", A), "example"),
        # a rule for some types is more specific than one for all types
        (["www.example"], ["www.example TXT"], ("www.example", TXT), "www.example TXT"),
        (["www.example"], ["www.example TXT"], ("www.example", A), "www.example"),
        # but the name counts first
        (["www.example"], ["*.example TXT"], ("www.example", TXT), "www.example"),
        # among equals allow beats deny
        (["www.example"], ["www.example"], ("www.example", A), "www.example"),
        (["*.example"], [".example"], ("www.example", A), "*.example"),
    ],
)
def test_the_most_specific_rule_of_a_group_wins(
    make: Maker, allow: list[str], deny: list[str], question: tuple[str, int], winner: str
) -> None:
    action, text, where = judge(make(group(allow=allow, deny=deny)), *question) or (None, "", "")
    assert text == winner
    wins = "allow" if winner in allow else "deny"
    assert where == f'group "default", {wins}' and (action is ALLOW) == (wins == "allow")


def test_a_rule_is_told_with_its_line(make: Maker) -> None:
    engine = make(group(deny=["a.example", "b.example"]))
    verdict = engine.judge_question(ask("b.example"), engine.group_of(""))
    assert verdict and (verdict.rule.file, verdict.rule.line) == ("dohproxy.toml", 22)


def test_every_type_of_a_denied_name_is_denied(make: Maker) -> None:
    assert judge(make(group(deny=["a.example"])), "a.example", DS) == (NXDOMAIN, "a.example", 'group "default", deny')


def test_rules_come_before_lists(make: Maker) -> None:
    engine = make(group(allow=["*.example"]), **ADS)
    assert judge(engine, "www.ads.example") == (ALLOW, "*.example", 'group "default", allow')
    engine = make(group(deny=["*.example"], deny_action=Action.REFUSED), ads=(NXDOMAIN, "@@||example^\nads.example"))
    assert judge(engine, "www.ads.example") == (Action.REFUSED, "*.example", 'group "default", deny')


def test_lists_cover_the_names_below(make: Maker) -> None:
    engine = make(**ADS)
    listed = (NXDOMAIN, "ads.example", 'list "ads"')
    assert judge(engine, "ads.example") == judge(engine, "a.b.ads.example") == listed
    assert judge(engine, "adsx.example") is judge(engine, "example") is None


def test_the_most_specific_rule_of_all_lists_wins(make: Maker) -> None:
    engine = make(wide=(Action.NODATA, "example"), narrow=(Action.REFUSED, "ads.example"), same=(NXDOMAIN, "ads.example"))
    assert judge(engine, "x.ads.example") == (Action.REFUSED, "ads.example", 'list "narrow"')
    assert judge(engine, "x.example") == (Action.NODATA, "example", 'list "wide"')


def test_an_exception_of_one_list_lifts_the_block_of_another_that_is_no_more_specific(make: Maker) -> None:
    engine = make(ads=(NXDOMAIN, "ads.example\nbad.ok.example"), more=(NXDOMAIN, "@@||ads.example^\n@@||ok.example^"))
    assert judge(engine, "ads.example") == (ALLOW, "@@||ads.example^", 'list "more"')
    assert judge(engine, "bad.ok.example") == (NXDOMAIN, "bad.ok.example", 'list "ads"')
    assert judge(engine, "www.ok.example") is None


def test_what_lists_allow_does_not_open_a_group_that_denies_by_default(make: Maker) -> None:
    engine = make(group(**DENIED), ads=(NXDOMAIN, "ads.example\n@@||ads.example^"))
    assert judge(engine, "ads.example") == (Action.REFUSED, 'default = "deny"', 'group "default"')


def test_the_default_denies_what_no_rule_allows(make: Maker) -> None:
    engine = make(group(allow=["*.bank.example"], **DENIED), **ADS)
    assert judge(engine, "www.bank.example") == (ALLOW, "*.bank.example", 'group "default", allow')
    assert judge(engine, "bank.example") == (Action.REFUSED, 'default = "deny"', 'group "default"')
    assert judge(engine, "ads.example") == (NXDOMAIN, "ads.example", 'list "ads"')
    assert judge(make(group(**DENIED)), "www.example") == (Action.REFUSED, 'default = "deny"', 'group "default"')


def test_log_permits_nothing_that_another_rule_blocks(make: Maker) -> None:
    trial = {"trial": (LOG, "x.ads.example")}
    assert judge(make(**trial), "x.ads.example") == (LOG, "x.ads.example", 'list "trial"')
    assert judge(make(**trial, **ADS), "x.ads.example") == (NXDOMAIN, "ads.example", 'list "ads"')
    assert judge(make(group(**DENIED), **trial), "x.ads.example") == (Action.REFUSED, 'default = "deny"', 'group "default"')
    dry = group(deny=["x.ads.example", "y.example"], deny_action=LOG)
    assert judge(make(dry, **ADS), "x.ads.example") == (NXDOMAIN, "ads.example", 'list "ads"')
    assert judge(make(dry, **ADS), "y.example") == (LOG, "y.example", 'group "default", deny')
    assert judge(make(group(default=LOG)), "z.example") == (LOG, 'default = "deny"', 'group "default"')


def test_a_group_has_the_lists_that_it_names(make: Maker) -> None:
    engine = make(group(lists=("more",)), **ADS, more=(NXDOMAIN, "more.example"))
    assert judge(engine, "ads.example") is None
    assert judge(engine, "more.example") == (NXDOMAIN, "more.example", 'list "more"')


def test_a_sinkhole_brings_its_addresses(make: Maker) -> None:
    engine = make(group(deny=["a.example"], deny_action=Action.SINKHOLE), ads=(Action.SINKHOLE, "ads.example"))
    for name in ("a.example", "ads.example"):
        verdict = engine.judge_question(ask(name), engine.group_of(""))
        assert verdict and verdict.addresses == SINKHOLE


def test_a_group_is_found_by_the_most_specific_network() -> None:
    wide, narrow = group("wide", clients=["10.0.0.0/8", "2001:db8::/32"]), group("narrow", clients=["10.1.0.0/16"])
    engine = Engine(Policy((), (wide, narrow, PolicyGroup("default"))), {})
    expected = {
        "10.1.2.3": "narrow",
        "10.2.2.3": "wide",
        "::ffff:10.1.2.3": "narrow",
        "2001:db8::1": "wide",
        "2001:db8::1%eth0": "wide",
        "192.0.2.1": "default",
        "2001:db9::1": "default",
        "": "default",
    }
    assert {address: engine.group_of(address).name for address in expected} == expected
    assert {address: engine.group_of(address).name for address in expected} == expected
    assert engine.place_of("10.1.2.3").network == "10.1.0.0/16" and engine.place_of("192.0.2.1").network == ""
    assert engine.group(Client("10.1.2.3", Transport.UDP)).name == "narrow"


def test_networks_of_mapped_addresses_are_ipv4() -> None:
    mapped = group("mapped", clients=["::ffff:10.1.0.0/112"])
    engine = Engine(Policy((), (mapped, PolicyGroup("default"))), {})
    assert engine.group_of("10.1.9.9").name == "mapped" and engine.group_of("10.2.9.9").name == "default"


def test_memory_of_clients_is_bounded() -> None:
    engine = Engine(Policy(), {})
    for number in range(25_000):
        engine.group_of(f"2001:db8::{number:x}")
    assert len(engine._known) <= 10_000


def test_rules_that_cannot_be_read_are_told_with_their_lines() -> None:
    with pytest.raises(ConfigError) as caught:
        Engine(Policy((), (group(deny=["a.example", "a..b", "x NOTYPE"]),)), {})
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [("dohproxy.toml", 22), ("dohproxy.toml", 23)]
