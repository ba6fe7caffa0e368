"""Four validators over zones that two signers made: the proxy, unbound, Knot Resolver and delv find the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import dns.rcode
import pytest
from programs import free_ports, need
from real_peers import LISTEN, Proxy, Unbound, ask, certificates, dnssec, facts, nsd, upstream
from signed_zones import SignedZones, Zone
from validators import Kresd, delv, delv_anchor

RECORDS = """\
@ A 192.0.2.1
www A 192.0.2.2
*.wild A 192.0.2.3
deep.below A 192.0.2.4
local CNAME www
old DNAME wild
child NS ns.child
ns.child A 192.0.2.5
"""
ALGORITHMS = (
    "RSASHA1",
    "NSEC3RSASHA1",
    "RSASHA256",
    "RSASHA512",
    "ECDSAP256SHA256",
    "ECDSAP384SHA384",
    "ED25519",
    "ED448",
)
ITERATIONS = (0, 1, 10, 50, 51, 100, 150, 151, 500)
LIMIT_OF_ALL = 50
"""Iterations that every validator does (RFC 9276 3.2 leaves the choice to each)."""
BEYOND_ALL = 150
"""More than so many none does: the zone's negative answers are insecure to all of them."""

SIGNED_BY_BIND = tuple(
    Zone(f"{algorithm.lower()}-{kind}.peers.", algorithm, nsec3, RECORDS)
    for algorithm in ALGORITHMS
    for kind, nsec3 in (("nsec", ()), ("nsec3", ("-3", "-", "-H", "0")), ("optout", ("-3", "beef", "-H", "1", "-A")))
    if algorithm != "RSASHA1" or kind == "nsec"
)
SIGNED_BY_LDNS = tuple(
    Zone(f"i{count}.peers.", "ECDSAP256SHA256", ("-n", "-t", str(count), "-s", "abcd"), RECORDS, ldns=True)
    for count in ITERATIONS
)
OTHERS = (
    Zone(".", "ECDSAP256SHA256", records=""),
    Zone("peers.", "ECDSAP256SHA256", records=""),
    Zone("expired.peers.", "ECDSAP256SHA256", records=RECORDS, window=("-s", "20200101000000", "-e", "20200201000000")),
    Zone("wrongds.peers.", "ED25519", records=RECORDS, wrong_ds=True),
    Zone("plain.peers.", records=RECORDS),
)
ZONES = (*OTHERS, *SIGNED_BY_BIND, *SIGNED_BY_LDNS)
POSITIVE = [("www", "A"), ("local", "A"), ("", "SOA"), ("", "DNSKEY")]
NEGATIVE = [
    ("www", "MX"),
    ("below", "A"),
    ("no", "A"),
    ("no.deep.below", "A"),
    ("any.wild", "A"),
    ("any.wild", "MX"),
    ("x.old", "A"),
]

Judge = Callable[[str, str], str]


class Bench:
    """The four, by name: each tells `secure`, `insecure` or `bogus`, and whether there is no such name."""

    def __init__(self, proxy: Proxy, unbound: Unbound, kresd: Kresd, anchors: Path) -> None:
        self.judges: dict[str, Judge] = {
            "dohproxy": lambda name, rdtype: verdict(proxy.port, name, rdtype),
            "unbound": lambda name, rdtype: verdict(unbound.plain_port, name, rdtype),
            "kresd": lambda name, rdtype: verdict(kresd.port, name, rdtype),
            "delv": lambda name, rdtype: delv(proxy.port, anchors, name, rdtype),
        }

    def ask(self, name: str, rdtype: str) -> dict[str, str]:
        return {who: judge(name, rdtype) for who, judge in self.judges.items()}


def verdict(port: int, name: str, rdtype: str) -> str:
    rcode, authentic, _ = facts(ask(port, name, rdtype, do=True))
    found = "bogus" if rcode == "SERVFAIL" else "secure" if authentic else "insecure"
    return f"{found}, no such name" if rcode == dns.rcode.to_text(dns.rcode.NXDOMAIN) else found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    need("delv", "kresd", "unbound", "nsd")
    directory = tmp_path_factory.mktemp("validators")
    zones = SignedZones(directory, ZONES)
    ca_file, certificate = certificates(directory)
    (nsd_port,) = free_ports(1)
    resolver = Unbound(directory, "resolver", nsd_port, certificate=certificate, zones=ZONES)
    unbound = Unbound(directory, "judge", nsd_port, anchor=zones.anchor, zones=ZONES)
    kresd = Kresd(directory, resolver.dot_port, ca_file, zones.anchor)
    proxy = Proxy(
        directory, LISTEN + upstream(f"tls://127.0.0.1:{resolver.dot_port}", ca_file) + dnssec(zones.anchor), "validator"
    )
    with nsd(directory, zones, nsd_port), resolver, unbound, kresd, proxy:
        yield Bench(proxy, unbound, kresd, delv_anchor(zones.anchor, directory / "delv.conf"))


def at(zone: Zone, label: str) -> str:
    return f"{label}.{zone.origin}" if label else zone.origin


@pytest.mark.parametrize("zone", SIGNED_BY_BIND, ids=lambda zone: zone.origin)
def test_every_algorithm_with_every_kind_of_denial(bench: Bench, zone: Zone) -> None:
    for label, rdtype in POSITIVE + NEGATIVE:
        found = bench.ask(at(zone, label), rdtype)
        opted_out = "-A" in zone.nsec3 and (label, rdtype) in NEGATIVE and label not in ("www", "below")
        if opted_out:
            del found["delv"]  # it has no AD bit to leave clear (RFC 5155 9.2), and calls such proofs fully validated
        assert len(set(found.values())) == 1, (label, rdtype, found)
        assert found["dohproxy"].startswith("insecure" if opted_out else "secure"), (label, rdtype, found)


@pytest.mark.parametrize("zone", SIGNED_BY_LDNS, ids=lambda zone: zone.origin)
def test_nsec3_iterations(bench: Bench, zone: Zone) -> None:
    """RFC 9276 3.2: what needs more than one is ready to do is insecure, and nothing else is."""
    count = int(zone.nsec3[2])
    for label, rdtype in POSITIVE:
        assert set(bench.ask(at(zone, label), rdtype).values()) == {"secure"}, (label, rdtype)
    for label, rdtype in NEGATIVE:
        found = bench.ask(at(zone, label), rdtype)
        assert found["dohproxy"].startswith("secure" if count <= LIMIT_OF_ALL else "insecure"), (label, rdtype, found)
        assert len({told.partition(", ")[2] for told in found.values()}) == 1, (label, rdtype, found)
        if not LIMIT_OF_ALL < count <= BEYOND_ALL:
            assert len(set(found.values())) == 1, (label, rdtype, found)


@pytest.mark.parametrize("zone", OTHERS[2:], ids=lambda zone: zone.origin)
def test_zones_without_good_signatures(bench: Bench, zone: Zone) -> None:
    for label, rdtype in POSITIVE[:3] + NEGATIVE:
        found = bench.ask(at(zone, label), rdtype)
        assert len(set(found.values())) == 1, (label, rdtype, found)
        assert found["dohproxy"].startswith("bogus" if zone.algorithm else "insecure")


@pytest.mark.parametrize("zone", SIGNED_BY_BIND[::5], ids=lambda zone: zone.origin)
def test_an_unsigned_delegation_of_a_signed_zone(bench: Bench, zone: Zone) -> None:
    found = bench.ask(at(zone, "child"), "DS")
    assert found.pop("delv") == "secure"
    assert set(found.values()) == {"insecure" if "-A" in zone.nsec3 else "secure"}, found
