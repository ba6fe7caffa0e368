from __future__ import annotations

from ipaddress import ip_network

import pytest

from dohproxy.config import texts
from dohproxy.config.settings import Endpoint, NamePattern
from dohproxy.model import Action
from dohproxy.wire import names


@pytest.mark.parametrize(
    ("text", "value"),
    [("127.0.0.1:53", Endpoint("127.0.0.1", 53)), ("[::1]:5300", Endpoint("::1", 5300)), ("0.0.0.0:0", Endpoint("0.0.0.0", 0))],
)
def test_endpoints(text: str, value: Endpoint) -> None:
    assert texts.endpoint(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("127.0.0.1", "port"),
        ("127.0.0.1:65536", "port"),
        ("::1:53", "brackets"),
        ("localhost:53", "no IP address"),
        ("[::1]", "port"),
        ("127.0.0.1:x", "port"),
    ],
)
def test_no_endpoints(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        texts.endpoint(text)


def test_networks() -> None:
    assert texts.network("10.1.0.0/16") == ip_network("10.1.0.0/16")
    assert texts.network("2001:db8::1") == ip_network("2001:db8::1/128")
    with pytest.raises(ValueError, match=r"the network is 10\.1\.0\.0/16"):
        texts.network("10.1.2.3/16")
    with pytest.raises(ValueError, match="no IP network"):
        texts.network("10.1.0.0/33")


@pytest.mark.parametrize(
    ("size", "octets"), [(7, 7), ("128 MiB", 128 << 20), ("1G", 1 << 30), ("64kb", 64 << 10), ("2 KiB", 2048)]
)
def test_sizes(size: int | str, octets: int) -> None:
    assert texts.octets(size) == octets


@pytest.mark.parametrize("size", [-1, "128", "much", "1.5 MiB", "-1 KiB"])
def test_no_sizes(size: int | str) -> None:
    with pytest.raises(ValueError, match=r"negative|no size"):
        texts.octets(size)


def test_block_is_nxdomain() -> None:
    assert texts.action("block") is Action.NXDOMAIN
    assert texts.action("drop") is Action.DROP


@pytest.mark.parametrize(
    "text", ["example.com", "*.example.com.", "example.com TXT", "*.x TYPE65,A", "*", ".example.com", ".", "bücher.example"]
)
def test_rules(text: str) -> None:
    assert texts.rule(text) == text


@pytest.mark.parametrize("text", ["", "a b c", "*x", "example.com NOTYPE", "a.*.example", "*x.example", "a..b"])
def test_no_rules(text: str) -> None:
    with pytest.raises(ValueError, match=r"rule|type|label|asterisk"):
        texts.rule(text)


def test_records() -> None:
    found = texts.record("Printer.lan. 300 IN A 192.168.1.9")
    assert (found.owner, found.rdtype, found.ttl, found.rdata) == (
        names.from_text("printer.lan"),
        1,
        300,
        bytes([192, 168, 1, 9]),
    )
    assert texts.record("printer.lan IN 60 A 192.168.1.9").ttl == 60
    assert texts.record("printer.lan A 192.168.1.9").ttl == texts.LOCAL_TTL
    assert texts.record('x.lan TXT "a  b" c').rdata == b"\x04a  b\x01c"
    assert texts.record("x.lan. MX 10 mail").rdata == b"\x00\x0a\x04mail\x00"


@pytest.mark.parametrize(
    "text",
    ["x.lan", "x.lan A", "x.lan A 1.2.3", "x.lan 5 IN", "x.lan CH A 1.2.3.4", "x.lan ANY x", "x.lan 2147483648 A 1.2.3.4"],
)
def test_no_records(text: str) -> None:
    with pytest.raises(ValueError, match=r"record|type|TTL"):
        texts.record(text)


DIGEST = "49FD46E6C4B45C55D4AC" * 3 + "1234"


@pytest.mark.parametrize("text", [f"sec.zz. DS 1 13 2 {DIGEST}", f"sec.zz IN DS 1 13 2 {DIGEST[:40]} {DIGEST[40:]}"])
def test_ds_anchors(text: str) -> None:
    anchor = texts.trust_anchor(text)
    assert anchor.zone == names.from_text("sec.zz.")
    assert anchor.rdata == b"\x00\x01\x0d\x02" + bytes.fromhex(DIGEST)


def test_dnskey_anchors() -> None:
    anchor = texts.trust_anchor(". 3600 IN DNSKEY 257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=")
    assert (anchor.zone, anchor.rdtype, anchor.rdata[:4]) == (b"\0", 48, b"\x01\x01\x03\x0f")


@pytest.mark.parametrize("text", ["x. A 1.2.3.4", f"x. DS 1 13 2 {DIGEST[2:]}", "x. DNSKEY 257 3 13 !!!", "x. DS"])
def test_no_anchors(text: str) -> None:
    with pytest.raises(ValueError, match="record"):
        texts.trust_anchor(text)


@pytest.mark.parametrize(
    ("text", "name", "itself", "below"),
    [
        ("Time.Example", "time.example.", True, False),
        ("*.pool.ntp.org.", "pool.ntp.org.", False, True),
        (".example", "example.", True, True),
    ],
)
def test_name_patterns(text: str, name: str, itself: bool, below: bool) -> None:
    assert texts.name_pattern(text) == NamePattern(names.from_text(name), itself, below)


@pytest.mark.parametrize("text", ["*", ".", "*.", "", "a.*.b", "*.*.b", "a..b"])
def test_no_name_patterns(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not one name|label"):
        texts.name_pattern(text)
