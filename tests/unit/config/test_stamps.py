from __future__ import annotations

from base64 import urlsafe_b64encode
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from dohproxy.config.stamps import Properties, Protocol, Stamp, decode_stamp_untrusted
from dohproxy.errors import MalformedMessage

ANY = Properties(0)


def lp(value: str) -> bytes:
    return bytes((len(value.encode()),)) + value.encode()


def vlp(values: tuple[bytes, ...]) -> bytes:
    values = values or (b"",)
    marked = b"".join(bytes((0x80 | len(value),)) + value for value in values[:-1])
    return marked + bytes((len(values[-1]),)) + values[-1]


def address(stamp: Stamp) -> str:
    host = f"[{stamp.address}]" if ":" in stamp.address else stamp.address
    return host + (f":{stamp.port}" if stamp.port else "")


def encode(stamp: Stamp) -> str:
    """As the specification writes them."""
    octets = bytes((stamp.protocol,)) + int(stamp.properties).to_bytes(8, "little")
    if stamp.protocol is not Protocol.ODOH_TARGET:
        octets += lp(address(stamp))
    if stamp.protocol not in (Protocol.PLAIN, Protocol.ODOH_TARGET):
        octets += vlp(stamp.hashes)
    if stamp.protocol is not Protocol.PLAIN:
        port = f":{stamp.port}" if stamp.port and stamp.protocol is Protocol.ODOH_TARGET else ""
        octets += lp(stamp.host + port)
    if stamp.path:
        octets += lp(stamp.path)
    if stamp.bootstrap:
        octets += vlp(tuple(one.encode() for one in stamp.bootstrap))
    return "sdns://" + urlsafe_b64encode(octets).rstrip(b"=").decode()


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,8}){1,3}", fullmatch=True)
PATHS = st.from_regex(r"/[a-z0-9/_-]{0,40}", fullmatch=True)


@st.composite
def stamps(draw: st.DrawFn) -> Stamp:
    protocol = draw(st.sampled_from([one for one in Protocol if not one.name.startswith("DNSCRYPT")]))
    stamp = Stamp(protocol, Properties(draw(st.integers(0, 7))), port=draw(st.integers(0, 65535)))
    if protocol is not Protocol.ODOH_TARGET:
        stamp = replace(stamp, address=draw(ADDRESSES if protocol is Protocol.PLAIN else st.just("") | ADDRESSES))
    if protocol in (Protocol.DOH, Protocol.ODOH_TARGET, Protocol.ODOH_RELAY):
        stamp = replace(stamp, path=draw(PATHS))
    if protocol is not Protocol.PLAIN:
        stamp = replace(stamp, host=draw(HOSTS))
    if protocol not in (Protocol.PLAIN, Protocol.ODOH_TARGET):
        hashes = draw(st.lists(st.binary(min_size=32, max_size=32), max_size=4))
        stamp = replace(stamp, hashes=tuple(hashes), bootstrap=tuple(draw(st.lists(ADDRESSES, max_size=2))))
    return stamp


@given(stamps())
def test_what_is_written_is_read(stamp: Stamp) -> None:
    assert decode_stamp_untrusted(encode(stamp)) == stamp


@given(stamps(), st.data())
def test_a_stamp_cut_short_or_changed_is_read_or_refused(stamp: Stamp, data: st.DataObject) -> None:
    text = encode(stamp)
    at = data.draw(st.integers(7, len(text)))
    for one in (text[:at], text[:at] + data.draw(st.text(max_size=3)) + text[at + 1 :]):
        try:
            decode_stamp_untrusted(one)
        except MalformedMessage as error:
            assert str(error)


@given(st.binary(max_size=80))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        decode_stamp_untrusted("sdns://" + urlsafe_b64encode(octets).decode())
    except MalformedMessage as error:
        assert str(error)


def stamp_of(octets: bytes) -> str:
    return "sdns://" + urlsafe_b64encode(octets).rstrip(b"=").decode()


def test_a_stamp_written_by_hand() -> None:
    """DoT at 192.0.2.1:853 and two hashes, of which the first is marked as followed by another."""
    octets = b"\3" + b"\3" + bytes(7) + b"\x0d192.0.2.1:853"
    octets += b"\xa0" + b"a" * 32 + b"\x20" + b"b" * 32 + b"\x08dns.test" + b"\x09192.0.2.9"
    assert decode_stamp_untrusted(stamp_of(octets)) == Stamp(
        Protocol.DOT,
        Properties.DNSSEC | Properties.NO_LOG,
        "192.0.2.1",
        853,
        (b"a" * 32, b"b" * 32),
        "dns.test",
        bootstrap=("192.0.2.9",),
    )


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("dns.test", "dns.test", 0),
        ("dns.test:853", "dns.test", 853),
        ("192.0.2.1", "192.0.2.1", 0),
        ("192.0.2.1:853", "192.0.2.1", 853),
        ("2001:db8::1", "2001:db8::1", 0),
        ("[2001:db8::1]", "2001:db8::1", 0),
        ("[2001:db8::1]:853", "2001:db8::1", 853),
    ],
)
def test_the_port_of_a_host(written: str, host: str, port: int) -> None:
    found = decode_stamp_untrusted(stamp_of(b"\3" + bytes(8) + lp("") + vlp(()) + lp(written)))
    assert (found.host, found.port) == (host, port)


def test_a_port_without_an_address() -> None:
    found = decode_stamp_untrusted(stamp_of(b"\3" + bytes(8) + lp(":8853") + vlp(()) + lp("dns.test")))
    assert (found.address, found.port, found.host) == ("", 8853, "dns.test")


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"\x07" + bytes(8), "no protocol"),
        (b"\3" + bytes(7), "its properties"),
        (b"\3" + bytes(8), "too early"),
        (b"\3" + bytes(8) + b"\x09192.0", "within an element"),
        (b"\3" + bytes(8) + b"\3a b" + b"\0" + b"\1x", "no host or path"),
        (b"\3" + bytes(8) + b"\1\xff" + b"\0" + b"\1x", "UTF-8"),
        (b"\3" + bytes(8) + b"\3x.y" + b"\0" + b"\1x", "no address"),
        (b"\3" + bytes(8) + b"\2:0" + b"\0" + b"\1x", "no address|no port"),
        (b"\3" + bytes(8) + b"\0\5short\1x", "certificate hash"),
        (b"\3" + bytes(8) + lp(":853") + b"\0" + lp("x:854"), "two ports"),
        (b"\3" + bytes(8) + b"\0\0\1x" + b"\0" + b"more", "follows its end"),
    ],
)
def test_malformed(octets: bytes, why: str) -> None:
    with pytest.raises(MalformedMessage, match=why):
        decode_stamp_untrusted(stamp_of(octets))


def test_padding_and_other_alphabets() -> None:
    text = stamp_of(b"\0" + bytes(8) + lp(str(IPv4Address(1))))
    assert decode_stamp_untrusted(text + "==").address == "0.0.0.1"
    for other in ("sdns://AAEA+AAA", "sdns://AAEA/AAA", "sdns://AAEA AAA", "sdns://\u00e4"):
        with pytest.raises(MalformedMessage, match="base64url"):
            decode_stamp_untrusted(other)


def test_an_address_of_the_other_family() -> None:
    assert decode_stamp_untrusted(stamp_of(b"\0" + bytes(8) + lp("[2001:DB8::1]:54"))) == Stamp(
        Protocol.PLAIN, ANY, str(IPv6Address("2001:db8::1")), 54
    )
