"""What a response's NSEC and NSEC3 records prove to be absent (RFC 4035 5.4, RFC 5155 8).

`proofs` are RRsets of type NSEC or NSEC3 (others are passed over) whose signature, the first of `signatures`, was verified
with keys of `zone`: its labels field says what a wildcard was expanded from (RFC 4035 5.3.4). A record without a signature
proves nothing.

Each question is put to the NSEC records alone, and then to the NSEC3 records alone: halves of two proofs make none. Hashes
are paid for from `budget` (Cost.HASHES), which raises BudgetExhausted. `max_iterations` is the most that an NSEC3 record
may ask for (RFC 9276 3.2): where only records beyond it are at hand, the outcome is UNSUPPORTED.
"""

from __future__ import annotations

from collections.abc import Callable

from dohproxy.dnssec import nsec, nsec3
from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.proof import NOTHING_TO_READ, Proof, ProofKind
from dohproxy.dnssec.quick import is_subdomain, plain_nxdomain
from dohproxy.model import Name, RRset
from dohproxy.wire.constants import DS
from dohproxy.wire.names import ROOT, is_below

__all__ = [
    "Proof",
    "ProofKind",
    "prove_no_closer_match",
    "prove_no_ds",
    "prove_nodata",
    "prove_nonexistence",
    "prove_nxdomain",
]


def prove_nonexistence(
    qname: Name, qtype: int, proofs: tuple[RRset, ...], zone: Name, *, max_iterations: int, budget: Budget
) -> Proof:
    """What is proven of a negative response, whatever its RCODE: NODATA, NXDOMAIN or WILDCARD_NODATA, if anything."""
    if refusal := _refusal(qname, qtype, zone):
        return refusal
    if plain := plain_nxdomain(qname, proofs, zone, max_iterations, budget):
        return plain
    return _either(
        lambda: nsec.prove_nonexistence(qname, qtype, nsec.read(proofs, zone)),
        lambda: nsec3.prove_nonexistence(qname, qtype, nsec3.read(proofs, zone, max_iterations, budget)),
    )


def prove_nxdomain(qname: Name, proofs: tuple[RRset, ...], zone: Name, *, max_iterations: int, budget: Budget) -> Proof:
    """Whether neither `qname` nor a wildcard that would match it exists: NXDOMAIN (RFC 4035 5.4, RFC 5155 8.4).

    Not `secure` where the next closer name is covered by an opt-out record (RFC 5155 9.2).
    """
    if refusal := _refusal(qname, 0, zone):
        return refusal
    return _either(
        lambda: nsec.prove_nxdomain(qname, nsec.read(proofs, zone)),
        lambda: nsec3.prove_nxdomain(qname, nsec3.read(proofs, zone, max_iterations, budget)),
    )


def prove_nodata(
    qname: Name, qtype: int, proofs: tuple[RRset, ...], zone: Name, *, max_iterations: int, budget: Budget
) -> Proof:
    """Whether there is no such type at `qname`, or at the wildcard that matches it: NODATA or WILDCARD_NODATA.

    RFC 4035 5.4; RFC 5155 8.5 to 8.7. Not `secure` where an opt-out record stands for the name (RFC 5155 9.2). For DS
    ask prove_no_ds, which also tells a delegation from other names.
    """
    if refusal := _refusal(qname, qtype, zone):
        return refusal
    return _either(
        lambda: nsec.prove_nodata(qname, qtype, nsec.read(proofs, zone)),
        lambda: nsec3.prove_nodata(qname, qtype, nsec3.read(proofs, zone, max_iterations, budget)),
    )


def prove_no_closer_match(
    qname: Name, labels: int, proofs: tuple[RRset, ...], zone: Name, *, max_iterations: int, budget: Budget
) -> Proof:
    """Whether a positive answer was rightly expanded from a wildcard: NXDOMAIN of the next closer name, or NONE.

    `labels` is the labels field of the answer's RRSIG: the wildcard stands right below the last so many labels of `qname`
    (RFC 4035 5.3.4, RFC 5155 8.8). Not `secure` under opt-out (RFC 5155 9.2).
    """
    if refusal := _refusal(qname, 0, zone):
        return refusal
    return _either(
        lambda: nsec.prove_no_closer_match(qname, labels, nsec.read(proofs, zone)),
        lambda: nsec3.prove_no_closer_match(qname, labels, nsec3.read(proofs, zone, max_iterations, budget)),
    )


def prove_no_ds(name: Name, proofs: tuple[RRset, ...], parent_zone: Name, *, max_iterations: int, budget: Budget) -> Proof:
    """What the parent proves of a missing DS RRset (RFC 4035 5.2, RFC 5155 8.6 and 8.9, RFC 6840 4.4).

    NO_DS: an unsigned delegation. OPT_OUT: perhaps one, the name lies in an opt-out span; what lies below is insecure as
    well. NOT_A_CUT: the name is not delegated, and still of `parent_zone`. NONE, UNSUPPORTED.
    """
    if name == ROOT or not is_below(name, parent_zone):
        return Proof.none("a DS RRset is denied by a zone above its owner")
    return _either(
        lambda: nsec.prove_no_ds(name, nsec.read(proofs, parent_zone)),
        lambda: nsec3.prove_no_ds(name, nsec3.read(proofs, parent_zone, max_iterations, budget)),
    )


def _refusal(qname: Name, qtype: int, zone: Name) -> Proof | None:
    """Questions that a zone has no say in: names outside it, and the DS RRset of its own apex (RFC 6840 4.1)."""
    if not is_subdomain(qname, zone):
        return Proof.none("the name lies outside the zone of the proof")
    if qtype == DS and qname == zone != ROOT:
        return Proof.none("a DS RRset is denied by a zone above its owner")
    return None


def _either(by_nsec: Callable[[], Proof], by_nsec3: Callable[[], Proof]) -> Proof:
    """The first proof that holds; else what is wrong with the kind of record that there was."""
    first = by_nsec()
    if first.proven:
        return first
    second = by_nsec3()
    return first if second == NOTHING_TO_READ else second
