"""Zones signed by other people's tools: BIND's dnssec-keygen and dnssec-signzone, and those of ldns."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct
from programs import execute, need

LARGE = " ".join(f'"{number:03} {"lorem ipsum dolor sit amet " * 7}"' for number in range(20))
HUGE = "huge TXT " + " ".join(f'"{number:03}{"x" * 197}"' for number in range(100)) + "\n"
"""More than 16 KiB: more than a TLS record, a frame of HTTP/2 or a first flight of QUIC takes."""
USUAL = f"""\
@ A 192.0.2.1
www A 192.0.2.2
www AAAA 2001:db8::2
mail MX 10 www
*.wild A 192.0.2.3
*.wild TXT "from a wildcard"
deep.below.here A 192.0.2.4
local CNAME www
far CNAME www.p256.peers.
farther CNAME far.ed25519.peers.
nowhere CNAME nothing.p256.peers.
out CNAME www.insecure.peers.
lost CNAME www.expired.peers.
old DNAME new.p256.peers.
loop CNAME pool
pool CNAME loop
large TXT {LARGE}
_443._tcp.www TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
service HTTPS 1 . alpn="h2" ipv4hint=192.0.2.7
"""


class Zone(Struct, frozen=True):
    """One zone: how it is signed, and how it is broken afterwards."""

    origin: str
    algorithm: str = ""
    """As dnssec-keygen calls it; "" is an unsigned zone."""
    nsec3: tuple[str, ...] = ()
    """dnssec-signzone's options for NSEC3."""
    records: str = USUAL
    window: tuple[str, ...] = ("-s", "-3600", "-e", "+864000")
    ldns: bool = False
    wrong_ds: bool = False
    edits: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = ()
    """Regular expressions, and what to put in their place, in the signed zone with one record a line."""

    @property
    def parent(self) -> str:
        return self.origin.partition(".")[2] or "."


RRSIG = r"(?m)^{owner}\.broken\.peers\.\s.*\sRRSIG\s+{type}\s.*$\n"


def _flipped(signature: re.Match[str]) -> str:
    """It begins with another octet."""
    return f"{signature[1]}{'Y' if signature[2] == 'Z' else 'Z'}{signature[3]}"


ZONES = (
    Zone(".", "ECDSAP256SHA256", records=""),
    Zone("peers.", "RSASHA256", ("-3", "-", "-H", "0", "-A"), records="here A 192.0.2.9\n"),
    Zone("rsa.peers.", "RSASHA256"),
    Zone("rsa512.peers.", "RSASHA512", ("-3", "-", "-H", "0")),
    Zone("p256.peers.", "ECDSAP256SHA256", ("-3", "-", "-H", "0"), records=USUAL + HUGE + "www.new A 192.0.2.5\n"),
    Zone("p384.peers.", "ECDSAP384SHA384", ("-3", "beef", "-H", "20")),
    Zone("ed25519.peers.", "ED25519"),
    Zone("optout.peers.", "ECDSAP256SHA256", ("-3", "-", "-H", "0", "-A")),
    Zone("ldns.peers.", "ECDSAP256SHA256", ldns=True),
    Zone("ldns3.peers.", "RSASHA256", ("-n", "-t", "5", "-s", "abcd"), ldns=True),
    Zone("many.peers.", "ECDSAP256SHA256", ("-3", "-", "-H", "0"), records="$GENERATE 0-1999 n$ A 192.0.2.10\n"),
    Zone("insecure.peers."),
    Zone("child.rsa.peers."),
    Zone("child.p384.peers."),
    Zone("child.optout.peers."),
    Zone("secure.optout.peers.", "ED25519"),
    Zone("expired.peers.", "ECDSAP256SHA256", window=("-s", "20200101000000", "-e", "20200201000000")),
    Zone("future.peers.", "ECDSAP256SHA256", window=("-s", "+8640000", "-e", "+9640000")),
    Zone("wrongds.peers.", "ECDSAP256SHA256", wrong_ds=True),
    Zone(
        "broken.peers.",
        "ECDSAP256SHA256",
        records=USUAL + "unsigned A 192.0.2.8\nflipped A 192.0.2.8\nchanged A 192.0.2.8\n",
        edits=(
            (RRSIG.format(owner="unsigned", type="A"), ""),
            (r"(?m)^(flipped\.broken\.peers\.\s.*\sRRSIG\s+A\s.*\s)([A-Za-z0-9+/])(\S+)$", _flipped),
            (r"(?m)^(changed\.broken\.peers\..*\sA\s+)192\.0\.2\.8$", r"\g<1>203.0.113.66"),
            (RRSIG.format(owner="www", type="NSEC"), ""),
        ),
    ),
    Zone("nodenial.peers.", "ECDSAP256SHA256", edits=((r"(?m)^.*\s(RRSIG\s+)?NSEC\s.*$\n", ""),)),
)


class SignedZones:
    """The files of all `zones`, in `directory`, and the DS of the root."""

    def __init__(self, directory: Path, zones: tuple[Zone, ...] = ZONES) -> None:
        need("dnssec-keygen", "dnssec-signzone", "dnssec-dsfromkey", "ldns-keygen", "ldns-signzone")
        self.directory, self.zones = directory, zones
        self._ds: dict[str, str] = {}
        for zone in sorted(zones, key=lambda zone: -zone.origin.rstrip(".").count(".") - bool(zone.origin.strip("."))):
            self._make(zone)
        self.anchor = " ".join(self._ds["."].split())

    def file(self, origin: str) -> Path:
        return self.directory / f"{origin.rstrip('.') or 'root'}.zone"

    def _make(self, zone: Zone) -> None:
        unsigned = self.directory / f"{zone.origin.rstrip('.') or 'root'}.unsigned"
        unsigned.write_text(self._text(zone))
        if not zone.algorithm:
            self.file(zone.origin).write_text(unsigned.read_text())
            return
        keys = self.directory / f"keys-{zone.origin.rstrip('.') or 'root'}"
        keys.mkdir()
        (self._sign_with_ldns if zone.ldns else self._sign_with_bind)(zone, unsigned, keys)
        text = self.file(zone.origin).read_text()
        for pattern, replacement in zone.edits:
            text, count = re.subn(pattern, replacement, text)
            assert count, (zone.origin, pattern)
        self.file(zone.origin).write_text(text)

    def _text(self, zone: Zone) -> str:
        lines = [f"$ORIGIN {zone.origin}", "$TTL 300", "@ 3600 SOA ns hostmaster 1 3600 900 604800 300", "@ 3600 NS ns"]
        lines += ["ns A 127.0.0.1", zone.records]
        for child in self.zones:
            if child.parent == zone.origin and child.origin != ".":
                lines += [
                    f"{child.origin} NS ns.{child.origin}",
                    f"ns.{child.origin} A 127.0.0.1",
                    self._ds.get(child.origin, ""),
                ]
        return "\n".join(lines) + "\n"

    def _sign_with_bind(self, zone: Zone, unsigned: Path, keys: Path) -> None:
        size = ("-b", "2048") if zone.algorithm.startswith("RSA") else ()
        for flags in (("-f", "KSK"), ()):
            execute("dnssec-keygen", "-q", "-a", zone.algorithm, *size, *flags, zone.origin, cwd=keys)
        options = (*zone.window, *zone.nsec3, "-P", "-O", "full", "-f", self.file(zone.origin))
        execute("dnssec-signzone", "-q", "-S", "-K", keys, "-d", keys, "-o", zone.origin, *options, unsigned, cwd=keys)
        self._ds_from(zone, keys)

    def _sign_with_ldns(self, zone: Zone, unsigned: Path, keys: Path) -> None:
        size = ("-b", "2048") if zone.algorithm.startswith("RSA") else ()
        made = [execute("ldns-keygen", "-a", zone.algorithm, *size, *k, zone.origin, cwd=keys).strip() for k in (("-k",), ())]
        execute("ldns-signzone", *zone.nsec3, "-o", zone.origin, "-f", self.file(zone.origin), unsigned, *made, cwd=keys)
        self._ds_from(zone, keys)

    def _ds_from(self, zone: Zone, keys: Path) -> None:
        key = next(file for file in keys.glob("K*.key") if " 257 3 " in re.sub(r"\s+", " ", file.read_text()))
        ds = execute("dnssec-dsfromkey", "-2", key).strip()
        self._ds[zone.origin] = ds[:-4] + "0000" if zone.wrong_ds else ds
