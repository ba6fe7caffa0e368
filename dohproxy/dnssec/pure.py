"""The twins in Python of what `_compiled.pyx` has: the same answers, and where it answers only what is plain, none."""

from __future__ import annotations

from typing import Final

from dohproxy.dnssec.budget import Budget
from dohproxy.dnssec.keys import Claim, KeyRing
from dohproxy.dnssec.proof import Proof
from dohproxy.model import Name, RRset
from dohproxy.wire.names import MAX_LENGTH, is_subdomain, label_count

__all__ = ["SIGNER", "is_subdomain", "label_count", "plain_claim", "plain_nxdomain", "signer_above", "signer_in"]

SIGNER: Final = 18
"""Where the signer's name begins in the RDATA of an RRSIG (RFC 4034 3.1)."""


def signer_in(rdata: bytes) -> Name:
    """The signer's name in an RRSIG's RDATA (RFC 4034 3.1.7), in lower case; b"" if there is none."""
    at = SIGNER
    try:
        while length := rdata[at]:
            at += length + 1
    except IndexError:
        return b""
    return rdata[SIGNER : at + 1].lower() if at - SIGNER < MAX_LENGTH else b""


def signer_above(rrsets: tuple[RRset, ...], base: Name) -> Name | None:
    """The deepest zone at or above `base` that claims to have signed one of these."""
    found: Name | None = None
    for rrset in rrsets:
        for rdata in rrset.signatures:
            signer = signer_in(rdata)
            if signer and is_subdomain(base, signer) and (found is None or len(signer) > len(found)):
                found = signer
    return found


def plain_claim(rrset: RRset, rdata: bytes, zone: Name, ring: KeyRing, wall: int) -> Claim | None:  # noqa: ARG001
    """None: see `claim_of` in signatures.py."""
    return None


def plain_nxdomain(
    qname: Name,  # noqa: ARG001
    proofs: tuple[RRset, ...],  # noqa: ARG001
    zone: Name,  # noqa: ARG001
    max_iterations: int,  # noqa: ARG001
    budget: Budget,  # noqa: ARG001
) -> Proof | None:
    """None: see `prove_nonexistence` in nsec3.py."""
    return None
