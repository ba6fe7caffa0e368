from __future__ import annotations

from ipaddress import ip_network

import pytest

from dohproxy.config.settings import Endpoint, Listen
from dohproxy.listen.elsewhere import elsewhere


@pytest.mark.parametrize(
    ("address", "doh3", "told"),
    [
        ("192.0.2.1", (), b""),
        ("192.0.2.1", (("192.0.2.1", 443),), b'h3=":443"; ma=86400'),
        ("192.0.2.1", (("192.0.2.1", 8443), ("192.0.2.1", 443)), b'h3=":443"; ma=86400'),
        ("192.0.2.1", (("192.0.2.2", 443), ("192.0.2.1", 8443)), b'h3=":8443"; ma=86400'),
        ("192.0.2.1", (("0.0.0.0", 443),), b'h3=":443"; ma=86400'),
        ("192.0.2.1", (("::", 443), ("192.0.2.2", 443)), b""),
        ("2001:db8::1", (("0.0.0.0", 443),), b""),
        ("2001:db8::1", (("::", 443),), b'h3=":443"; ma=86400'),
        ("0.0.0.0", (("192.0.2.1", 443),), b""),  # clients may have come to another
        ("192.0.2.1", (("192.0.2.1", 0),), b""),
    ],
)
def test_http3_is_told_where_it_is(address: str, doh3: tuple[tuple[str, int], ...], told: bytes) -> None:
    listen = Listen(doh3=tuple(Endpoint(*one) for one in doh3))
    assert elsewhere(address, 443, listen) == told


def test_behind_a_balancer_ports_are_others() -> None:
    listen = Listen(doh3=(Endpoint("192.0.2.1", 443),), proxy_protocol=(ip_network("192.0.2.9/32"),))
    assert elsewhere("192.0.2.1", 443, listen) == b""
