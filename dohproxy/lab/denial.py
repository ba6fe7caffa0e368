"""The chain of a zone's NSEC or NSEC3 records: who matches a name, who covers it (RFC 4035 5.4, RFC 5155 7.2)."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import dns.dnssec
import dns.name
import dns.rrset
from dns.dnssectypes import NSEC3Hash
from dns.name import Name
from dns.rdatatype import RdataType

TTL = 300


class Chain:
    """The existing names of a zone with their types, in canonical order or in that of their hashes.

    `types` has every name that the chain lists, empty non-terminals without types.
    """

    def __init__(self, origin: Name, types: dict[Name, set[RdataType]], *, hashed: bool, opt_out: bool) -> None:
        self.origin, self.hashed, self._opt_out = origin, hashed, opt_out
        listed = sorted((self._position(name), name) for name in types if hashed or types[name])
        self._positions = [position for position, _ in listed]
        self.records = [
            self._record(position, self._positions[(at + 1) % len(listed)], types[name])
            for at, (position, name) in enumerate(listed)
        ]

    def match(self, name: Name) -> dns.rrset.RRset | None:
        """The record at `name`, if there is one."""
        position = self._position(name)
        at = bisect_left(self._positions, position)
        return self.records[at] if self._positions[at : at + 1] == [position] else None

    def cover(self, name: Name) -> dns.rrset.RRset:
        """The record whose span `name` falls into."""
        return self.records[bisect_right(self._positions, self._position(name)) - 1]

    def deny(self, name: Name) -> list[dns.rrset.RRset]:
        """That `name` is not there: covered, or by the closest encloser proof (RFC 5155 7.2.1)."""
        if not self.hashed:
            return [self.cover(name)]
        next_closer, encloser = name, name.parent()
        while (matching := self.match(encloser)) is None:
            next_closer, encloser = encloser, encloser.parent()
        return [matching, self.cover(next_closer)]

    def _position(self, name: Name) -> Name:
        # A hash as the first label sorts as the hash itself does.
        if not self.hashed:
            return name.canonicalize()
        return dns.name.from_text(dns.dnssec.nsec3_hash(name, b"", 0, NSEC3Hash.SHA1).lower(), self.origin)

    def _record(self, owner: Name, following: Name, types: Iterable[RdataType]) -> dns.rrset.RRset:
        kinds = set(types)
        if not self.hashed:
            kinds |= {RdataType.NSEC, RdataType.RRSIG}
        elif kinds - {RdataType.NS}:
            kinds.add(RdataType.RRSIG)
        listed = " ".join(RdataType.to_text(kind) for kind in sorted(kinds))
        if not self.hashed:
            return dns.rrset.from_text(owner, TTL, "IN", "NSEC", f"{following} {listed}")
        text = f"1 {int(self._opt_out)} 0 - {following.labels[0].decode()} {listed}"
        return dns.rrset.from_text(owner, TTL, "IN", "NSEC3", text)
