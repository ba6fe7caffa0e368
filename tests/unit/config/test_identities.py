from __future__ import annotations

from pathlib import Path

import pytest

from dohproxy.config.identities import check_identity, check_other_pattern, check_pattern, trust_domain_of
from dohproxy.config.load import parse
from dohproxy.errors import ConfigError
from dohproxy.lab.certificates import Authority
from dohproxy.wire import names

BEGIN = """upstream = ["tls://9.9.9.9"]
[listen]
dot = ["127.0.0.1:8853"]
[tls]
certificate = "server.pem"
key = "server.key"
client_auth = "request"
client_ca_file = "ca.pem"
"""
GROUP = '[[policy.group]]\nname = "pay"\n'


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    authority = Authority()
    authority.write(tmp_path)
    authority.server("dns.example").write(tmp_path, "server")
    return tmp_path


def problems(text: str, directory: Path) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "x.toml", directory)
    return [(problem.line, problem.key, problem.message + problem.allowed) for problem in caught.value.problems]


def warnings(text: str, directory: Path) -> list[str]:
    return [warning.message for warning in parse(text, "x.toml", directory).warnings]


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://prod.example/*",
        "spiffe://prod.example/ns/pay/*",
        "spiffe://prod.example/ns/pa*",
        "spiffe://prod.example/ns/.*",
        "spiffe://prod.example/ns/pay",
    ],
)
def test_patterns(text: str) -> None:
    assert check_pattern(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "spiffe://*",
        "spiffe://prod*",
        "spiffe://prod.example*",
        "spiffe://prod.example/*/web",
        "spiffe://prod.example/ns//*",
        "spiffe://prod.example/../*",
        "spiffe://prod.example/n s/*",
        "spiffe://PROD.example/*",
        "https://prod.example/*",
        "spiffe://prod.example",
        "",
    ],
)
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match='"'):
        check_pattern(text)


@pytest.mark.parametrize(
    ("text", "read"),
    [("dns:Web.Example.", "dns:web.example"), ("dns:*.Example", "dns:*.example"), ("subject:CN=Web", "subject:CN=Web")],
)
def test_other_patterns(text: str, read: str) -> None:
    assert check_other_pattern(text) == read


@pytest.mark.parametrize("text", ["web.example", "dns:", "dns:*", "dns:*.", "dns:a*.example", "subject:", "spiffe://a/b", ""])
def test_what_is_no_other_pattern(text: str) -> None:
    with pytest.raises(ValueError, match='"'):
        check_other_pattern(text)


def test_identities_as_a_certificate_has_them() -> None:
    assert trust_domain_of("spiffe://prod.example/web") == "prod.example"
    assert check_identity("spiffe://prod.example/web") == "spiffe://prod.example/web"
    assert check_identity("dns:Web.example") == "dns:web.example"
    for text in ("spiffe://prod.example/*", "10.1.2.3", "CN=web"):
        with pytest.raises(ValueError, match='"'):
            check_identity(text)


def test_a_pattern_that_is_none_is_told_with_its_line_and_what_may_stand_there(directory: Path) -> None:
    text = BEGIN + GROUP + 'spiffe = [\n"spiffe://prod.example/ok",\n"spiffe://Prod/x"]\nidentities = ["web"]'
    [first, second] = problems(text, directory)
    assert first[:2] == (13, "policy.group[0].spiffe[1]")
    assert "spiffe://prod.example/ns/pay/*" in first[2]
    assert second[:2] == (14, "policy.group[0].identities[0]")


def test_no_pattern_is_in_two_groups(directory: Path) -> None:
    one = 'spiffe = ["spiffe://a/b"]\nidentities = ["dns:A.example"]\n'
    text = BEGIN + GROUP + one + '[[policy.group]]\nname = "shop"\n' + one.replace("A.", "a.")
    assert [(line, key) for line, key, _ in problems(text, directory)] == [
        (15, "policy.group[1].spiffe[0]"),
        (16, "policy.group[1].identities[0]"),
    ]


def test_the_default_group_is_everyone_else(directory: Path) -> None:
    text = BEGIN + GROUP.replace("pay", "default") + 'spiffe = ["spiffe://a/b"]'
    assert "everyone else" in problems(text, directory)[0][2]


def test_a_groups_name_has_no_control_characters(directory: Path) -> None:
    assert "control" in problems(BEGIN + GROUP.replace("pay", "p\\u0000y"), directory)[0][2]


def test_a_trust_domain_is_one(directory: Path) -> None:
    text = BEGIN + 'trust_domains = [{name = "spiffe://prod.example", ca_file = "ca.pem"}]'
    assert problems(text, directory)[0][1] == "tls.trust_domains[0].name"


def test_a_group_of_identities_alone_is_no_doubt(directory: Path) -> None:
    text = BEGIN + GROUP + 'spiffe = ["spiffe://prod.example/*"]\nidentities = ["dns:*.example"]'
    assert warnings(text, directory) == []


def test_identities_that_nobody_attests_are_doubted(directory: Path) -> None:
    group = GROUP + 'spiffe = ["spiffe://prod.example/*"]'
    [message] = warnings(BEGIN.replace('"request"', '"none"') + group, directory)
    assert 'tls.client_auth = "none"' in message
    [message] = warnings('upstream = ["tls://9.9.9.9"]\n' + group, directory)
    assert "no encrypted listener" in message


def test_identities_that_nobody_vouches_for_are_doubted(directory: Path) -> None:
    domains = 'trust_domains = [{name = "prod.example", ca_file = "ca.pem"}]\n'
    begin = BEGIN.replace('client_ca_file = "ca.pem"\n', domains)
    group = GROUP + 'spiffe = ["spiffe://prod.example/*", "spiffe://other.example/x"]\nidentities = ["dns:web.example"]'
    found = warnings(begin + group, directory)
    assert [message.partition(":")[0].split(" for ")[1] for message in found] == ["dns", "spiffe"]
    assert "other.example" in found[1]
    assert (
        warnings(begin + '[spiffe]\nsocket = "agent.sock"\n' + GROUP + 'spiffe = ["spiffe://other.example/x"]', directory) == []
    )


def test_what_is_told_of_encrypted_listeners(directory: Path) -> None:
    ddr = parse(BEGIN + '[ddr]\nname = "DNS.example"\norder = ["dot"]', "x.toml", directory).ddr
    assert ddr is not None
    assert (ddr.name, ddr.addresses, ddr.order) == (names.from_text("dns.example"), (), ("dot",))
    assert parse(BEGIN, "x.toml", directory).ddr is None
    assert problems(BEGIN + '[ddr]\nname = "dns.example"\norder = ["doq"]', directory)[0][1] == "ddr"


def test_designations_that_nobody_would_believe_are_doubted(directory: Path) -> None:
    ddr = BEGIN + '[ddr]\nname = "dns.example"'
    assert ["IP address" in message for message in warnings(ddr, directory)] == [True]
    assert [
        "no certificate has the name other.example" in one for one in warnings(ddr.replace("dns.", "other."), directory)
    ] == [
        True,
        False,
    ]
    Authority().server("*.example", "192.0.2.1").write(directory, "server")
    assert warnings(ddr, directory) == []
