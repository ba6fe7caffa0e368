from __future__ import annotations

from pathlib import Path

import dns.rdata
import pytest
from stages import Canned

from dohproxy.config import settings
from dohproxy.config.load import parse
from dohproxy.config.settings import Ddr, Endpoint, Listen, LocalRecord
from dohproxy.errors import ConfigError
from dohproxy.model import INTERNAL, Answer, Query, Question
from dohproxy.resolve.designations import RESOLVER, designations
from dohproxy.resolve.local import Local
from dohproxy.wire import names

NAME = names.from_text("dns.example")
LISTEN = Listen(
    dot=(Endpoint("192.0.2.1", 853), Endpoint("2001:db8::1", 853)),
    doh=(Endpoint("0.0.0.0", 443), Endpoint("192.0.2.1", 8443)),
    doh3=(Endpoint("::", 443),),
    doq=(Endpoint("192.0.2.1", 0),),
)


def texts(records: tuple[LocalRecord, ...], owner: bytes = RESOLVER) -> list[str]:
    return [dns.rdata.from_wire(1, 64, one.rdata, 0, len(one.rdata)).to_text() for one in records if one.owner == owner]


def test_a_record_for_each_kind_and_port_the_preferred_first() -> None:
    records = designations(Ddr(NAME), LISTEN)
    assert texts(records) == [
        '1 dns.example. alpn="h3" port="443" dohpath="/dns-query{?dns}"',
        '2 dns.example. alpn="h2" port="443" dohpath="/dns-query{?dns}"',
        '3 dns.example. alpn="h2" port="8443" ipv4hint="192.0.2.1" dohpath="/dns-query{?dns}"',
        '4 dns.example. alpn="dot" port="853" ipv4hint="192.0.2.1" ipv6hint="2001:db8::1"',
    ]
    assert texts(records, names.from_text("_dns.dns.example")) == texts(records)


def test_addresses_and_order_as_told() -> None:
    ddr = Ddr(NAME, ("2001:db8::7", "192.0.2.7", "192.0.2.8"), ("dot",))
    [text] = texts(designations(ddr, LISTEN))
    assert text == '1 dns.example. alpn="dot" port="853" ipv4hint="192.0.2.7,192.0.2.8" ipv6hint="2001:db8::7"'


async def find(name: str, rdtype: int, *records: LocalRecord) -> tuple[Answer, int]:
    below = Canned()
    local = Local(below, settings.Local(records=records), lambda: 0.0)
    return await local.resolve(Query(Question(names.from_text(name), rdtype), INTERNAL, 5.0)), len(below.asked)


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "found"),
    [
        ("_dns.resolver.arpa", 64, 0, 4),
        ("_dns.resolver.arpa", 1, 0, 0),
        ("_DNS.Resolver.ARPA", 64, 0, 4),
        ("resolver.arpa", 64, 0, 0),
        ("_other.resolver.arpa", 64, 3, 0),
        ("x._dns.resolver.arpa", 64, 3, 0),
        ("_dns.dns.example", 64, 0, 4),
        ("_dns.dns.example", 16, 0, 0),
    ],
)
async def test_what_is_asked_for_designations_is_answered_here(name: str, rdtype: int, rcode: int, found: int) -> None:
    answer, asked = await find(name, rdtype, *designations(Ddr(NAME), LISTEN))
    assert (answer.rcode, sum(len(rrset.rdatas) for rrset in answer.answer), asked) == (rcode, found, 0)


@pytest.mark.parametrize("name", ["_dns.resolver.arpa", "resolver.arpa"])
async def test_without_them_there_is_no_data(name: str) -> None:
    answer, asked = await find(name, 64)
    assert (answer.rcode, answer.answer, asked) == (0, (), 0)


def test_there_is_something_to_tell_of(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no listener of doh3, doq, doh, dot"):
        parse('upstream = ["tls://9.9.9.9"]\n[ddr]\nname = "dns.example"', "x.toml", tmp_path)
