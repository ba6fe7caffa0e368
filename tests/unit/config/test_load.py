from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from dohproxy.config.load import default, load
from dohproxy.config.settings import Endpoint, NegativeAnchor, Place, PolicyRule, Settings
from dohproxy.errors import ConfigError
from dohproxy.model import Action, Mode
from dohproxy.wire import names

Load = Callable[[str], Settings]
DIGEST = "49FD46E6C4B45C55D4AC" * 3 + "1234"


def test_the_default_listens_on_loopback_and_asks_encrypted_only() -> None:
    settings = default()
    assert settings.listen.udp == settings.listen.tcp == (Endpoint("127.0.0.1", 5300), Endpoint("::1", 5300))
    assert {upstream.scheme for upstream in settings.upstreams} == {"tls", "https"}
    assert len({upstream.tls_name for upstream in settings.upstreams}) >= 3
    assert all(upstream.addresses and upstream.tls_name for upstream in settings.upstreams)
    assert settings.dnssec.mode is Mode.VALIDATE
    assert settings.dnssec.root_anchors == "builtin"
    assert settings.file == ""
    assert settings.warnings == ()


def test_an_upstream_alone_is_a_configuration(loaded: Load) -> None:
    settings = loaded("")
    assert settings.listen == default().listen
    assert ip_network("10.0.0.0/8") in settings.access.allow
    assert ip_network("::1/128") in settings.access.allow
    assert settings.policy.groups[-1].name == "default"
    assert settings.file.endswith("dohproxy.toml")


def test_tcp_listens_where_udp_does(loaded: Load) -> None:
    assert loaded('[listen]\nudp = ["127.0.0.1:53"]').listen.tcp == (Endpoint("127.0.0.1", 53),)
    assert loaded('[listen]\ntcp = ["127.0.0.1:53"]').listen.udp == (Endpoint("127.0.0.1", 53),)
    assert loaded('[listen]\nudp = ["127.0.0.1:53"]\ntcp = []').listen.tcp == ()


def test_upstreams(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    one, two = loaded(
        """
        upstream = ["tls://9.9.9.9", {url = "https://dns.example:444/q", addresses = ["2001:DB8::1"], name = "two",
                    method = "GET", tls_name = "x.example", ca_file = "ca.pem", allow_tls12 = true}]
        """.replace("\n", " ")
    ).upstreams
    assert (one.name, one.scheme, one.port, one.tls_name) == ("tls://9.9.9.9", "tls", 853, "9.9.9.9")
    assert one.addresses == ("9.9.9.9",)
    assert (two.name, two.port, two.path, two.method) == ("two", 444, "/q", "GET")
    assert two.addresses == ("2001:db8::1",)
    assert two.tls_name == "x.example"
    assert two.ca_file == tmp_path / "ca.pem"
    assert two.allow_tls12


def test_dnssec(loaded: Load, tmp_path: Path) -> None:
    found = loaded(f"""
        [dnssec]
        mode = "require-secure"
        root_anchors = "none"
        trust_anchors = ["sec.zz. DS 1 13 2 {DIGEST}", ". IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4="]
        negative_trust_anchors = ["broken.example", {{ name = "old.example.", until = 2026-12-31T00:00:00Z, reason = "why" }}]
        override_time = 2026-01-01T01:00:00+01:00
        nsec3_max_iterations = 150
        rfc5011_state = "state"
        """).dnssec
    assert found.mode is Mode.REQUIRE_SECURE
    assert found.root_anchors == "none"
    assert [(anchor.zone, anchor.rdtype) for anchor in found.anchors] == [(b"\3sec\2zz\0", 43), (b"\0", 48)]
    assert found.negative_anchors == (
        NegativeAnchor(names.from_text("broken.example")),
        NegativeAnchor(names.from_text("old.example"), 1798675200, "why"),
    )
    assert found.override_time == 1767225600
    assert found.nsec3_max_iterations == 150
    assert found.rfc5011_state == tmp_path / "state"


def test_zones(loaded: Load) -> None:
    plain, own = loaded(f"""
        upstream = ["tls://192.0.2.1"]
        [[zone]]
        name = "cluster.local"
        upstream = ["udp://10.96.0.10", "tcp://10.96.0.10:54"]
        plaintext = true
        dnssec = "off"
        [[zone]]
        name = "corp.example."
        trust_anchors = ["corp.example. DS 1 13 2 {DIGEST}"]
        [[zone.upstream]]
        url = "tls://10.0.0.1"
        tls_name = "dns.corp.example"
        """).zones
    assert [(one.scheme, one.port, one.tls_name) for one in plain.upstreams] == [("udp", 53, ""), ("tcp", 54, "")]
    assert plain.mode is Mode.OFF
    assert own.name == names.from_text("corp.example")
    assert own.upstreams[0].tls_name == "dns.corp.example"
    assert own.mode is None
    assert own.anchors[0].rdtype == 43


def test_a_zone_for_the_root_needs_no_other_upstream(loaded: Load) -> None:
    settings = loaded('[[zone]]\nname = "."\nupstream = ["tls://192.0.2.1"]')
    assert settings.upstreams == ()


def test_policy(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "ads.txt").write_text("ads.example\n")
    policy = loaded("""
[[policy.list]]
name = "ads"
file = "ads.txt"
action = "block"
[[policy.list]]
name = "sink"
file = "ads.txt"
action = "sinkhole"
addresses = ["192.0.2.9"]
[[policy.group]]
name = "default"
lists = []
[[policy.group]]
name = "payments"
clients = ["10.1.0.0/16"]
default = "deny"
deny_action = "refused"
allow = [
  "*.bank.example",
  "ledger.example A",
]
lists = ["ads"]
dnssec = "require-secure"
deny_addresses = ["203.0.113.0/24"]
""").policy
    ads, sink = policy.lists
    assert (ads.action, ads.file) == (Action.NXDOMAIN, tmp_path / "ads.txt")
    assert (sink.action, sink.addresses) == (Action.SINKHOLE, ("192.0.2.9",))
    payments, last = policy.groups
    file = str(tmp_path / "dohproxy.toml")
    assert last.name == "default"
    assert last.lists == ()
    assert payments.clients == (ip_network("10.1.0.0/16"),)
    assert payments.default is payments.deny_action is Action.REFUSED
    assert payments.allow == (PolicyRule("*.bank.example", Place(file, 20)), PolicyRule("ledger.example A", Place(file, 21)))
    assert payments.lists == ("ads",)
    assert payments.mode is Mode.REQUIRE_SECURE
    assert payments.deny_addresses == (ip_network("203.0.113.0/24"),)
    assert payments.place == Place(file, 14)


def test_the_rest(loaded: Load, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("")
    settings = loaded("""
        [access]
        allow = ["192.0.2.0/24"]
        action = "drop"
        [forwarding]
        timeout = 3
        [cache]
        size = "1 MiB"
        stale = false
        [local]
        special_use_names = false
        hosts = ["hosts"]
        records = ["printer.lan. 300 IN A 192.168.1.9"]
        [log]
        format = "json"
        queries = true
        clients = "short"
        [workers]
        count = 2
        """)
    assert settings.access.allow == (ip_network("192.0.2.0/24"),)
    assert settings.access.drop
    assert settings.forwarding.timeout == 3.0
    assert settings.cache.size == 1 << 20
    assert not settings.cache.stale
    assert settings.local.hosts == (tmp_path / "hosts",)
    assert settings.local.records[0].ttl == 300
    assert settings.log.format == "json"
    assert settings.workers.count == 2


def test_windows_line_ends(loaded: Load) -> None:
    assert loaded('[log]\r\nlevel = "debug"\r\n').log.level == "debug"


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"[listen\n", 1, "no TOML"),
        (b"[listen]\nudp = [\n", 3, "no TOML"),
        (b"a = 1\nb = \n", 2, "no TOML"),
        (b"# ok\nx = '\xff'\n", 2, "no UTF-8"),
    ],
)
def test_no_toml(content: bytes, line: int, words: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load(path)
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [(str(path), line)]


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "missing.toml")


def test_only_a_written_group_has_rebinding_protection(loaded: Load) -> None:
    assert not loaded("").policy.groups[-1].rebinding
    assert loaded('[[policy.group]]\nname = "default"').policy.groups[-1].rebinding
    assert default().policy.groups[-1].rebinding
