"""Judges questions and answers, each by the rules of the group that its client is in. docs/policy.md tells how."""

from __future__ import annotations

from collections.abc import Mapping

from dohproxy.config.settings import Network, Policy
from dohproxy.model import Answer, Client, Question, Verdict
from dohproxy.policy.clients import NetworkIndex
from dohproxy.policy.compiled import CompiledList
from dohproxy.policy.group import Group

__all__ = ["Engine", "Group"]

_REMEMBERED = 10_000


class Engine:
    """All groups of a policy.

    Raises ConfigError if a rule cannot be read; the lists must be there under the names that the policy gives them.
    """

    def __init__(self, policy: Policy, lists: Mapping[str, CompiledList]) -> None:
        self.groups = tuple(Group(settings, lists) for settings in policy.groups)
        self._default = next(group for group in self.groups if group.name == "default")
        self._networks = NetworkIndex((n, at) for at, group in enumerate(policy.groups) for n in group.clients)
        self._known: dict[str, Group] = {}

    def group_of(self, address: str) -> Group:
        """The group of the client with this address (IPv4-mapped ones are IPv4), by the most specific network."""
        group = self._known.get(address)
        if group is None:
            group, _ = self.place_of(address)
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[address] = group
        return group

    def place_of(self, address: str) -> tuple[Group, Network | None]:
        """The group of this client and the network that puts it there; None for the group of everyone else."""
        found = self._networks.find(address)
        return (self._default, None) if found is None else (self.groups[found[1]], found[0])

    def group(self, client: Client) -> Group:
        """The group of a client: the one place that decides it, by the address so far."""
        return self.group_of(client.address)

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
