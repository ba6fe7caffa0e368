"""Judges questions and answers, each by the rules of the group that its client is in. docs/policy.md tells how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dohproxy.config.settings import Policy
from dohproxy.model import Answer, Client, Question, Verdict
from dohproxy.policy.clients import IdentityIndex, NetworkIndex
from dohproxy.policy.compiled import CompiledList
from dohproxy.policy.group import Group

__all__ = ["Engine", "Group", "Place"]

_REMEMBERED = 10_000


class Place(NamedTuple):
    """The group that a client is in, and why."""

    group: Group
    pattern: str = ""
    """The pattern of identities that puts it there; "" where none does."""
    network: str = ""
    """The network that does where no pattern does; "" for the group of everyone else."""


class Engine:
    """All groups of a policy.

    Raises ConfigError if a rule cannot be read; the lists must be there under the names that the policy gives them.
    """

    def __init__(self, policy: Policy, lists: Mapping[str, CompiledList]) -> None:
        self.groups = tuple(Group(settings, lists) for settings in policy.groups)
        self._default = next(group for group in self.groups if group.name == "default")
        self._networks = NetworkIndex((n, at) for at, group in enumerate(policy.groups) for n in group.clients)
        self._identities = IdentityIndex(
            (pattern, at) for at, group in enumerate(policy.groups) for pattern in (*group.spiffe, *group.identities)
        )
        self._known: dict[tuple[str, str], Group] = {}

    def group_of(self, address: str, identity: str = "") -> Group:
        """The group of the client with this address, and with this identity by a verified certificate, as in model.Client."""
        group = self._known.get((address, identity))
        if group is None:
            group = self.place_of(address, identity).group
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[address, identity] = group
        return group

    def place_of(self, address: str, identity: str = "") -> Place:
        """The group of this client and why: the most specific pattern of its identity, else the most specific network.

        What a certificate attests comes before what an address lets us infer. IPv4-mapped addresses are IPv4.
        """
        if identity and (known := self._identities.find(identity)):
            return Place(self.groups[known[1]], pattern=known[0])
        if found := self._networks.find(address):
            return Place(self.groups[found[1]], network=str(found[0]))
        return Place(self._default)

    def group(self, client: Client) -> Group:
        """The group of a client: the one place that decides it."""
        return self._known.get((client.address, client.identity)) or self.group_of(client.address, client.identity)

    def judge_question(self, question: Question, group: Group) -> Verdict | None:
        """What policy says before anyone is asked; None where it says nothing, which allows.

        ALLOW and LOG let the question pass, all else takes the place of an answer.
        """
        return group.judge_question(question)

    def judge_answer(
        self, question: Question, answer: Answer, group: Group, asked: Verdict | None, exempt: bool = False
    ) -> Verdict | None:
        """What policy says of what an answer holds: a verdict that blocks it, LOG, or None.

        `asked` is the verdict on the question. An `exempt` question (of a zone with upstreams of its own) and a local answer
        may have private addresses. What aliases point to is judged like a question, but need not be allowed.
        """
        return group.judge_answer(question, answer, asked, exempt)
