from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from stages import Canned, answer, query, rrset

from dohproxy.config import settings
from dohproxy.errors import ConfigError
from dohproxy.model import Answer, Question, Security, Source
from dohproxy.resolve.local import Local
from dohproxy.wire import names
from dohproxy.wire.constants import CH, HINFO, NOERROR, NXDOMAIN, SOA, A

PUBLIC = answer("www.example. 60 A 192.0.2.1", security=Security.SECURE)
LOOPBACK6 = "1." + "0." * 31 + "ip6.arpa"


def record(line: str) -> settings.LocalRecord:
    found = rrset(line)
    return settings.LocalRecord(found.owner, found.rdtype, found.ttl, found.rdatas[0])


def local(
    canned: Canned, *records: str, hosts: tuple[Path, ...] = (), zones: tuple[str, ...] = (), special: bool = True
) -> Local:
    configured = settings.Local(special, hosts, tuple(map(record, records)))
    return Local(canned, configured, lambda: 7.0, tuple(map(names.from_text, zones)))


def told(found: Answer) -> tuple[int, list[Answer | str]]:
    return found.rcode, [names.to_text(one.owner) + f" {one.rdtype}" for one in found.answer]


async def test_other_names_go_below(canned: Canned) -> None:
    canned.on("www.example", PUBLIC)
    assert await local(canned, "nas.lan. 60 A 192.0.2.9").resolve(query("www.example")) is PUBLIC


@pytest.mark.parametrize("name", ["www.example", "nas.lan", "localhost"])
async def test_any_is_answered_minimally_where_that_will_do(canned: Canned, name: str) -> None:
    asked = replace(query(name, "ANY"), minimal=True)
    found = await local(canned, "nas.lan. 60 A 192.0.2.9").resolve(asked)
    assert [(one.rdtype, one.rdatas) for one in found.answer] == [(HINFO, (b"\x07RFC8482\0",))]
    assert canned.asked == []


@pytest.mark.parametrize(
    ("name", "qtype", "rcode"),
    [
        ("localhost", "MX", NOERROR),
        ("www.localhost", "TXT", NOERROR),
        ("invalid", "A", NXDOMAIN),
        ("www.invalid", "AAAA", NXDOMAIN),
        ("x.test", "A", NXDOMAIN),
        ("test", "DS", NXDOMAIN),
        ("x.onion", "A", NXDOMAIN),
        ("printer.local", "A", NXDOMAIN),
        ("x.alt", "A", NXDOMAIN),
        ("use-application-dns.net", "A", NXDOMAIN),
        ("home.arpa", "A", NOERROR),
        ("nas.home.arpa", "A", NXDOMAIN),
        ("nas.home.arpa", "DS", NXDOMAIN),
        ("10.in-addr.arpa", "PTR", NOERROR),
        ("4.3.2.10.in-addr.arpa", "PTR", NXDOMAIN),
        ("1.16.172.in-addr.arpa", "PTR", NXDOMAIN),
        ("1.31.172.in-addr.arpa", "PTR", NXDOMAIN),
        ("1.64.100.in-addr.arpa", "PTR", NXDOMAIN),
        ("1.127.100.in-addr.arpa", "PTR", NXDOMAIN),
        ("1.d.f.ip6.arpa", "PTR", NXDOMAIN),
        ("1.a.e.f.ip6.arpa", "PTR", NXDOMAIN),
        ("resolver.arpa", "SVCB", NOERROR),
        ("_dns.resolver.arpa", "SVCB", NOERROR),
        ("_dns.resolver.arpa", "A", NOERROR),
        ("x.resolver.arpa", "SVCB", NXDOMAIN),
    ],
)
async def test_special_names_are_answered_without_asking(canned: Canned, name: str, qtype: str, rcode: int) -> None:
    found = await local(canned).resolve(query(name, qtype))
    assert (found.rcode, found.answer, found.born) == (rcode, (), 7.0)
    assert (found.source, found.security) == (Source.LOCAL, Security.INSECURE)
    (soa,) = found.authority
    assert soa.rdtype == SOA and names.is_subdomain(names.from_text(name), soa.owner)


@pytest.mark.parametrize(
    ("name", "qtype", "expected"),
    [
        ("localhost", "A", "localhost. 10800 A 127.0.0.1"),
        ("a.b.localhost", "AAAA", "a.b.localhost. 10800 AAAA ::1"),
        ("1.0.0.127.in-addr.arpa", "PTR", "1.0.0.127.in-addr.arpa. 10800 PTR localhost."),
        (LOOPBACK6, "PTR", f"{LOOPBACK6}. 10800 PTR localhost."),
        ("10.in-addr.arpa", "NS", "10.in-addr.arpa. 10800 NS 10.in-addr.arpa."),
        ("10.in-addr.arpa", "SOA", "10.in-addr.arpa. 10800 SOA 10.in-addr.arpa. nobody.invalid. 1 3600 1200 604800 10800"),
    ],
)
async def test_special_names_have_some_records(canned: Canned, name: str, qtype: str, expected: str) -> None:
    found = await local(canned).resolve(query(name, qtype))
    assert found.answer == (rrset(expected),) and found.security is Security.INSECURE


@pytest.mark.parametrize(
    ("name", "qtype"),
    [
        ("example", "A"),
        ("www.example", "A"),
        ("1.15.172.in-addr.arpa", "PTR"),
        ("1.32.172.in-addr.arpa", "PTR"),
        ("1.63.100.in-addr.arpa", "PTR"),
        ("1.128.100.in-addr.arpa", "PTR"),
        ("ipv4only.arpa", "AAAA"),
        ("xlocalhost", "A"),
        ("local.example", "A"),
        ("home.arpa", "DS"),
        ("10.in-addr.arpa", "DS"),
    ],
)
async def test_ordinary_names_and_the_proof_of_insecure_delegations_are_asked_for(
    canned: Canned, name: str, qtype: str
) -> None:
    canned.on(name, PUBLIC, qtype)
    assert await local(canned).resolve(query(name, qtype)) is PUBLIC


def test_other_classes_are_not_local(canned: Canned) -> None:
    assert local(canned).find(Question(names.from_text("localhost"), A, CH)) is None


async def test_zones_of_the_operator_take_precedence(canned: Canned) -> None:
    stage = local(canned, zones=("1.10.in-addr.arpa", "local", "arpa"))
    for name in ("9.1.10.in-addr.arpa", "1.10.in-addr.arpa", "x.local", "local"):
        canned.on(name, PUBLIC)
        assert await stage.resolve(query(name)) is PUBLIC
    assert (await stage.resolve(query("9.2.10.in-addr.arpa"))).rcode == NXDOMAIN
    assert (await stage.resolve(query("x.home.arpa"))).rcode == NXDOMAIN


async def test_special_names_can_be_switched_off(canned: Canned) -> None:
    canned.on("x.test", PUBLIC)
    stage = local(canned, "nas.lan. 60 A 192.0.2.9", special=False)
    assert await stage.resolve(query("x.test")) is PUBLIC
    assert told(await stage.resolve(query("nas.lan"))) == (NOERROR, ["nas.lan. 1"])


async def test_records_are_answered_and_other_types_are_not_there(canned: Canned) -> None:
    stage = local(canned, "nas.lan. 300 A 192.168.1.9", "nas.lan. 200 A 192.168.1.10", 'nas.lan. 60 TXT "attic"')
    found = await stage.resolve(query("nas.lan"))
    assert found.answer == (rrset("nas.lan. 200 A 192.168.1.9 192.168.1.10"),)
    assert (found.source, found.security, found.born) == (Source.LOCAL, Security.INSECURE, 7.0)
    for qtype in ("AAAA", "DS", "HTTPS"):
        found = await stage.resolve(query("nas.lan", qtype))
        assert (found.rcode, found.answer, found.authority[0].rdtype) == (NOERROR, (), SOA)
    assert told(await stage.resolve(query("nas.lan", "ANY"))) == (NOERROR, ["nas.lan. 1", "nas.lan. 16"])


async def test_addresses_get_pointers_unless_one_is_written(canned: Canned) -> None:
    stage = local(
        canned,
        "nas.lan. 300 A 192.168.1.9",
        "six.lan. 300 AAAA 2001:db8::9",
        "pi.lan. 300 A 192.168.1.10",
        "10.1.168.192.in-addr.arpa. 60 PTR other.lan.",
    )
    found = await stage.resolve(query("9.1.168.192.in-addr.arpa", "PTR"))
    assert found.answer == (rrset("9.1.168.192.in-addr.arpa. 300 PTR nas.lan."),)
    found = await stage.resolve(query("10.1.168.192.in-addr.arpa", "PTR"))
    assert found.answer == (rrset("10.1.168.192.in-addr.arpa. 60 PTR other.lan."),)
    six = "9." + "0." * 23 + "8.b.d.0.1.0.0.2.ip6.arpa"
    assert (await stage.resolve(query(six, "PTR"))).answer == (rrset(f"{six}. 300 PTR six.lan."),)


async def test_local_names_within_special_zones(canned: Canned) -> None:
    stage = local(canned, "nas.attic.home.arpa. 300 A 192.168.1.9")
    assert told(await stage.resolve(query("nas.attic.home.arpa"))) == (NOERROR, ["nas.attic.home.arpa. 1"])
    assert (await stage.resolve(query("attic.home.arpa"))).rcode == NOERROR
    assert (await stage.resolve(query("cellar.home.arpa"))).rcode == NXDOMAIN


async def test_aliases_are_followed_within_local_names(canned: Canned) -> None:
    stage = local(canned, "a.lan. 60 CNAME b.lan.", "b.lan. 60 CNAME C.lan.", "c.lan. 60 A 192.168.1.9")
    assert told(await stage.resolve(query("a.lan"))) == (NOERROR, ["a.lan. 5", "b.lan. 5", "c.lan. 1"])
    assert told(await stage.resolve(query("a.lan", "CNAME"))) == (NOERROR, ["a.lan. 5"])
    found = await stage.resolve(query("a.lan", "MX"))
    assert told(found) == (NOERROR, ["a.lan. 5", "b.lan. 5"]) and found.authority[0].owner == names.from_text("c.lan")


async def test_a_loop_of_aliases_ends(canned: Canned) -> None:
    stage = local(canned, *(f"a{n}.lan. 60 CNAME a{(n + 1) % 20}.lan." for n in range(20)))
    assert len((await stage.resolve(query("a0.lan"))).answer) == 20


async def test_an_alias_out_of_local_names_is_asked_for(canned: Canned) -> None:
    canned.on("www.example", PUBLIC)
    found = await local(canned, "a.lan. 60 CNAME www.example.").resolve(query("a.lan"))
    assert told(found) == (NOERROR, ["a.lan. 5", "www.example. 1"])
    assert (found.security, found.source) == (Security.INSECURE, Source.UPSTREAM)


async def test_an_alias_of_a_special_name_asks_nobody(canned: Canned) -> None:
    stage = local(canned, "a.lan. 60 CNAME x.invalid.", "b.lan. 60 CNAME localhost.")
    assert told(await stage.resolve(query("a.lan"))) == (NXDOMAIN, ["a.lan. 5"])
    assert told(await stage.resolve(query("b.lan"))) == (NOERROR, ["b.lan. 5", "localhost. 1"])
    assert canned.asked == []


HOSTS = """
127.0.0.1 localhost
192.168.1.9  nas.lan nas   # the attic
192.168.1.10 nas.lan
2001:db8::9  nas.lan
fe80::1%lo0  localhost
"""


async def test_hosts_files_give_addresses_and_pointers(canned: Canned, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    stage = local(canned, hosts=(tmp_path / "hosts",))
    assert (await stage.resolve(query("nas.lan"))).answer == (rrset("nas.lan. 60 A 192.168.1.9 192.168.1.10"),)
    assert (await stage.resolve(query("nas"))).answer == (rrset("nas. 60 A 192.168.1.9"),)
    assert (await stage.resolve(query("nas.lan", "AAAA"))).answer == (rrset("nas.lan. 60 AAAA 2001:db8::9"),)
    found = await stage.resolve(query("9.1.168.192.in-addr.arpa", "PTR"))
    assert found.answer == (rrset("9.1.168.192.in-addr.arpa. 60 PTR nas.lan."),)


async def test_hosts_files_are_read_anew_by_a_new_stage(canned: Canned, tmp_path: Path) -> None:
    for address in ("192.168.1.9", "192.168.1.11"):
        (tmp_path / "hosts").write_text(f"{address} nas.lan\n")
        found = await local(canned, hosts=(tmp_path / "hosts",)).resolve(query("nas.lan"))
        assert found.answer == (rrset(f"nas.lan. 60 A {address}"),)


def test_a_bad_hosts_file_is_a_configuration_error(canned: Canned, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        local(canned, hosts=(tmp_path / "hosts",))
    (tmp_path / "hosts").write_text("192.168.1.9 nas\n192.168.1 nas\n192.168.1.9 a..b\n")
    with pytest.raises(ConfigError) as caught:
        local(canned, hosts=(tmp_path / "hosts",))
    assert [problem.line for problem in caught.value.problems] == [2, 3]
