from __future__ import annotations

import pytest

from dohproxy.config import urls


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "path"),
    [
        ("tls://9.9.9.9:853", "tls", "9.9.9.9", 853, ""),
        ("tls://9.9.9.9/", "tls", "9.9.9.9", 853, ""),
        ("tls://[2620:fe::fe]", "tls", "2620:fe::fe", 853, ""),
        ("https://DNS.google", "https", "dns.google", 443, "/dns-query"),
        ("https://dns.google/dns-query{?dns}", "https", "dns.google", 443, "/dns-query"),
        ("https://127.0.0.1:8443/x/y", "https", "127.0.0.1", 8443, "/x/y"),
        ("https://dns.google/q{?dns}", "https", "dns.google", 443, "/q"),
        ("h3://dns.google:8443{?dns}", "h3", "dns.google", 8443, "/dns-query"),
        ("https://dns.google/q?user=7{&dns}", "https", "dns.google", 443, "/q?user=7"),
        ("https://dns.google/q?user=7", "https", "dns.google", 443, "/q?user=7"),
        ("https://dns.google?a=b", "https", "dns.google", 443, "/dns-query?a=b"),
        ("https://B\u00fccher.example/%7Ea", "https", "xn--bcher-kva.example", 443, "/%7Ea"),
        ("udp://10.0.0.1", "udp", "10.0.0.1", 53, ""),
        ("tcp://10.0.0.1:54", "tcp", "10.0.0.1", 54, ""),
    ],
)
def test_urls(text: str, scheme: str, host: str, port: int, path: str) -> None:
    assert urls.url(text) == urls.Url(text, scheme, host, port, path)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("9.9.9.9", "no URL"),
        ("ftp://9.9.9.9", "scheme"),
        ("tls://9.9.9.9/path", "path"),
        ("https://user@host/", "user"),
        ("https://host/?dns=x", "query"),
        ("https://host/{+path}", "template"),
        ("https://host/{dns}", "template"),
        ("https://host/{?dns,x}", "template"),
        ("https://host/{?x}", "template"),
        ("https://host/{?dns}/x", "template"),
        ("https://host/x}", "template"),
        ("https://host/q{&dns}", "after a query"),
        ("https://host/q?a=b{?dns}", "after a query"),
        ("https://host/q?a=b&dns", "query"),
        ("https://host/a b", "percent-encoded"),
        ("https://host/ü", "percent-encoded"),
        ("https://host/%zz", "percent-encoded"),
        ("tls://host{?dns}", "path or query"),
        ("tls://host?a=b", "path or query"),
        ("https://host/#x", "fragment"),
        ("tls://a b", "no host"),
        ("tls://.", "no host"),
        ("tls://", "no host"),
        ("tls://host:99999", "no URL"),
        ("tls://host:0", "port 0"),
        ("tls://[::1", "no URL"),
        ("tls://a..b", "empty label"),
    ],
)
def test_no_urls(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        urls.url(text)


def test_a_stamp_is_where_it_says() -> None:
    text = "sdns://AgMAAAAAAAAABzkuOS45LjkgKhX11qy258CQGt5Ou8dDsszUiQMrRuFkLwaTaDABJYoSZG5zOS5xdWFkOS5uZXQ6NDQzCi9kbnMtcXVlcnk"
    digest = bytes.fromhex("2a15f5d6acb6e7c0901ade4ebbc743b2ccd489032b46e1642f0693683001258a")
    assert urls.url(text) == urls.Url(text, "https", "dns9.quad9.net", 443, "/dns-query", ("9.9.9.9",), (digest,))


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "addresses"),
    [
        ("sdns://AwcAAAAAAAAAAAAQZG5zLmZ1dHVyZWRucy5tZQ", "tls", "dns.futuredns.me", 853, ()),
        (
            "sdns://BAcAAAAAAAAADDk0LjE0MC4xNC40OQAfZmNmZmFmMTMuZC5hZGd1YXJkLWRucy5jb206ODg1Mw",
            "quic",
            None,
            8853,
            ("94.140.14.49",),
        ),
        ("sdns://AAEAAAAAAAAAFlsyMDAxOjQ4NjA6NDg2MDo6ODg4OF0", "udp", "2001:4860:4860::8888", 53, ("2001:4860:4860::8888",)),
    ],
)
def test_stamps(text: str, scheme: str, host: str | None, port: int, addresses: tuple[str, ...]) -> None:
    found = urls.url(text)
    assert (found.scheme, found.port, found.addresses, found.role) == (scheme, port, addresses, "")
    assert host in (None, found.host)


TARGET = "sdns://BQcAAAAAAAAAF29kb2guY2xvdWRmbGFyZS1kbnMuY29tCi9kbnMtcXVlcnk"
RELAY = "sdns://hQcAAAAAAAAADDg5LjM4LjEzMS4zOAAYb2RvaC1ubC5hbGVrYmVyZy5uZXQ6NDQzBi9wcm94eQ"


def test_targets_and_relays() -> None:
    assert urls.url(TARGET) == urls.Url(TARGET, "https", "odoh.cloudflare-dns.com", 443, "/dns-query", role="target")
    found = urls.relay(RELAY)
    assert (found.host, found.path, found.addresses) == ("odoh-nl.alekberg.net", "/proxy", ("89.38.131.38",))
    assert urls.relay("https://relay.example").path == "/"
    with pytest.raises(ValueError, match="belongs into relay"):
        urls.url(RELAY)
    for text in (TARGET, "tls://relay.example", "sdns://AwcAAAAAAAAAAAAQZG5zLmZ1dHVyZWRucy5tZQ"):
        with pytest.raises(ValueError, match="no relay"):
            urls.relay(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("sdns://AQcAAAAAAAAADjIxMi40Ny4yMjguMTM2", "DNSCrypt"),
        ("sdns://gRE1MS4xNTguMTY2Ljk3OjQ0Mw", "DNSCrypt"),
        ("sdns://AwcAAAAAAAAACzUuOS4xNjQuMTEyBQIPDwJWFmRuczMuZGlnaXRhbGNvdXJhZ2UuZGU", "certificate hash"),
        ("sdns://", "no protocol"),
        ("sdns://!", "base64url"),
        ("sdns://AwcAAAAAAAAAAAAA", "no host"),
    ],
)
def test_no_stamps(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        urls.url(text)


def test_whether_a_stamp_denies_dnssec() -> None:
    assert urls.url(TARGET).dnssec
    assert urls.url("sdns://AwcAAAAAAAAAAAAQZG5zLmZ1dHVyZWRucy5tZQ").dnssec
    assert not urls.url("sdns://AwAAAAAAAAAAAAAjZmFtaWx5LWZpbHRlci1kbnMuY2xlYW5icm93c2luZy5vcmc").dnssec
