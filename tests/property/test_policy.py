"""Indexes of policy against what they are meant to say, said the slow way."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import example, given
from hypothesis import strategies as st

from dohproxy.config.settings import Network
from dohproxy.model import Action, Name, Rule, Verdict
from dohproxy.policy.addresses import AddressSet, addresses_of, embedded, is_private
from dohproxy.policy.clients import NetworkIndex
from dohproxy.policy.keys import key_of, pattern_of, query_key, specificity
from dohproxy.policy.lists import ListRule, Unreadable, parse_list
from dohproxy.policy.rules import Pattern, PolicyEntry, Reach, RuleIndex
from dohproxy.wire import names
from dohproxy.wire.constants import AAAA, HTTPS, TXT, A

LABELS = st.sampled_from([b"a", b"b", b"com", b".", b"!", b"@", b"x" * 33, b"x" * 46, b"\0"])
NAMES = st.lists(LABELS, max_size=4).map(names.from_labels)
REACHES = st.sampled_from(Reach)
TYPES = st.sampled_from([A, AAAA, TXT])
PATTERNS = st.builds(Pattern, NAMES, REACHES, st.frozensets(TYPES, max_size=2))
V4 = st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(4, "big"))
V6 = st.integers(0, 2**128 - 1).map(lambda n: n.to_bytes(16, "big"))


def network(packed: bytes, length: int) -> Network:
    return ip_network((packed, min(length, len(packed) * 8)), strict=False)


NETWORKS = st.builds(network, V4 | V6, st.integers(0, 128))


@given(st.lists(st.tuples(PATTERNS, st.sampled_from([Action.ALLOW, Action.NXDOMAIN]))), NAMES, TYPES)
def test_the_index_finds_what_asking_every_rule_finds(rules: list[tuple[Pattern, Action]], qname: Name, qtype: int) -> None:
    entries = [PolicyEntry(pattern, Verdict(action, Rule(str(at), ""))) for at, (pattern, action) in enumerate(rules)]
    covering = sorted((e for e in entries if e.pattern.covers(qname, qtype)), key=lambda e: e.rank, reverse=True)
    index = RuleIndex(entries)
    assert index.matches(qname, qtype) == [entry.verdict for entry in covering]
    assert index.best(qname, qtype) == (covering[0].verdict if covering else None)


@given(NAMES.filter(lambda name: name != names.ROOT), REACHES, NAMES)
def test_a_key_is_a_prefix_exactly_where_it_covers(name: Name, reach: Reach, qname: Name) -> None:
    key = key_of(name, reach)
    assert pattern_of(key) == pattern_of(key_of(name, reach, allow=True)) == (name, reach)
    assert query_key(qname).startswith(key) == Pattern(name, reach).covers(qname, A)


@given(NAMES.filter(lambda name: name != names.ROOT), st.lists(st.tuples(st.integers(1, 4), REACHES), min_size=2, max_size=2))
@example(b"\1a\1.\0", [(1, Reach.SUBTREE), (1, Reach.BELOW)])
def test_keys_sort_as_rules_do(qname: Name, two: list[tuple[int, Reach]]) -> None:
    patterns = [Pattern(names.last_labels(qname, count), reach) for count, reach in two]
    if all(pattern.covers(qname, A) for pattern in patterns):
        one, other = patterns
        keys = [specificity(key_of(pattern.name, pattern.reach)) for pattern in patterns]
        assert (keys[0] < keys[1]) == (one.specificity < other.specificity)


@given(st.lists(st.binary(max_size=60) | st.text("ab.*|^@#!/$=0:1 \\ü", max_size=20).map(str.encode), max_size=5))
def test_any_line_is_read_or_told(lines: list[bytes]) -> None:
    for rule in parse_list(lines):
        assert 1 <= rule.line <= len(lines)
        if isinstance(rule, ListRule):
            name, reach = pattern_of(rule.key)
            assert names.from_text(names.to_text(name)) == name != names.ROOT and isinstance(reach, Reach)
        else:
            assert isinstance(rule, Unreadable) and rule.reason


@given(st.lists(NETWORKS, max_size=6), V4 | V6)
def test_an_address_set_has_what_any_of_its_networks_has(networks: list[Network], packed: bytes) -> None:
    assert (packed in AddressSet(networks)) == any(ip_address(packed) in one for one in networks)


@given(st.lists(NETWORKS, max_size=6), V4 | V6)
def test_a_client_is_in_the_longest_network(networks: list[Network], packed: bytes) -> None:
    found = NetworkIndex((one, at) for at, one in enumerate(networks)).find(str(ip_address(packed)))
    around = [one for one in networks if ip_address(packed) in one]
    assert (found is None) == (not around)
    if found:
        assert found[0].prefixlen == max(one.prefixlen for one in around) and networks.index(found[0]) == found[1]


@given(V4)
def test_a_private_address_is_private_in_any_disguise(packed: bytes) -> None:
    for prefix in (b"\0" * 10 + b"\xff\xff", b"\0\x64\xff\x9b" + b"\0" * 8):
        assert embedded(prefix + packed) == packed
    assert embedded(b"\x20\2" + packed + b"\0" * 10) == packed
    if not ip_address(packed).is_global and is_private(packed):
        assert any(is_private(one) for one in addresses_of(AAAA, b"\0" * 10 + b"\xff\xff" + packed))


@given(st.binary(max_size=80))
def test_no_service_parameters_break_it(rdata: bytes) -> None:
    assert all(len(packed) in (4, 16) for packed in addresses_of(HTTPS, rdata))
