"""A policy group ready to judge: what its rules, its lists and its default say of questions and of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dohproxy.config.settings import PolicyGroup, PolicyRule
from dohproxy.errors import BadName, ConfigError, Problem
from dohproxy.model import Action, Answer, Name, Question, RRset, Rule, Source, Verdict
from dohproxy.policy.addresses import AddressSet, address_text, addresses_of, is_private, service_parameters_untrusted
from dohproxy.policy.compiled import CompiledList
from dohproxy.policy.listed import Listed
from dohproxy.policy.rules import PolicyEntry, RuleIndex, parse_pattern
from dohproxy.wire.constants import AAAA, CNAME, DNAME, HTTPS, SVCB, A

DEFAULT_DENY = 'default = "deny"'
"""The text of the rule that a group's default is."""
_TARGETS = frozenset({CNAME, DNAME, SVCB, HTTPS})
_ADDRESSES = frozenset({A, AAAA, SVCB, HTTPS})


def blocks(verdict: Verdict | None) -> bool:
    """Whether this verdict takes the place of an answer."""
    return verdict is not None and verdict.action is not Action.ALLOW and verdict.action is not Action.LOG


class Group:
    """The clients of one `[[policy.group]]`, and what they may resolve."""

    def __init__(self, settings: PolicyGroup, lists: Mapping[str, CompiledList]) -> None:
        self.settings = settings
        self.name, self.mode = settings.name, settings.mode
        self.rules = RuleIndex([*self._entries("allow", settings.allow), *self._entries("deny", settings.deny)])
        self.lists = Listed([lists[name] for name in (lists if settings.lists is None else settings.lists)])
        self.default = self._default()
        self.names_matter = bool(self.rules or self.lists)
        """Whether what is said of a question depends on it."""
        self._deny_addresses = AddressSet(settings.deny_addresses)
        self._rebinding_allow = RuleIndex(self._entries("rebinding_allow", settings.rebinding_allow))
        self._addresses_matter = settings.rebinding or bool(self._deny_addresses)

    def judge_question(self, question: Question) -> Verdict | None:
        """What decides on the question; None if nothing speaks and the default is to allow."""
        if not self.names_matter:
            return self.default
        return self._judge(question.qname, question.qtype, self.default)

    def _judge(self, name: Name, rdtype: int, default: Verdict | None) -> Verdict | None:
        """The first to decide: rules, lists, default. What only logs, or only lifts a list's block, lets the next one block."""
        ruled = self.rules.best(name, rdtype)
        if ruled is not None and ruled.action is not Action.LOG:
            return ruled
        listed = self.lists.best(name) if self.lists else None
        for verdict in (listed, default):
            if blocks(verdict):
                return verdict
        return ruled or listed or default

    def judge_answer(self, question: Question, answer: Answer, asked: Verdict | None, exempt: bool) -> Verdict | None:
        """What blocks the answer, or should be logged of it where `asked` says nothing yet; else None."""
        logged = None
        for rrset in answer.answer:
            verdict = None
            if rrset.rdtype in _TARGETS and self.names_matter:
                verdict = self._judge_targets(question, rrset)
            if verdict is None and rrset.rdtype in _ADDRESSES and self._addresses_matter:
                verdict = self._judge_addresses(question, rrset, exempt or answer.source is Source.LOCAL)
            if verdict is None:
                continue
            if blocks(verdict):
                return verdict
            logged = logged or verdict
        return logged if asked is None else None

    def _judge_targets(self, question: Question, rrset: RRset) -> Verdict | None:
        """Judge what the name is an alias of like a question, but for the default; an allow there says nothing."""
        logged = None
        for rdata in rrset.rdatas:
            target = rdata if rrset.rdtype in (CNAME, DNAME) else service_parameters_untrusted(rdata)[0]
            verdict = self._judge(target.lower(), question.qtype, None)
            if blocks(verdict):
                return verdict
            if verdict is not None and verdict.action is Action.LOG:
                logged = logged or verdict
        return logged

    def _judge_addresses(self, question: Question, rrset: RRset, exempt: bool) -> Verdict | None:
        """Whether an address is denied, or private in an answer to a public name (rebinding)."""
        private_matters = self.settings.rebinding and not exempt
        for rdata in rrset.rdatas:
            for packed in addresses_of(rrset.rdtype, rdata):
                if packed in self._deny_addresses:
                    return self._denied(address_text(packed), self._where("deny_addresses"))
                if private_matters and is_private(packed) and not self._may_be_private(question):
                    return self._denied(f"rebinding protection: {address_text(packed)} is private", self._where("rebinding"))
        return None

    def _may_be_private(self, question: Question) -> bool:
        return self._rebinding_allow.best(question.qname, question.qtype) is not None

    def _denied(self, text: str, where: str) -> Verdict:
        place = self.settings.place
        return self._verdict(self.settings.deny_action, Rule(text, where, place.file, place.line))

    def _verdict(self, action: Action, rule: Rule) -> Verdict:
        return Verdict(action, rule, self.settings.sinkhole if action is Action.SINKHOLE else ())

    def _default(self) -> Verdict | None:
        if self.settings.default is Action.ALLOW:
            return None
        place = self.settings.place
        return self._verdict(self.settings.default, Rule(DEFAULT_DENY, self._where(), place.file, place.line))

    def _where(self, key: str = "") -> str:
        return f'group "{self.name}"' + (f", {key}" if key else "")

    def _entries(self, key: str, rules: Iterable[PolicyRule]) -> list[PolicyEntry]:
        """The rules of one key; raises ConfigError that tells each that cannot be read."""
        action = self.settings.deny_action if key == "deny" else Action.ALLOW
        entries, problems = [], []
        for rule in rules:
            try:
                pattern = parse_pattern(rule.text)
            except BadName as error:
                problems.append(_problem(self.name, key, rule, error))
            else:
                where = Rule(rule.text, self._where(key), rule.place.file, rule.place.line)
                entries.append(PolicyEntry(pattern, self._verdict(action, where)))
        if problems:
            raise ConfigError(tuple(problems))
        return entries


def _problem(group: str, key: str, rule: PolicyRule, error: BadName) -> Problem:
    allowed = "`name`, `*.name`, `.name` or `*`, and record types after it: `name TXT,A`"
    return Problem(rule.place.file, rule.place.line, f'policy.group "{group}".{key}', str(error), allowed)
