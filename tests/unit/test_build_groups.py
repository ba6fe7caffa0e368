"""What the groups of upstreams are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

from dohproxy.build import Core, Meaning
from dohproxy.clock import Clock
from dohproxy.config.load import parse
from dohproxy.errors import ConfigError
from dohproxy.model import Question
from dohproxy.resolve.captive import Captive
from dohproxy.resolve.selected import Group
from dohproxy.resolve.strategies import Fastest, Race
from dohproxy.wire.names import ROOT, from_text

TWO = 'upstream = ["tls://192.0.2.1", "tls://192.0.2.2"]\n'
ZONE = '[[zone]]\nname = "corp"\nstrategy = "race"\nupstream = ["tls://192.0.2.1", "tls://192.0.2.3"]\n'


def core(text: str) -> Core:
    return Core(Meaning.of(parse(text, "test.toml", Path())), Clock())


def strategy(group: Group) -> type:
    return type(group._strategy)


def test_a_zone_may_have_a_strategy_of_its_own() -> None:
    groups = core(TWO + '[forwarding]\nstrategy = "fastest"\n' + ZONE)._groups
    assert strategy(groups[ROOT]) is Fastest
    assert strategy(groups[from_text("corp.")]) is Race


async def test_doubts_go_to_the_group_that_was_asked() -> None:
    made = core(TWO + ZONE)
    for name in ("www.a.corp.", "www.b.corp."):
        made._doubt("tls://192.0.2.1", Question(from_text(name), 1), "RRSIGs missing")
    doubted = {zone: "doubted" in repr(group) for zone, group in made._groups.items()}
    assert doubted == {ROOT: False, from_text("corp."): True}


def test_portals_are_none_of_our_business_unless_configured() -> None:
    assert not isinstance(core(TWO).stage, Captive)
    assert isinstance(core(TWO + '[captive_portal]\nnames = ["portal.example"]\n').stage, Captive)


@pytest.mark.parametrize(("key", "value"), [("names", "[]"), ("upstream", '"router"')])
def test_portals_that_cannot_be_found(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"captive_portal.{key}"):
        parse(
            TWO
            + f'[captive_portal]\nnames = ["portal.example"]\n{key} = {value}\n'.replace(
                'names = ["portal.example"]\nnames', "names"
            ),
            "test.toml",
            Path(),
        )
