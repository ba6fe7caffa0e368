"""How findings are put in words: the EDE texts that name the record and the zone (RFC 8914)."""

from __future__ import annotations

from dohproxy.dnssec.signatures import Flaw
from dohproxy.errors import ResolveError
from dohproxy.model import Answer, Ede, Name
from dohproxy.wire import constants as c
from dohproxy.wire.names import to_text

NEGATIVE_ANCHOR = "negative trust anchor"
CLOCK_NOT_SET = "not validated: the clock is not synchronised yet"
"""What the EDE texts start with of answers that were let through unvalidated, as the configuration says."""

_TYPES = {
    c.A: "A",
    c.NS: "NS",
    c.CNAME: "CNAME",
    c.SOA: "SOA",
    c.PTR: "PTR",
    c.MX: "MX",
    c.TXT: "TXT",
    c.AAAA: "AAAA",
    c.SRV: "SRV",
    c.NAPTR: "NAPTR",
    c.DNAME: "DNAME",
    c.DS: "DS",
    c.SSHFP: "SSHFP",
    c.RRSIG: "RRSIG",
    c.NSEC: "NSEC",
    c.DNSKEY: "DNSKEY",
    c.NSEC3: "NSEC3",
    c.TLSA: "TLSA",
    c.SVCB: "SVCB",
    c.HTTPS: "HTTPS",
    c.CAA: "CAA",
    c.ANY: "ANY",
}


def record(name: Name, rdtype: int) -> str:
    """Such as `www.example. A`."""
    return f"{to_text(name)} {_TYPES.get(rdtype) or f'TYPE{rdtype}'}"


def of_flaw(name: Name, rdtype: int, zone: Name, flaw: Flaw) -> Ede:
    """Why an RRset of this zone does not hold."""
    return Ede(flaw.code, f"{record(name, rdtype)}: {flaw.text} (zone {to_text(zone)})")


def unsigned(name: Name, rdtype: int, zone: Name) -> Ede:
    """Data without a signature where the zone is signed."""
    return Ede(c.EDE_RRSIGS_MISSING, f"{record(name, rdtype)}: no RRSIG, but the zone {to_text(zone)} is signed")


def of_failed_fetch(name: Name, rdtype: int, outcome: Answer | ResolveError) -> tuple[Ede, ...]:
    """Why the chain cannot be followed: a question of ours was not answered."""
    if isinstance(outcome, ResolveError):
        return Ede(c.EDE_INDETERMINATE, f"{record(name, rdtype)} could not be fetched: {outcome}"), *outcome.edes
    return (Ede(c.EDE_INDETERMINATE, f"{record(name, rdtype)} could not be fetched: the answer was RCODE {outcome.rcode}"),)
