"""Judges in one step what most answers are: all signed by one zone, whose keys are trusted. `validate` walks to the rest."""

from __future__ import annotations

from typing import Final

from dohproxy.dnssec import denial
from dohproxy.dnssec.anchors import TrustAnchor
from dohproxy.dnssec.chain import World, dates_of, of_proof
from dohproxy.dnssec.judgement import Judgement
from dohproxy.dnssec.proof import Proof, ProofKind
from dohproxy.dnssec.quick import is_subdomain, signer_above
from dohproxy.dnssec.signatures import Dates, verify_plain
from dohproxy.dnssec.trust import Trust
from dohproxy.errors import BudgetExhausted
from dohproxy.model import Answer, Name, Question, RRset, Security
from dohproxy.wire import constants as c

DENIALS: Final = (c.SOA, c.NSEC, c.NSEC3)
"""Types that the absence of a name or a type is told by."""
_MOST: Final = 5
"""RRsets that say so at most: those of NSEC3 and an SOA are four."""


def at_once(question: Question, answer: Answer, world: World) -> Judgement | None:
    """The judgement of the walk where that would be one step, with nothing to ask and nothing wrong.

    None where there is more to it: then the walk does again what was done here, which costs little but for signatures that
    are not good, and of those there was one.
    """
    if question.qtype == c.DS:
        return None  # it is the parent's
    try:
        return _data(question, answer, world) if answer.answer else _absence(question, answer, world)
    except BudgetExhausted:
        return None


def _data(question: Question, answer: Answer, world: World) -> Judgement | None:
    """On the one RRset that was asked for."""
    rrset, name = answer.answer[0], question.qname
    if len(answer.answer) != 1 or answer.rcode != c.NOERROR or rrset.rdtype != question.qtype or rrset.owner != name:
        return None
    trust = _trust(answer.answer, name, world)
    found = verify_plain(rrset, trust.zone, trust.ring, dates_of(world), world.budget) if trust else None
    if trust is None or found is None:
        return None
    return Judgement(Security.SECURE, (), trust.chain, c.NOERROR, (found,), ())


def _absence(question: Question, answer: Answer, world: World) -> Judgement | None:
    """On an SOA and the few records that deny the name, or the type."""
    rcode, given = answer.rcode, answer.authority
    if rcode not in (c.NXDOMAIN, c.NOERROR) or not 1 < len(given) <= _MOST:
        return None
    trust = _trust(given, question.qname, world)
    good = _good(given, trust, dates_of(world), world) if trust else None
    if trust is None or good is None:
        return None
    proof = _proof(question, rcode, good[1:], trust.zone, world)
    if not proof.proven or (rcode == c.NXDOMAIN) != (proof.kind is ProofKind.NXDOMAIN):
        return None
    security = Security.SECURE if proof.secure else Security.INSECURE
    authority = {(rrset.owner, rrset.rdtype): rrset for rrset in (good[0], *proof.used)}
    return Judgement(security, of_proof(proof, trust.zone), trust.chain, rcode, (), tuple(authority.values()))


def _trust(rrsets: tuple[RRset, ...], name: Name, world: World) -> Trust | None:
    """Trust, at hand and not near its end, in the zone that claims to have signed these."""
    signer, point = signer_above(rrsets, name), world.anchors.closest(name, world.wall)
    if signer is None or not isinstance(point, TrustAnchor) or not is_subdomain(signer, point.zone):
        return None
    trust = world.keys.get(signer, world.now)
    if not isinstance(trust, Trust) or trust.security is not Security.SECURE or trust.aging <= world.now:
        return None
    return trust


def _good(given: tuple[RRset, ...], trust: Trust, dates: Dates, world: World) -> tuple[RRset, ...] | None:
    """The zone's SOA and then the records of denial; None where there is anything else, or not all is good."""
    soa: RRset | None = None
    denials: list[RRset] = []
    for rrset in given:
        found = verify_plain(rrset, trust.zone, trust.ring, dates, world.budget) if rrset.rdtype in DENIALS else None
        if found is None:
            return None
        if rrset.rdtype != c.SOA:
            denials.append(found)
        elif rrset.owner == trust.zone:
            soa = found
        else:
            return None
    return (soa, *denials) if soa else None


def _proof(question: Question, rcode: int, proofs: tuple[RRset, ...], zone: Name, world: World) -> Proof:
    prove = denial.prove_nonexistence if rcode == c.NXDOMAIN else denial.prove_nodata
    most, budget = world.limits.nsec3_max_iterations, world.budget
    return prove(question.qname, question.qtype, proofs, zone, max_iterations=most, budget=budget)
