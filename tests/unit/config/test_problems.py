from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dohproxy.config.settings import Settings
from dohproxy.errors import Problem

Problems = Callable[[str], list[Problem]]
Load = Callable[[str], Settings]

EVERYTHING_WRONG = """\
colour = "red"
[listen]
upd = ["127.0.0.1:53"]
tcp = [
  "127.0.0.1:53",
  "127.0.0.1",
  53,
]
[[upstream]]
url = "udp://192.0.2.1"
[[upstream]]
name = "no url"
[[upstream]]
url = "https://dns.example/dns-query"
method = "PSOT"
[dnssec]
mode = "validated"
override_time = 2026-01-01
trust_anchors = ["corp. A 1.2.3.4"]
[[policy.group]]
name = "kids"
clients = ["10.0.0.1/8"]
lists = ["adds"]
[[policy.list]]
name = "ads"
file = "missing.txt"
action = "nxdomian"
[workers]
count = 0
"""


def test_every_problem_is_told_at_once_with_its_line_and_the_way_out(problems: Problems) -> None:
    found = problems(EVERYTHING_WRONG)
    assert [(problem.line, problem.key) for problem in found] == [
        (1, "colour"),
        (3, "listen.upd"),
        (6, "listen.tcp[1]"),
        (7, "listen.tcp[2]"),
        (10, "upstream[0].url"),
        (11, "upstream[1]"),
        (14, "upstream[2].url"),
        (15, "upstream[2].method"),
        (17, "dnssec.mode"),
        (18, "dnssec.override_time"),
        (19, "dnssec.trust_anchors[0]"),
        (22, "policy.group[0].clients[0]"),
        (23, "policy.group[0].lists[0]"),
        (26, "policy.list[0].file"),
        (27, "policy.list[0].action"),
        (29, "workers.count"),
    ]
    nearest = {problem.key: problem.nearest for problem in found if problem.nearest}
    assert nearest == {
        "listen.upd": "udp",
        "upstream[2].method": "POST",
        "dnssec.mode": "validate",
        "policy.group[0].lists[0]": "ads",
        "policy.list[0].action": "nxdomain",
    }
    by_key = {problem.key: problem for problem in found}
    assert "log-only" in by_key["dnssec.mode"].allowed
    assert by_key["workers.count"].allowed == 'a whole number from 1 to 1024, or "auto"'
    assert "addresses" in by_key["upstream[2].url"].allowed
    assert str(found[1]).endswith("did you mean udp?")
    assert "dohproxy.toml:3: listen.upd: there is no such key" in str(found[1])


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("listen = 3", "listen", "no table"),
        ('[upstream]\nurl = "tls://192.0.2.1"', "upstream", "two brackets"),
        ("upstream = 3", "upstream", "no array"),
        ("[listen]\nudp = []", "listen", "no address"),
        ('[listen]\nudp = ["127.0.0.1:53", "127.0.0.1:53"]\ntcp = []', "listen.udp[1]", "twice"),
        ('[listen]\nudp = "127.0.0.1:53"', "listen.udp", "no array"),
        ("[listen]\nudp_payload_size = 100", "listen.udp_payload_size", "100 is not possible"),
        ("[cache]\nmin_ttl = 5\nmax_ttl = 4", "cache.min_ttl", "more than max_ttl"),
        ("[cache]\nsize = true", "cache.size", "true is not possible"),
        ("[cache]\nstale = 1", "cache.stale", "1 is not possible"),
        ('[access]\nallow = ["10.0.0.0/40"]', "access.allow[0]", "no IP network"),
        ("[dnssec]\nsignature_skew_min = 9\nsignature_skew_max = 8", "dnssec.signature_skew_min", "more than"),
        ("[dnssec]\noverride_time = 2026-01-01T00:00:00", "dnssec.override_time", "not possible"),
        ('[dnssec]\nrfc5011_state = "none/state"', "dnssec.rfc5011_state", "no directory"),
        ('[dnssec]\nrfc5011_state = "."', "dnssec.rfc5011_state", "is a directory"),
        ('[dnssec]\nnegative_trust_anchors = ["a..b"]', "dnssec.negative_trust_anchors[0].name", "empty label"),
        ("upstream = []", "upstream", "no upstream"),
        ('[[upstream]]\nurl = "tls://192.0.2.1"\nmethod = "GET"', "upstream[0].method", "means nothing"),
        ('[[upstream]]\nurl = "tls://192.0.2.1"\nca_file = "none.pem"', "upstream[0].ca_file", "No such file"),
        ('[[upstream]]\nurl = "tls://192.0.2.1"\nca_file = "dohproxy.toml"', "upstream[0].ca_file", "no certificate"),
        ('[[upstream]]\nurl = "tls://192.0.2.1"\ntls_name = "a..b"', "upstream[0].tls_name", "empty label"),
        ('upstream = ["tls://192.0.2.1", "tls://192.0.2.1"]', "upstream[1].url", "second upstream"),
        ('[[upstream]]\nurl = "tls://192.0.2.1"\naddresses = ["x"]', "upstream[0].addresses[0]", "no IP address"),
        ('[[zone]]\nname = "a"\nupstream = ["udp://10.0.0.1"]', "zone[0].upstream[0].url", "plaintext = true in its"),
        ('[[zone]]\nname = "a"\nupstream = []', "zone[0].upstream", "no upstream"),
        ('[[zone]]\nname = "a"\nplaintext = true\nupstream = ["udp://ns.a"]', "zone[0].upstream[0].url", "is a name"),
        (
            '[[zone]]\nname = "a"\nplaintext = true\nupstream = [{ url = "udp://10.0.0.1", tls_name = "a" }]',
            "zone[0].upstream[0].tls_name",
            "means nothing",
        ),
        ('[local]\nhosts = ["none"]', "local.hosts[0]", "No such file"),
        ('[local]\nrecords = ["x A 1"]', "local.records[0]", "A record"),
        ('[[policy.group]]\nname = ""', "policy.group[0].name", "empty"),
        ('[[policy.group]]\nname = "a"\n[[policy.group]]\nname = "a"', "policy.group[1].name", "second group"),
        ('[[policy.group]]\nname = "default"\nclients = ["10.0.0.0/8"]', "policy.group[0].clients", "everyone else"),
        ('[[policy.group]]\nname = "a"\nallow = ["x.*.y"]', "policy.group[0].allow[0]", "asterisk"),
        ('[[policy.group]]\nname = "a"\ndeny_action = "sinkhole"', "policy.group[0].sinkhole", "needs addresses"),
        ('[[policy.group]]\nname = "a"\nsinkhole = ["10.0.0.1"]', "policy.group[0].sinkhole", "means nothing"),
        (
            '[[policy.group]]\nname = "a"\nclients = ["10.0.0.0/8"]\n[[policy.group]]\nname = "b"\nclients = ["10.0.0.0/8"]',
            "policy.group[1].clients[0]",
            'belongs to the group "a"',
        ),
    ],
)
def test_one_problem(text: str, key: str, words: str, problems: Problems) -> None:
    found = problems(text)
    if "[[zone]]" in text:
        found = [problem for problem in found if problem.key != "upstream"]
    assert [problem.key for problem in found] == [key]
    assert words in found[0].message


def test_a_plain_upstream_outside_a_zone_is_refused_with_the_reason(problems: Problems) -> None:
    (problem,) = problems('upstream = ["tcp://192.0.2.1"]')
    assert "in clear" in problem.message
    assert "[[zone]] with plaintext = true" in problem.message


def test_a_zone_may_not_be_there_twice(problems: Problems) -> None:
    text = 'upstream = ["tls://192.0.2.1"]\n' + '[[zone]]\nname = "a"\nupstream = ["tls://192.0.2.1"]\n' * 2
    assert [(problem.line, problem.key) for problem in problems(text)] == [(6, "zone[1].name")]


def test_an_anchor_of_another_zone_is_out_of_place(problems: Problems) -> None:
    digest = "AA" * 32
    zone = '[[zone]]\nname = "a.b"\nupstream = ["tls://192.0.2.1"]\n'
    text = f'upstream = ["tls://192.0.2.1"]\n{zone}trust_anchors = ["b. DS 1 13 2 {digest}"]'
    assert [(problem.line, problem.key) for problem in problems(text)] == [(5, "zone[0].trust_anchors[0]")]


def test_a_file_that_cannot_be_read(problems: Problems, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    found = problems('[[policy.list]]\nname = "a"\nfile = "directory"')
    assert [problem.key for problem in found] == ["policy.list[0].file"]


ZONE = 'upstream = ["tls://192.0.2.1"]\n[[zone]]\nname = "cluster.local"\nupstream = ["tls://192.0.2.1"]\n'


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (ZONE, "zone[0]", "not in the public DNS"),
        ('[dnssec]\nroot_anchors = "none"', "dnssec.root_anchors", "no trust anchor at all"),
        ("[dnssec]\noverride_time = 2026-01-01T00:00:00Z", "dnssec.override_time", "for tests"),
        ('[[policy.group]]\nname = "a"', "policy.group[0]", "no clients"),
        ('[listen]\nudp = ["0.0.0.0:53"]\n[access]\nallow = ["0.0.0.0/0"]', "access.allow[0]", "open resolver"),
    ],
)
def test_warnings(text: str, key: str, words: str, loaded: Load) -> None:
    (warning,) = loaded(text).warnings
    assert warning.key == key
    assert warning.line > 0
    assert words in warning.message


def test_an_unused_list_is_warned_of(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "ads").write_text("")
    unused = '[[policy.list]]\nname = "ads"\nfile = "ads"\n[[policy.group]]\nname = "default"\nlists = []'
    assert [warning.key for warning in loaded(unused).warnings] == ["policy.list[0]"]
    assert loaded('[[policy.list]]\nname = "ads"\nfile = "ads"').warnings == ()


@pytest.mark.parametrize(
    "text",
    [
        ZONE + 'dnssec = "off"',
        ZONE.replace("cluster.local", "corp.com"),
        ZONE + '[dnssec]\nnegative_trust_anchors = ["local"]',
        ZONE + '[dnssec]\nmode = "log-only"',
        '[dnssec]\nroot_anchors = "none"\nmode = "off"',
        '[listen]\nudp = ["127.0.0.1:53"]\n[access]\nallow = ["0.0.0.0/0"]',
    ],
)
def test_no_warnings(text: str, loaded: Load) -> None:
    assert loaded(text).warnings == ()
