"""Who we are to upstreams: what may be written of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dohproxy.config import own_keys
from dohproxy.config.settings import Settings
from dohproxy.errors import Problem
from dohproxy.lab.certificates import Authority

Loaded = Callable[[str], Settings]
Problems = Callable[[str], list[Problem]]
URI = "pkcs11:token=t;object=web?module-path=/lib/x.so"
SHOWN = 'client_certificate = "proxy.pem"\nclient_key = '


@pytest.fixture(autouse=True)
def pair(tmp_path: Path) -> None:
    Authority().client("proxy").write(tmp_path, "proxy")


def upstream(url: str, text: str) -> str:
    return f'[[upstream]]\nurl = "{url}"\n{text}\n'


def test_files(loaded: Loaded, tmp_path: Path) -> None:
    (found,) = loaded(upstream("tls://192.0.2.1", f'{SHOWN}"proxy.key"')).upstreams
    assert (found.client_certificate, found.client_key) == (tmp_path / "proxy.pem", str(tmp_path / "proxy.key"))


@pytest.mark.parametrize("scheme", ["h3", "quic"])
def test_a_key_in_an_hsm_for_quic(loaded: Loaded, scheme: str) -> None:
    (found,) = loaded(upstream(f"{scheme}://192.0.2.1", f'{SHOWN}"{URI}"')).upstreams
    assert found.client_key == URI


def test_a_key_in_an_hsm_is_refused_without_its_library(problems: Problems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_keys, "find_spec", lambda _: None)
    (problem,) = problems(upstream("quic://192.0.2.1", f'{SHOWN}"{URI}"'))
    assert (problem.key, problem.allowed) == ("upstream[0].client_key", "pip install 'dohproxy[hsm]'")


@pytest.mark.parametrize(
    ("url", "text", "key", "why"),
    [
        ("tls://192.0.2.1", f'{SHOWN}"{URI}"', "upstream[0].client_key", "signs for QUIC alone"),
        ("https://192.0.2.1", f'{SHOWN}"{URI}"', "upstream[0].client_key", "signs for QUIC alone"),
        ("quic://192.0.2.1", f'{SHOWN}"pkcs11:token=t"', "upstream[0].client_key", "names no key"),
        ("tls://192.0.2.1", 'client_key = "proxy.key"', "upstream[0]", "go together"),
        ("tls://192.0.2.1", "client_svid = true", "tls", "an SVID comes from the Workload API"),
    ],
)
def test_what_does_not_go_is_told(problems: Problems, url: str, text: str, key: str, why: str) -> None:
    (problem,) = problems(upstream(url, text))
    assert problem.key == key
    assert why in problem.message


def test_a_certificate_and_an_svid(problems: Problems) -> None:
    text = upstream("tls://192.0.2.1", f'{SHOWN}"proxy.key"\nclient_svid = true') + '[spiffe]\nsocket = "agent"\n'
    assert [problem.key for problem in problems(text)] == ["upstream[0].client_svid"]


@pytest.mark.parametrize("text", ['pins = ["sha256/' + "A" * 43 + '="]', "client_svid = true"])
def test_nothing_of_it_means_anything_in_clear(problems: Problems, text: str) -> None:
    zone = '[[zone]]\nname = "lan"\nplaintext = true\ndnssec = "off"\n[[zone.upstream]]\nurl = "udp://192.0.2.1"\n' + text
    found = problems('[[upstream]]\nurl = "tls://192.0.2.1"\n[spiffe]\nsocket = "agent"\n' + zone)
    assert [problem.message for problem in found] == ["this means nothing for udp://"]


def test_an_svid_of_a_zones_upstream_needs_the_workload_api(problems: Problems) -> None:
    zone = '[[zone]]\nname = "corp.example"\n[[zone.upstream]]\nurl = "tls://192.0.2.1"\nclient_svid = true\n'
    assert [problem.key for problem in problems('[[upstream]]\nurl = "tls://192.0.2.1"\n' + zone)] == ["tls"]


def test_a_key_log_is_warned_of(loaded: Loaded) -> None:
    (warning,) = loaded('[forwarding]\nkey_log = "keys"\n').warnings
    assert warning.key == "forwarding.key_log"
    assert "whoever reads this file" in warning.message


@pytest.mark.parametrize("text", ["/run/agent.sock", "unix:/run/agent.sock", "unix:///run/agent.sock"])
def test_the_socket_of_the_workload_api(loaded: Loaded, text: str) -> None:
    assert loaded(f'[spiffe]\nsocket = "{text}"\n').spiffe.socket == Path("/run/agent.sock")
