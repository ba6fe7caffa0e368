"""Tells a person what policy decides on a question, by which rule, and which other rules speak of it."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from dohproxy.model import Action, Assurance, Question, Rule, Verdict
from dohproxy.policy.engine import Engine
from dohproxy.policy.group import DEFAULT_DENY, Group
from dohproxy.wire import names
from dohproxy.wire.text import type_to_text


class Matched(Struct, frozen=True):
    """One rule that covers the question."""

    action: Action
    rule: str
    where: str
    file: str
    line: int
    decided: bool

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{self.rule}   {self.action.value}, {self.where}" + (f", {place}" if place else "")


class Explanation(Struct, frozen=True):
    """What policy says of a question that a client asks, and why."""

    name: str
    type: str
    client: str
    """Its address."""
    group: str
    network: str
    """The entry of `clients` that puts the client into its group; "" where none does."""
    action: Action
    why: str
    rules: tuple[Matched, ...]
    """All rules that cover the question, in the order of their say."""
    identity: str = ""
    """As in model.Client."""
    pattern: str = ""
    """The entry of `spiffe` or `identities` that puts the client into its group; "" where none does."""
    assurance: Assurance = Assurance.INFERRED
    """How sure we are who the client is, as in the query log; not what put it into its group."""

    def lines(self) -> list[str]:
        """For a person."""
        decided = [f"  > {rule}" for rule in self.rules if rule.decided]
        others = [f"    {rule}" for rule in self.rules if not rule.decided]
        return [
            f"question  {self.name} {self.type}",
            *([f"client    {self.client or '(none)'}"] if self.client or not self.identity else []),
            *([f"identity  {self.identity}"] if self.identity else []),
            f"group     {self.group} ({self._why_there()}, {self.assurance.value})",
            f"decision  {self.action.value}: {self.why}",
            *(["rules", *decided, *others] if self.rules else []),
        ]

    def _why_there(self) -> str:
        if self.pattern:
            return f"{self.pattern} is in its {'spiffe' if self.pattern.startswith('spiffe:') else 'identities'}"
        if self.network:
            return f"{self.network} is in its clients"
        missing = [*(["identity"] if self.identity else []), *(["address"] if self.client or not self.identity else [])]
        return f"no group has this {' or '.join(missing)}"


def explain(engine: Engine, question: Question, address: str, identity: str = "") -> Explanation:
    """What the engine says of this question from this client. Reads list files to find the lines of their rules.

    `identity` is that of a verified certificate, "" where the client has shown none.
    """
    group, pattern, network = engine.place_of(address, identity)
    verdict = engine.judge_question(question, group)
    return Explanation(
        name=names.to_text(question.qname),
        type=type_to_text(question.qtype),
        client=address,
        group=group.name,
        network=network,
        action=Action.ALLOW if verdict is None else verdict.action,
        why=_why(verdict),
        rules=tuple(_rules(group, question, verdict)),
        identity=identity,
        pattern=pattern,
        assurance=Assurance.ATTESTED if identity else Assurance.INFERRED,
    )


def _rules(group: Group, question: Question, decided: Verdict | None) -> Iterator[Matched]:
    """All that covers the question: the group's rules, the lists' (with the lines, found now), the default."""
    for verdict in group.rules.matches(question.qname, question.qtype):
        yield _matched(verdict.action, verdict.rule, verdict == decided)
    for compiled, key in group.lists.hits(question.qname):
        verdict = compiled.verdict(key)
        line, text = compiled.line_of(key)
        rule = Rule(text or verdict.rule.text, verdict.rule.where, verdict.rule.file, line)
        yield _matched(verdict.action, rule, verdict == decided)
    if group.default is not None:
        yield _matched(group.default.action, group.default.rule, group.default == decided)


def _matched(action: Action, rule: Rule, decided: bool) -> Matched:
    return Matched(action, rule.text, rule.where, rule.file, rule.line, decided)


def _why(verdict: Verdict | None) -> str:
    if verdict is None:
        return "no rule covers it, and the group allows by default"
    if verdict.rule.text == DEFAULT_DENY:
        return "no rule allows it, and the group denies by default"
    if verdict.rule.where.startswith("list"):
        why = "no rule of the group decides; of the lists' rules the most specific wins, allow before deny"
    else:
        why = "a group's rules come before lists; of them the most specific wins, allow before deny"
    return f"{verdict.rule.text} of {verdict.rule.where}: {why}"
