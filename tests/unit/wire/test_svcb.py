from __future__ import annotations

import dns.rdata
import pytest
from dns.rdatatype import SVCB
from hypothesis import given
from hypothesis import strategies as st

from dohproxy.errors import MalformedMessage
from dohproxy.wire.names import from_text
from dohproxy.wire.svcb import Service, parse_service_untrusted


def rdata(text: str) -> bytes:
    """As dnspython writes it."""
    wire: bytes = dns.rdata.from_text("IN", SVCB, text).to_wire()
    return wire


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("0 dns.example.", Service(0, from_text("dns.example"))),
        ("1 .", Service(1, b"\0")),
        (
            '1 DNS.example. alpn="dot,h2" port=8443 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1 dohpath="/q{?dns}"',
            Service(
                1,
                from_text("dns.example"),
                ("dot", "h2"),
                8443,
                ("2001:db8::1", "192.0.2.1", "192.0.2.2"),
                "/q{?dns}",
            ),
        ),
        ("2 a. mandatory=alpn,port alpn=doq port=853", Service(2, from_text("a"), ("doq",), 853)),
        ("2 a. mandatory=alpn,key777 alpn=dot key777=x", Service(2, from_text("a"), ("dot",), unknown=(777,))),
        ("2 a. alpn=dot key777=x", Service(2, from_text("a"), ("dot",))),
        (r'2 a. alpn="\027[2J"', Service(2, from_text("a"), (r"\027[2J",))),
    ],
)
def test_services(text: str, service: Service) -> None:
    assert parse_service_untrusted(rdata(text)) == service


HEAD = b"\0\1\1a\0"


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"", "target"),
        (b"\0\1\1a", "target"),
        (HEAD + b"\0\1", "within a parameter"),
        (HEAD + b"\0\1\0\5\3dot", "within a parameter"),
        (HEAD + b"\0\3\0\2\0\x35" + b"\0\1\0\4\3dot", "order"),
        (HEAD + b"\0\3\0\2\0\x35" * 2, "order"),
        (HEAD + b"\0\0\0\0", "mandatory"),
        (HEAD + b"\0\0\0\1\0", "mandatory"),
        (HEAD + b"\0\0\0\2\0\1", "mandatory"),
        (HEAD + b"\0\0\0\2\0\0", "mandatory"),
        (HEAD + b"\0\0\0\4\0\1\0\1" + b"\0\1\0\4\3dot", "mandatory"),
        (HEAD + b"\0\1\0\0", "alpn"),
        (HEAD + b"\0\1\0\1\0", "alpn"),
        (HEAD + b"\0\1\0\2\3d", "alpn"),
        (HEAD + b"\0\3\0\1\1", "port"),
        (HEAD + b"\0\3\0\2\0\0", "port"),
        (HEAD + b"\0\4\0\3\1\2\3", "hint"),
        (HEAD + b"\0\6\0\0", "hint"),
        (HEAD + b"\0\7\0\2\xc3\x28", "UTF-8"),
        (HEAD + b"\0\7\0\2/\x1b", "no path"),
    ],
)
def test_malformed(octets: bytes, why: str) -> None:
    with pytest.raises(MalformedMessage, match=why):
        parse_service_untrusted(octets)


@given(st.binary(max_size=60))
def test_anything_is_read_or_refused(tail: bytes) -> None:
    for octets in (tail, HEAD + tail):
        try:
            parse_service_untrusted(octets)
        except MalformedMessage as error:
            assert str(error)
