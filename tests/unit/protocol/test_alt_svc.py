from __future__ import annotations

import pytest

from dohproxy.protocol.alt_svc import Alternative, http3_at, http3_untrusted


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (b'h3=":443"', Alternative(443, 86400.0)),
        (b'h3=":8443"; ma=60', Alternative(8443, 60.0)),
        (b'h3=":8443";ma=60;persist=1', Alternative(8443, 60.0)),
        (b'h2=":443", h3-29=":444", h3=":445"; ma=3600', Alternative(445, 3600.0)),
        (b'h3="DNS.test:443"', Alternative(443, 86400.0)),
        (b'h3="other.test:443", h3=":444"', Alternative(444, 86400.0)),
        (b'h3="other.test:443"', None),
        (b'h3=":443"; ma=0', None),
        (b'h3=":0"', None),
        (b'h3=":70000"', None),
        (b"clear", None),
        (b"", None),
        (b"\xff\xfe=", None),
        (b'h3=":443', None),
    ],
)
def test_http3_of_the_same_host(value: bytes, found: Alternative | None) -> None:
    assert http3_untrusted(value, "dns.test") == found


def test_what_is_told_is_understood() -> None:
    assert http3_at(8443) == b'h3=":8443"; ma=86400'
    assert http3_untrusted(http3_at(8443), "dns.test") == Alternative(8443, 86400.0)
