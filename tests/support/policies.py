"""Policies as tests write them."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

from dohproxy.config.settings import Place, Policy, PolicyGroup, PolicyList, PolicyRule
from dohproxy.model import Action, Question
from dohproxy.policy.compiled import load_lists
from dohproxy.policy.engine import Engine
from dohproxy.wire import names
from dohproxy.wire.constants import A

SINKHOLE = ("192.0.2.99", "2001:db8::99")
_RULES = {"allow": 11, "deny": 21, "rebinding_allow": 31}
"""The line that the first rule of each is said to stand in."""


def ask(name: str, qtype: int = A) -> Question:
    return Question(names.from_text(name), qtype)


def group(name: str = "default", **keys: Any) -> PolicyGroup:
    for key in keys.keys() & _RULES.keys():
        keys[key] = tuple(PolicyRule(text, Place("dohproxy.toml", _RULES[key] + at)) for at, text in enumerate(keys[key]))
    for key in keys.keys() & {"clients", "deny_addresses"}:
        keys[key] = tuple(map(ip_network, keys[key]))
    return PolicyGroup(name, sinkhole=SINKHOLE, place=Place("dohproxy.toml", 10), **keys)


class Maker:
    """Makes engines; a list is given as its action and its lines."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *groups: PolicyGroup, **lists: tuple[Action, str]) -> Engine:
        loaded = []
        for name, (action, text) in lists.items():
            (self.directory / f"{name}.txt").write_text(text)
            loaded.append(PolicyList(name, self.directory / f"{name}.txt", action, SINKHOLE))
        if not any(one.name == "default" for one in groups):
            groups = (*groups, group())
        policy = Policy(tuple(loaded), groups)
        return Engine(policy, load_lists(policy, None))
