from __future__ import annotations

import os
from pathlib import Path

import pytest

from dohproxy.upstream.network_resolvers import is_ours, network_resolvers

LEASES = """\
lease {
  interface "eth0";
  option domain-name-servers 198.51.100.9;
}
lease {
  interface "eth0";
  option routers 192.0.2.1;
  option domain-name-servers 192.0.2.1,192.0.2.2;
}
"""


def write(root: Path, path: str, text: str, age: float = 0.0) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    os.utime(file, (1e9 - age, 1e9 - age))


def told(root: Path, *ours: str) -> tuple[str, ...]:
    return network_resolvers(root, lambda address: address in ours)


def test_nobody_told(tmp_path: Path) -> None:
    assert told(tmp_path) == ()


def test_resolved_goes_before_resolv_conf(tmp_path: Path) -> None:
    write(tmp_path, "etc/resolv.conf", "nameserver 127.0.0.1\n")
    write(tmp_path, "run/systemd/resolve/resolv.conf", "# by resolved\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n")
    assert told(tmp_path) == ("192.0.2.1", "fe80::1%eth0")


def test_the_last_lease_of_the_latest_file_counts(tmp_path: Path) -> None:
    write(tmp_path, "var/lib/dhcp/dhclient.wlan0.leases", "option domain-name-servers 203.0.113.5;\n", age=9)
    write(tmp_path, "var/lib/dhcp/dhclient.eth0.leases", LEASES)
    assert told(tmp_path) == ("192.0.2.1", "192.0.2.2")


def test_we_are_not_the_networks(tmp_path: Path) -> None:
    write(tmp_path, "etc/resolv.conf", "nameserver 192.0.2.7\nnameserver 192.0.2.1\nnameserver 192.0.2.1\n")
    assert told(tmp_path, "192.0.2.7") == ("192.0.2.1",)


@pytest.mark.parametrize("text", ["nameserver\n", "nameserver nonsense\n", "option domain-name-servers ;\n", "\0\xff\n"])
def test_nonsense_tells_nothing(tmp_path: Path, text: str) -> None:
    write(tmp_path, "etc/resolv.conf", text)
    write(tmp_path, "var/lib/dhcp/dhclient.leases", text)
    assert told(tmp_path) == ()


def test_which_addresses_are_ours() -> None:
    assert is_ours("127.0.0.53") and is_ours("::1") and is_ours("127.0.0.1")
    assert not is_ours("192.0.2.1") and not is_ours("2001:db8::1")
