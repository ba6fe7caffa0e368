from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dohproxy.cli.main import main
from dohproxy.lab.certificates import Authority, Validity

UPSTREAM = '[[upstream]]\nurl = "tls://192.0.2.1"\n'
TOLD = "upstream tls://192.0.2.1: at 192.0.2.1, port 853\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def check(path: Path) -> Result:
    return CliRunner().invoke(main, ["check", str(path)])


def test_a_good_file(tmp_path: Path) -> None:
    path = tmp_path / "good.toml"
    path.write_text(UPSTREAM)
    result = check(path)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{TOLD}{path}: good\n", "")


def test_every_problem_is_told_with_its_hints(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text('[listen]\nupd = []\n[dnssec]\nmode = "validated"\n' + UPSTREAM)
    result = check(path)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == f"{path}:2: listen.upd: there is no such key"
    assert lines[1].startswith("    allowed: udp, tcp, ")
    assert lines[2] == "    did you mean udp?"
    assert lines[3] == f'{path}:4: dnssec.mode: "validated" is not possible'
    assert lines[-1] == f"{path}: 2 problems"


def test_warnings_do_not_fail(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text(UPSTREAM + '[[policy.group]]\nname = "a"\n')
    result = check(path)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{path}:3: policy.group[0]: warning: ")
    assert result.stdout == f"{TOLD}{path}: good, with 1 warning\n"


def test_lines_of_lists_that_cannot_be_read_are_warned_of(tmp_path: Path) -> None:
    path, names = tmp_path / "lists.toml", tmp_path / "names"
    names.write_text("ads.example\nthis line says nothing = ( at all\n")
    path.write_text(UPSTREAM + '[[policy.list]]\nname = "a"\nfile = "names"\n')
    result = check(path)
    assert result.exit_code == 0
    assert result.stderr.startswith(f'{names}:2: policy.list "a": warning: ')


LISTENING = '[listen]\ndot = ["127.0.0.1:8853"]\n[tls]\ncertificate = "{0}.pem"\nkey = "{1}.key"\n' + UPSTREAM


def test_a_key_that_is_another_certificates(tmp_path: Path) -> None:
    for stem in ("one", "two"):
        Authority().server("dns.example").write(tmp_path, stem)
    path = tmp_path / "tls.toml"
    path.write_text(LISTENING.format("one", "two"))
    result = check(path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "one.pem and " in result.stderr and "the key is not the certificate's" in result.stderr


def test_a_certificate_that_is_over_is_warned_of(tmp_path: Path) -> None:
    over = Validity(datetime(2020, 1, 1, tzinfo=UTC), datetime(2021, 1, 1, tzinfo=UTC))
    for stem, validity in (("old", over), ("good", None)):
        Authority().server("dns.example", validity=validity).write(tmp_path, stem)
    path = tmp_path / "tls.toml"
    path.write_text(LISTENING.format("old", "old"))
    result = check(path)
    assert result.exit_code == 0
    assert "old.pem: tls.certificate: warning: it is valid from 2020-01-01T00:00:00Z until 2021-01-01" in result.stderr
    path.write_text(LISTENING.format("good", "good"))
    assert check(path).stderr == ""


def test_a_certificate_for_nobody_is_warned_of(tmp_path: Path) -> None:
    Authority().server("dns.example").write(tmp_path, "good")
    path = tmp_path / "tls.toml"
    path.write_text(LISTENING.format("good", "good").replace("dot", "udp"))
    assert "tls: warning: nobody is shown the certificate: [listen] has no dot, doh, doh3, doq" in check(path).stderr


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = check(tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "cannot be read: No such file" in result.stderr


def test_an_authority_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "ca.toml"
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
    path.write_text(UPSTREAM + 'ca_file = "ca.pem"\n')
    result = check(path)
    assert result.exit_code == 1
    assert f"{tmp_path / 'ca.pem'}: no certificates" in result.stderr
    assert result.stderr.endswith(f"{path}: 1 problem\n")


def test_how_the_addresses_of_upstreams_are_found(tmp_path: Path) -> None:
    path = tmp_path / "found.toml"
    path.write_text(
        UPSTREAM
        + '[[upstream]]\nname = "named"\nurl = "https://dns.example:444"\nbootstrap = "tls://192.0.2.1"\n'
        + '[[upstream]]\nname = "odoh"\nurl = "https://target.example"\nbootstrap = "system"\n'
        + 'relay = { url = "https://relay.example", addresses = ["192.0.2.7"] }\n'
        + '[[upstream]]\nurl = "ddr://192.0.2.53"\n'
        + '[[zone]]\nname = "corp.example"\nplaintext = true\nupstream = ["udp://192.0.2.53"]\ndnssec = "off"\n'
    )
    result = check(path)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        TOLD.strip(),
        "upstream named: upstream tls://192.0.2.1 is asked for the addresses of dns.example, port 444",
        "upstream odoh: through the relay relay.example: at 192.0.2.7, port 443",
        "    it is asked for its key: the system's resolver is asked for the addresses of target.example, port 443",
        "upstream ddr://192.0.2.53: whoever 192.0.2.53, port 53, designates and is verified",
        "upstream udp://192.0.2.53: at 192.0.2.53, port 53",
        f"{path}: good",
    ]


def test_a_key_of_a_target_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "odoh.toml"
    relay = 'relay = "https://192.0.2.7/"\nodoh_config = "AAAA"\n'
    path.write_text('[[upstream]]\nname = "odoh"\nurl = "https://target.example"\n' + relay)
    result = check(path)
    assert result.exit_code == 1
    assert "upstream odoh: odoh_config: ODoH: the keys are not as long as they say" in result.stderr
