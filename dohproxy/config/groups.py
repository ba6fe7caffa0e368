"""The policy's lists and groups: every name meant by another is there, and no client belongs to two groups."""

from __future__ import annotations

from dohproxy.config import document, settings
from dohproxy.config.files import Files
from dohproxy.config.report import Report, nearest
from dohproxy.config.settings import Network, PolicyRule
from dohproxy.config.written import Placed
from dohproxy.model import Action

DEFAULT = "default"
UNWRITTEN = settings.PolicyGroup(DEFAULT, rebinding=False)
"""Who writes no group default has no policy for everyone else but the lists: private addresses are left alone too."""


def policy(written: document.Policy, files: Files, report: Report) -> settings.Policy:
    """The policy, with the group "default" as the last of its groups."""
    _check_names(written.list, "list", report)
    _check_names(written.group, "group", report)
    _check_clients(written.group, report)
    _check_identities(written.group, report)
    groups = [_group(group, written.list, report) for group in written.group]
    others = [group for group in groups if group.name != DEFAULT]
    last = next((group for group in groups if group.name == DEFAULT), UNWRITTEN)
    return settings.Policy(tuple(_list(one, files, report) for one in written.list), (*others, last))


def _check_names(tables: tuple[document.PolicyList, ...] | tuple[document.PolicyGroup, ...], kind: str, report: Report) -> None:
    seen: set[str] = set()
    for table in tables:
        if not table.name or not table.name.isprintable():
            report.problem((*table.at, "name"), "the name is empty" if not table.name else "the name has control characters")
        if table.name in seen:
            report.problem((*table.at, "name"), f'a second {kind} has the name "{table.name}"')
        seen.add(table.name)


def _check_clients(groups: tuple[document.PolicyGroup, ...], report: Report) -> None:
    owner: dict[Network, str] = {}
    for group in groups:
        if group.name == DEFAULT and group.clients:
            report.problem((*group.at, "clients"), 'the group "default" is everyone else and names no clients')
        for client in group.clients:
            if owner.setdefault(client.value, group.name) != group.name:
                report.problem(client.at, f'{client.value} belongs to the group "{owner[client.value]}" already')


def _check_identities(groups: tuple[document.PolicyGroup, ...], report: Report) -> None:
    owner: dict[str, str] = {}
    for group in groups:
        for key, patterns in (("spiffe", group.spiffe), ("identities", group.identities)):
            if group.name == DEFAULT and patterns:
                report.problem((*group.at, key), 'the group "default" is everyone else and names no clients')
            for pattern in patterns:
                if owner.setdefault(pattern.value, group.name) != group.name:
                    report.problem(pattern.at, f'{pattern.value} belongs to the group "{owner[pattern.value]}" already')


def _list(written: document.PolicyList, files: Files, report: Report) -> settings.PolicyList:
    _check_sinkhole(written.action, written.addresses, (*written.at, "addresses"), report)
    file = files.readable(written.file, (*written.at, "file"))
    return settings.PolicyList(written.name, file, written.action, written.addresses)


def _check_sinkhole(action: Action, addresses: tuple[str, ...], at: tuple[str | int, ...], report: Report) -> None:
    if action is Action.SINKHOLE and not addresses:
        report.problem(at, "a sinkhole needs addresses to answer with")
    if action is not Action.SINKHOLE and addresses:
        report.problem(at, f'this means nothing for the action "{action.value}"')


def _group(written: document.PolicyGroup, lists: tuple[document.PolicyList, ...], report: Report) -> settings.PolicyGroup:
    _check_sinkhole(written.deny_action, written.sinkhole, (*written.at, "sinkhole"), report)
    known = [one.name for one in lists]
    for name in written.lists or ():
        if name.value not in known:
            allowed = ", ".join(known) or "the name of a [[policy.list]], of which there is none"
            report.problem(name.at, f'there is no list "{name.value}"', allowed=allowed, nearest=nearest(name.value, known))
    return settings.PolicyGroup(
        name=written.name,
        clients=tuple(client.value for client in written.clients),
        spiffe=tuple(one.value for one in written.spiffe),
        identities=tuple(one.value for one in written.identities),
        default=Action.ALLOW if written.default == "allow" else written.deny_action,
        allow=_rules(written.allow, report),
        deny=_rules(written.deny, report),
        deny_action=written.deny_action,
        sinkhole=written.sinkhole,
        lists=None if written.lists is None else tuple(name.value for name in written.lists),
        mode=written.dnssec,
        rebinding=written.rebinding,
        rebinding_allow=_rules(written.rebinding_allow, report),
        deny_addresses=written.deny_addresses,
        place=report.place(written.at),
        evidence=written.evidence,
    )


def _rules(written: tuple[Placed[str], ...], report: Report) -> tuple[PolicyRule, ...]:
    return tuple(PolicyRule(rule.value, report.place(rule.at)) for rule in written)
