"""The example configurations of deploy/ are good, and say what their comments say."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dohproxy.cli.main import main
from dohproxy.config.load import load
from dohproxy.config.settings import Settings
from dohproxy.lab.certificates import Authority
from dohproxy.model import Action, Mode, Question
from dohproxy.policy.compiled import load_lists
from dohproxy.policy.engine import Engine
from dohproxy.policy.explain import explain
from dohproxy.wire import names
from dohproxy.wire.constants import SRV, A

DEPLOY = Path(__file__).parents[2] / "deploy"
EXAMPLES = ("laptop", "node", "gateway", "workloads")
FILES = {
    "malware.txt": "malware.example\n",
    "ads.txt": "||ads.example^\n",
    "adult.txt": "adult.example\n",
    "hosts": "192.168.1.7 nas.lan nas\n",
}
AUTHORITIES = ("corp-ca", "clients", "prod")
CERTIFICATES = {"server": ("dns.corp.example", "10.0.0.1"), "proxy": ("proxy.corp.example",)}
FILE_KEYS = ("file", "ca_file", "client_ca_file", "certificate", "key", "client_certificate", "client_key")
Example = Callable[[str], Path]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Example:
    """Puts an example beside the files that it names."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for stem in AUTHORITIES:
        Authority().write(tmp_path, stem)
    for stem, names_of_it in CERTIFICATES.items():
        Authority().server(*names_of_it).write(tmp_path, stem)
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)

    def put(name: str) -> Path:
        text = (DEPLOY / f"{name}.toml").read_text()
        assert 'rfc5011_state = "/var/lib/dohproxy/' in text
        (tmp_path / f"{name}.toml").write_text(text.replace("/var/lib/dohproxy", str(tmp_path)))
        return tmp_path / f"{name}.toml"

    return put


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_is_good_without_a_warning(name: str, example: Example) -> None:
    result = CliRunner().invoke(main, ["check", str(example(name))])
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.endswith(f"{name}.toml: good\n")


def files_named(value: Any) -> set[str]:
    if isinstance(value, dict):
        direct = {text for key in FILE_KEYS if isinstance(text := value.get(key), str) and not text.startswith("/")}
        hosts = value.get("hosts", [])
        return direct.union(hosts, *map(files_named, value.values()))
    return set().union(*map(files_named, value)) if isinstance(value, list) else set()


def test_no_file_is_made_in_vain() -> None:
    named = set().union(*(files_named(tomllib.loads((DEPLOY / f"{name}.toml").read_text())) for name in EXAMPLES))
    pairs = {f"{stem}.{kind}" for stem in CERTIFICATES for kind in ("pem", "key")}
    assert named == {*FILES, *pairs, *(f"{stem}.pem" for stem in AUTHORITIES)}


def decision(settings: Settings, qname: str, client: str, qtype: int = A, identity: str = "") -> tuple[str, Action]:
    engine = Engine(settings.policy, load_lists(settings.policy, None))
    told = explain(engine, Question(names.from_text(qname), qtype), client, identity)
    return told.group, told.action


@pytest.mark.parametrize("name", EXAMPLES)
def test_only_zones_are_asked_in_clear(name: str, example: Example) -> None:
    settings = load(example(name))
    assert {upstream.scheme for upstream in settings.upstreams} <= {"tls", "https", "quic", "h3"}
    assert settings.dnssec.mode is Mode.VALIDATE
    assert all(zone.mode is Mode.OFF for zone in settings.zones)


def test_the_node_has_least_privilege(example: Example) -> None:
    settings = load(example("node"))
    assert decision(settings, "api.bank.example", "10.1.0.9") == ("payments", Action.ALLOW)
    assert decision(settings, "www.example", "10.1.0.9") == ("payments", Action.REFUSED)
    assert decision(settings, "_x._tcp.db.svc.cluster.local", "10.1.0.9", SRV) == ("payments", Action.ALLOW)
    assert decision(settings, "db.svc.cluster.local", "10.1.0.9") == ("payments", Action.REFUSED)
    assert decision(settings, "db.prod.corp.example", "10.2.0.9") == ("build", Action.NXDOMAIN)
    assert decision(settings, "malware.example", "10.3.0.9") == ("default", Action.REFUSED)


def test_the_gateway_has_groups(example: Example) -> None:
    settings = load(example("gateway"))
    assert decision(settings, "chess.games.example", "192.168.10.5") == ("children", Action.NXDOMAIN)
    assert decision(settings, "school.games.example", "192.168.10.5") == ("children", Action.ALLOW)
    assert decision(settings, "adult.example", "192.168.10.5") == ("children", Action.SINKHOLE)
    assert decision(settings, "adult.example", "192.168.1.5") == ("default", Action.ALLOW)
    assert decision(settings, "x.ads.example", "192.168.1.5") == ("default", Action.NXDOMAIN)
    assert decision(settings, "x.ads.example", "192.168.20.5") == ("guests", Action.ALLOW)
    assert decision(settings, "printer.lan", "192.168.20.5") == ("guests", Action.NXDOMAIN)


def test_workloads_go_by_what_their_certificates_say(example: Example) -> None:
    settings = load(example("workloads"))
    assert all(getattr(settings.listen, key) for key in ("dot", "doh", "doh3", "doq"))
    assert [endpoint.address for endpoint in settings.listen.udp] == ["127.0.0.1"]
    pay, host, other = "spiffe://prod.example/ns/pay/sa/web", "dns:a.hosts.corp.example", "spiffe://prod.example/ns/shop/sa/web"
    for identity, group, bank, www in (
        (pay, "payments", Action.ALLOW, Action.REFUSED),
        (host, "hosts", Action.NXDOMAIN, Action.ALLOW),
        (other, "default", Action.NXDOMAIN, Action.ALLOW),
        ("", "default", Action.NXDOMAIN, Action.ALLOW),
    ):
        assert decision(settings, "api.bank.example", "10.1.0.9", identity=identity) == (group, bank)
        assert decision(settings, "www.example", "10.1.0.9", identity=identity) == (group, www)
