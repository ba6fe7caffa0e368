from __future__ import annotations

import msgspec
from policies import Maker, ask, group

from dohproxy.model import Action
from dohproxy.policy.explain import Explanation, explain

ADS = {"ads": (Action.NXDOMAIN, "# mine\nads.example\n")}


def test_all_rules_are_told_with_their_lines_and_the_one_that_decided(make: Maker) -> None:
    engine = make(group("kids", clients=["10.1.0.0/16"], allow=["*.example"], deny=["*.ads.example"]), **ADS)
    found = explain(engine, ask("x.ads.example"), "10.1.2.3")
    assert (found.name, found.type, found.client, found.group, found.network) == (
        *("x.ads.example.", "A", "10.1.2.3"),
        *("kids", "10.1.0.0/16"),
    )
    assert found.action is Action.NXDOMAIN and "most specific" in found.why
    assert [(one.rule, one.where, one.line, one.decided) for one in found.rules] == [
        ("*.ads.example", 'group "kids", deny', 21, True),
        ("*.example", 'group "kids", allow', 11, False),
        ("ads.example", 'list "ads"', 2, False),
    ]
    text = "\n".join(found.lines())
    assert "10.1.0.0/16 is in its clients" in text and "dohproxy.toml:21" in text and f"{make.directory}/ads.txt:2" in text


def test_a_list_that_decides_is_told(make: Maker) -> None:
    found = explain(make(**ADS), ask("ads.example"), "192.0.2.1")
    assert (found.group, found.network, found.action) == ("default", "", Action.NXDOMAIN)
    assert [one.decided for one in found.rules] == [True] and "list" in found.why


def test_defaults_are_told(make: Maker) -> None:
    assert explain(make(), ask("a.example"), "").why == "no rule covers it, and the group allows by default"
    found = explain(make(group(default=Action.NXDOMAIN)), ask("a.example"), "")
    assert [(one.rule, one.decided) for one in found.rules] == [('default = "deny"', True)]
    assert found.why == "no rule allows it, and the group denies by default"


def test_an_explanation_is_json(make: Maker) -> None:
    found = explain(make(**ADS), ask("ads.example"), "192.0.2.1")
    assert msgspec.json.decode(msgspec.json.encode(found), type=Explanation) == found
