"""What zones the lab has: a root, a top-level domain, and below it one of each kind, sound and broken."""

from __future__ import annotations

from enum import Enum

import dns.name
import dns.rrset
import dns.zone
from dns.dnssectypes import Algorithm
from msgspec import Struct


class Spoil(Enum):
    """How the signature of one owner's records is made wrong."""

    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    FLIPPED = "a bit of the signature flipped"
    UNSIGNED = "no signature"


class Denial(Enum):
    """How a signed zone proves that something is not there (RFC 4034 4, RFC 5155); OMITTED has it but does not tell."""

    NSEC = "NSEC"
    NSEC3 = "NSEC3"
    OPT_OUT = "NSEC3 with opt-out"
    OMITTED = "NSEC, left out"


class Zone(Struct, frozen=True):
    """One zone: its records in master file form (RFC 1035 5), beside the SOA and NS that all have, and its signing."""

    origin: str
    algorithm: Algorithm | None
    """None is an unsigned zone, without DS in its parent."""
    denial: Denial = Denial.NSEC
    records: str = ""
    spoiled: dict[str, Spoil] = {}
    """By owner, relative to the origin."""
    wrong_ds: bool = False

    def rrsets(self) -> list[dns.rrset.RRset]:
        """All records as written, with absolute owners."""
        text = f"$TTL 300\n@ 3600 SOA ns hostmaster 1 3600 900 604800 300\n@ 3600 NS ns\nns A 192.0.2.53\n{self.records}"
        zone = dns.zone.from_text(text, self.origin, relativize=False)
        return [dns.rrset.from_rdata_list(name, rdatas.ttl, list(rdatas)) for name, rdatas in zone.iterate_rdatasets()]


SERVER_NAME = "resolver.lab"
"""The name that the certificates of the lab's servers are for, beside 127.0.0.1."""

PARAGRAPH = " ".join(f'"{number:03} {"lorem ipsum dolor sit amet " * 7}"' for number in range(20))
"""Character strings for a TXT record of some four thousand octets: more than UDP carries."""

ZONES = (
    Zone(".", Algorithm.ECDSAP256SHA256),
    Zone(
        "lab.",
        Algorithm.ECDSAP256SHA256,
        Denial.OPT_OUT,
        "ads A 192.0.2.66\ntracker.ads A 192.0.2.67\nrebind A 192.168.1.1\nrebind AAAA fd00::1\n",
    ),
    Zone(
        "rsa.lab.",
        Algorithm.RSASHA256,
        Denial.NSEC,
        '@ A 192.0.2.1\nwww A 192.0.2.2\nwww AAAA 2001:db8::2\nwww TXT "signed with RSA"\n*.wild A 192.0.2.3\n'
        "@ MX 10 mail\nmail A 192.0.2.4\nold DNAME new\nhost.new A 192.0.2.5\n",
    ),
    Zone(
        "ecdsa.lab.",
        Algorithm.ECDSAP256SHA256,
        Denial.NSEC3,
        "@ A 192.0.2.11\nwww A 192.0.2.12\nwww AAAA 2001:db8::12\n*.wild A 192.0.2.13\nalias CNAME www.ed25519.lab.\n"
        "far CNAME alias\nout CNAME www.insecure.lab.\nstray CNAME expired.bogus.lab.\ncloaked CNAME tracker.ads.lab.\n"
        "dangling CNAME nothing.rsa.lab.\ndeep.below.here A 192.0.2.14\n",
    ),
    Zone(
        "ed25519.lab.",
        Algorithm.ED25519,
        Denial.NSEC,
        f"@ A 192.0.2.21\nwww A 192.0.2.22\nwww AAAA 2001:db8::22\nlarge TXT {PARAGRAPH}\n",
    ),
    Zone("insecure.lab.", None, records='@ A 192.0.2.31\nwww A 192.0.2.32\n*.wild A 192.0.2.33\ntext TXT "unsigned"\n'),
    Zone("insecure.rsa.lab.", None, records="www A 192.0.2.34\n"),
    Zone("insecure.ecdsa.lab.", None, records="www A 192.0.2.35\n"),
    Zone(
        "bogus.lab.",
        Algorithm.ECDSAP256SHA256,
        Denial.NSEC,
        "good A 192.0.2.40\nexpired A 192.0.2.41\nnotyet A 192.0.2.42\nflipped A 192.0.2.43\nunsigned A 192.0.2.44\n",
        spoiled={
            "expired": Spoil.EXPIRED,
            "notyet": Spoil.NOT_YET_VALID,
            "flipped": Spoil.FLIPPED,
            "unsigned": Spoil.UNSIGNED,
        },
    ),
    Zone("wrongds.lab.", Algorithm.ECDSAP256SHA256, records="www A 192.0.2.45\n", wrong_ds=True),
    Zone("nodenial.lab.", Algorithm.ECDSAP256SHA256, Denial.OMITTED, "www A 192.0.2.46\n"),
)
