"""What NSEC records prove (RFC 4034 4, RFC 4035 5.4, RFC 6840 4, RFC 9824)."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from dohproxy.dnssec import bitmap as bits
from dohproxy.dnssec.proof import NOTHING_TO_READ, Proof, ProofKind
from dohproxy.dnssec.quick import is_subdomain, label_count
from dohproxy.errors import MalformedMessage
from dohproxy.model import Name, RRset
from dohproxy.wire import names
from dohproxy.wire.constants import ANY, DS, NS, NSEC, SOA
from dohproxy.wire.names import ROOT, is_below

RRSIG_LABELS = 3
"""Where the labels field stands in the RDATA of an RRSIG (RFC 4034 3.1)."""


SortKey = tuple[bytes, ...]
"""What `names.order` makes of a name: its labels from the right."""


class Nsec(Struct, frozen=True, gc=False):
    """One NSEC record.

    `owner` is the name that the record is about: of one that was expanded from a wildcard, the wildcard itself, for that
    is what was signed (RFC 4035 5.3.2). So it never speaks of the name it was expanded to.
    """

    owner: Name
    types: bytes
    rrset: RRset
    low: SortKey
    """The owner as canonical sort key."""
    high: SortKey | None
    """The next name likewise; None where the chain wraps around to the apex."""

    def covers(self, key: SortKey) -> bool:
        """Whether the name with this sort key falls between owner and next, and the zone may say so.

        The zone may not where the owner is a delegation or has a DNAME, and the name lies below it (RFC 6840 4.1).
        """
        if not self.low < key or (self.high is not None and not key < self.high):
            return False
        return key[: len(self.low)] != self.low or not bits.hides_below(self.types)

    def closest_encloser(self, name: Name, key: SortKey) -> Name:
        """Of a name that is covered: its longest ancestor that owner or next show to exist."""
        depth = max(_shared(key, self.low), _shared(key, self.high or ()))
        return name[len(name) - sum(map(len, key[:depth])) - depth - 1 :]

    def leads_below(self, key: SortKey) -> bool:
        """Whether the next name lies below the one with this sort key, which so exists (RFC 4592 2.2.2)."""
        return self.high is not None and len(self.high) > len(key) and self.high[: len(key)] == key


def _shared(one: SortKey, other: SortKey) -> int:
    """How many labels two names share from the right."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def signed_owner(rrset: RRset) -> Name | None:
    """The owner as signed: a wildcard, if the RRSIG counts fewer labels than the owner has (RFC 4035 5.3.2).

    None without a signature, or with one of more labels than the owner has (RFC 4035 5.3.1).
    """
    if not rrset.signatures or len(rrset.signatures[0]) <= RRSIG_LABELS:
        return None
    signed = rrset.signatures[0][RRSIG_LABELS]
    held = label_count(rrset.owner) - names.is_wildcard(rrset.owner)
    if signed == held:
        return rrset.owner
    return names.wildcard_of(names.last_labels(rrset.owner, signed)) if signed < held else None


def read(proofs: Iterable[RRset], zone: Name) -> list[Nsec]:
    """The NSEC records of `zone` among these; what makes no sense as such is passed over."""
    return [record for rrset in proofs if rrset.rdtype == NSEC for record in read_rrset(rrset, zone)]


def read_rrset(rrset: RRset, zone: Name) -> list[Nsec]:
    """The records of one NSEC RRset: one, but for a zone that is out of order."""
    owner = signed_owner(rrset)
    if owner is None or not is_subdomain(owner, zone):
        return []
    found = []
    for rdata in rrset.rdatas:
        try:
            found.append(_record_untrusted(rrset, owner, zone, rdata))
        except MalformedMessage:
            continue  # it proves nothing: the same as its not being there
    return found


def _record_untrusted(rrset: RRset, owner: Name, zone: Name, rdata: bytes) -> Nsec:
    """One record; raises MalformedMessage.

    The next name is of the zone, and comes after the owner or is the apex (RFC 4034 4.1.1): a record that says otherwise
    would deny names of other zones, or of all.
    """
    upto = _name_end_untrusted(rdata)
    after = rdata[:upto].lower()
    if not is_subdomain(after, zone):
        raise MalformedMessage("the next name of an NSEC record lies outside the zone")
    low, high = names.order(owner), None if after == zone else names.order(after)
    if high is not None and high <= low:
        raise MalformedMessage("the next name of an NSEC record does not follow its owner")
    return Nsec(owner, bits.read_untrusted(rdata, upto), rrset, low, high)


def _name_end_untrusted(rdata: bytes) -> int:
    at = 0
    while at < len(rdata) and 0 < rdata[at] < 64:
        at += rdata[at] + 1
    if at >= len(rdata) or rdata[at] or at >= names.MAX_LENGTH:
        raise MalformedMessage("the next name of an NSEC record is malformed")
    return at + 1


def prove_nonexistence(qname: Name, qtype: int, records: list[Nsec]) -> Proof:
    """NXDOMAIN, NODATA or WILDCARD_NODATA, whichever the records show; a compact denial is an NXDOMAIN (RFC 9824 3.1)."""
    nxdomain = prove_nxdomain(qname, records)
    if nxdomain.proven:
        return nxdomain
    nodata = prove_nodata(qname, qtype, records)
    return nodata if nodata.proven or _matching(qname, records) else nxdomain


def prove_nxdomain(qname: Name, records: list[Nsec]) -> Proof:
    """Name and wildcard are covered (RFC 4035 5.4); or a compact denial matches the name (RFC 9824 3.1).

    A covering record whose next name lies below `qname` shows an empty non-terminal, which exists (RFC 4035 5.4 by way of
    RFC 4592 2.2.2).
    """
    if not records:
        return NOTHING_TO_READ
    for record in records:
        if record.owner == qname and bits.says_nxname(record.types):
            return Proof(ProofKind.NXDOMAIN, "NSEC matches the name and says NXNAME", used=(record.rrset,))
    key = names.order(qname)
    cover = _covering(qname, key, records)
    if isinstance(cover, Proof):
        return cover
    encloser = cover.closest_encloser(qname, key)
    denied = _wildcard_denied(encloser, records)
    if isinstance(denied, Proof):
        return denied
    return Proof(
        ProofKind.NXDOMAIN, "NSEC covers the name and its wildcard", closest_encloser=encloser, used=_rrsets(cover, denied)
    )


def _covering(name: Name, key: SortKey, records: list[Nsec]) -> Nsec | Proof:
    """The record that shows that `name` does not exist, not even as an empty non-terminal; else what is wrong."""
    if any(record.owner == name for record in records):
        return Proof.none("an NSEC record matches the name: it exists")
    for record in records:
        if record.covers(key):
            if record.leads_below(key):
                return Proof.none("the name is an empty non-terminal: it exists")
            return record
    for record in records:
        if bits.hides_below(record.types) and is_below(name, record.owner):
            return Proof.none("NSEC of a delegation or DNAME above the name says nothing about it")
    return Proof.none("no NSEC record covers the name")


def _wildcard_denied(encloser: Name, records: list[Nsec]) -> Nsec | Proof:
    """The record that covers the wildcard below `encloser`, which has room for one where it has room for the name asked."""
    wildcard = names.wildcard_of(encloser)
    cover = _covering(wildcard, names.order(wildcard), records)
    if isinstance(cover, Proof):
        return Proof.none(f"the wildcard at the closest encloser {names.to_text(encloser)} is not denied")
    return cover


def prove_nodata(qname: Name, qtype: int, records: list[Nsec]) -> Proof:
    """A record matches the name or its wildcard and lacks the type, or shows an empty non-terminal (RFC 4035 5.4)."""
    if not records:
        return NOTHING_TO_READ
    complaint: Proof | None = None
    for record in _matching(qname, records):
        complaint = type_denied(record.owner, record.types, qtype)
        if complaint is None:
            return Proof(ProofKind.NODATA, "NSEC matches the name without the type", used=(record.rrset,))
    if complaint:
        return complaint
    key = names.order(qname)
    for record in records:
        if record.covers(key):
            return _nodata_of_covered(qname, qtype, record, records)
    return Proof.none("no NSEC record matches or covers the name")


def _matching(name: Name, records: list[Nsec]) -> list[Nsec]:
    return [record for record in records if record.owner == name]


def _nodata_of_covered(qname: Name, qtype: int, cover: Nsec, records: list[Nsec]) -> Proof:
    """NODATA of a name that has no NSEC of its own: it is an empty non-terminal, or a wildcard stands for it."""
    key = names.order(qname)
    if cover.leads_below(key):
        return Proof(ProofKind.NODATA, "NSEC shows an empty non-terminal", used=(cover.rrset,))
    encloser = cover.closest_encloser(qname, key)
    wildcard = names.wildcard_of(encloser)
    complaint = Proof.none("the name does not exist, and no NSEC record shows the wildcard without the type")
    for record in _matching(wildcard, records):
        trouble = type_denied(record.owner, record.types, qtype)
        if trouble is None:
            return Proof(
                ProofKind.WILDCARD_NODATA,
                "NSEC covers the name and matches its wildcard without the type",
                closest_encloser=encloser,
                used=_rrsets(cover, record),
            )
        complaint = trouble
    key = names.order(wildcard)
    for record in records:
        if record.covers(key) and record.leads_below(key):
            return Proof(
                ProofKind.WILDCARD_NODATA,
                "NSEC covers the name and shows its wildcard as an empty non-terminal",
                closest_encloser=encloser,
                used=_rrsets(cover, record),
            )
    return complaint


def type_denied(name: Name, types: bytes, qtype: int) -> Proof | None:
    """What keeps a record that matches `name` from denying the type; None if nothing does.

    The type or a CNAME is there (RFC 6840 4.3); it is the parent's side of a zone cut, which speaks for DS alone, or the
    child's, which does not (RFC 6840 4.1, 4.4).
    """
    if qtype == DS:
        if bits.has(types, SOA) and name != ROOT:
            return Proof.none("the denial record is of the child's apex, and cannot deny its DS")
    elif bits.is_delegation(types):
        return Proof.none("the denial record is of the parent's side of a zone cut, and cannot deny the child's data")
    if qtype == ANY:
        return None if bits.is_mere_denial(types) else Proof.none("the name has data of some type")
    if bits.has(types, qtype):
        return Proof.none("the denial record lists the type: it exists")
    if bits.has_alias(types):
        return Proof.none("the denial record lists a CNAME, which would have been the answer")
    return None


def prove_no_closer_match(qname: Name, labels: int, records: list[Nsec]) -> Proof:
    """The name below the wildcard's encloser toward `qname` does not exist (RFC 4035 5.3.4): NXDOMAIN or NONE."""
    if not records:
        return NOTHING_TO_READ
    if labels >= label_count(qname):
        return Proof.none("the answer was not expanded from a wildcard")
    key = names.order(qname)
    cover = _covering(qname, key, records)
    if isinstance(cover, Proof):
        return cover
    encloser = cover.closest_encloser(qname, key)
    if label_count(encloser) > labels:
        return Proof.none(f"a closer encloser exists: {names.to_text(encloser)}")
    return Proof(ProofKind.NXDOMAIN, "NSEC shows that no closer name exists", closest_encloser=encloser, used=(cover.rrset,))


def prove_no_ds(name: Name, records: list[Nsec]) -> Proof:
    """What the parent's NSEC records say of a missing DS: NO_DS, NOT_A_CUT or NONE (RFC 4035 5.2)."""
    if not records:
        return NOTHING_TO_READ
    matching = _matching(name, records)
    for record in matching:
        if (trouble := ds_denied(record.types)) is None:
            return Proof(*cut_or_not(record.types, "NSEC"), used=(record.rrset,))
    if matching:
        return trouble or NOTHING_TO_READ
    key = names.order(name)
    for record in records:
        if record.covers(key):
            encloser = None if record.leads_below(key) else record.closest_encloser(name, key)
            reason = "NSEC covers the name: no delegation there"
            return Proof(ProofKind.NOT_A_CUT, reason, closest_encloser=encloser, used=(record.rrset,))
    return Proof.none("no NSEC record matches or covers the name")


def ds_denied(types: bytes) -> Proof | None:
    """What keeps a record that matches the name from denying a DS in the parent; None if nothing does.

    A CNAME does not: no delegation has one, and no DS stands beside it.
    """
    if bits.has(types, SOA):
        return Proof.none("the denial record is of the child's apex, and cannot deny its DS")
    if bits.has(types, DS):
        return Proof.none("the denial record lists a DS")
    return None


def cut_or_not(types: bytes, record: str) -> tuple[ProofKind, str]:
    """What a name without DS is, and why."""
    if bits.has(types, NS):
        return ProofKind.NO_DS, f"{record} matches the delegation without DS"
    return ProofKind.NOT_A_CUT, f"{record} matches the name without NS"


def _rrsets(*records: Nsec) -> tuple[RRset, ...]:
    """The RRsets of these, each once."""
    return tuple(dict.fromkeys(record.rrset for record in records))
