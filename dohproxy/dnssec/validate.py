"""Judges an answer: follows it from the question along its aliases, and has each RRset proven (RFC 4035 5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from dohproxy.dnssec import aliases, denial, reasons
from dohproxy.dnssec.anchors import TrustAnchor
from dohproxy.dnssec.at_once import DENIALS, at_once
from dohproxy.dnssec.budget import Budget, Cost
from dohproxy.dnssec.chain import (
    Asking,
    Chains,
    Fetched,
    Limits,
    Need,
    World,
    of_proof,
    unproven,
    untrusted,
)
from dohproxy.dnssec.judgement import Judgement
from dohproxy.dnssec.proof import Proof, ProofKind
from dohproxy.dnssec.quick import is_subdomain, signer_above
from dohproxy.dnssec.signatures import Flaw, Verified
from dohproxy.dnssec.trust import Trust
from dohproxy.errors import BudgetExhausted, MalformedMessage, ResolveError
from dohproxy.model import Answer, Ede, Link, Name, Question, RRset, Security
from dohproxy.wire import constants as c
from dohproxy.wire import names
from dohproxy.wire.names import to_text

__all__ = ["Asking", "Fetched", "Judgement", "Limits", "Need", "World", "validate"]


def validate(question: Question, answer: Answer, world: World) -> Asking[Judgement]:
    """The judgement on `answer`: a generator that yields what it needs to know and is sent the answers in the same order.

    It raises nothing: a budget that runs out, like all else, becomes a judgement.
    """
    if question.qclass not in (c.IN, c.CLASS_ANY):
        return _unjudged(answer, Security.UNCHECKED)
    if question.qtype == c.RRSIG and any(rrset.owner == question.qname for rrset in answer.answer):
        return _unjudged(answer, Security.INSECURE)  # signatures are not signed (RFC 4035 2.2)
    return at_once(question, answer, world) or (yield from _by_walking(question, answer, world))


def _by_walking(question: Question, answer: Answer, world: World) -> Asking[Judgement]:
    """The same, whatever the answer is."""
    following = _Following(question, answer, world)
    try:
        yield from following.run()
        return following.judgement()
    except _Stop as stop:
        return following.failed(stop.security, stop.ede)
    except BudgetExhausted as error:
        security = Security.INDETERMINATE if world.budget.exhausted is Cost.FETCHES else Security.BOGUS
        return following.failed(security, error.edes)
    except MalformedMessage as error:
        text = f"{reasons.record(question.qname, question.qtype)}: malformed: {error}"
        return following.failed(Security.BOGUS, (Ede(c.EDE_BOGUS, text),))


def _unjudged(answer: Answer, security: Security) -> Judgement:
    return Judgement(security, (), (), answer.rcode, answer.answer, answer.authority)


class _Stop(Exception):
    """The answer fails, and no more of it is looked at."""

    def __init__(self, security: Security, *ede: Ede) -> None:
        self.security, self.ede = security, ede


class _Unproven(_Stop):
    """A record, or its absence, is not proven: perhaps another message does it better."""


class _Following:
    """The walk from the question's name, along aliases, to the data or to the proof that there is none."""

    def __init__(self, question: Question, answer: Answer, world: World) -> None:
        self._question, self._given, self._world = question, answer, world
        self._chains = Chains(world)
        self._chains.fetched[Need(question.qname, question.qtype)] = answer
        self._message = answer
        self._name = question.qname
        self._seen = {question.qname}
        self._beyond = False
        """Whether the name is the target of an alias that itself was asked for."""
        self._rcode = answer.rcode
        self._answer: list[RRset] = []
        self._authority: dict[tuple[Name, int], RRset] = {}
        self._secure = True
        self._ede: list[Ede] = []
        self._links: dict[Name, Link] = {}

    # The outcome

    def judgement(self) -> Judgement:
        """What was found, once `run` is through."""
        security = Security.SECURE if self._secure else Security.INSECURE
        chain, authority = tuple(self._links.values()), tuple(self._authority.values())
        aging, ede = tuple(self._chains.aging), tuple(self._ede)
        return Judgement(security, ede, chain, self._rcode, tuple(self._answer), authority, aging=aging)

    def failed(self, security: Security, ede: tuple[Ede, ...]) -> Judgement:
        """The judgement on an answer that does not hold; its sections stay as they are, for those who want it all the same."""
        chain, blame, given = tuple(self._links.values()), tuple(self._chains.blame), self._given
        return Judgement(security, ede, chain, given.rcode, given.answer, given.authority, blame)

    # The walk

    def run(self) -> Asking[None]:
        """Follow the answer to its end; raises _Stop where it fails.

        What fails beyond an alias is asked for by itself, once: resolvers cut short, or mix up, what they join.
        """
        if self._given.rcode not in (c.NOERROR, c.NXDOMAIN, c.YXDOMAIN):
            raise _Stop(Security.INDETERMINATE, *reasons.of_failed_fetch(*self._asked, self._given))
        done = False
        while not done:
            mark = len(self._answer)
            try:
                done = yield from self._step()
            except _Unproven:
                if not (yield from self._ask_on()):
                    raise
                del self._answer[mark:]

    def _step(self) -> Asking[bool]:
        """Judge what is said of the name; whether that is the end, or else it is an alias and the name now is its target."""
        if self._beyond:
            yield from self._absent(c.NXDOMAIN)
            return True
        if (yield from self._data_at_hand()):
            return self._is_the_end()
        target = yield from self._alias_at_hand()
        if target is not None:
            return self._follow(target)
        if self._rcode == c.YXDOMAIN:
            self._too_long()
            return True
        if not self._is_denied_here() and (yield from self._ask_on()):
            return False
        yield from self._absent(self._rcode)
        return True

    def _follow(self, target: Name) -> bool:
        """Go on to an alias's target, unless a DNAME made the very CNAME that was asked for; whether that is the end."""
        if self._question.qtype == c.CNAME:
            return self._is_the_end()
        self._world.budget.spend(Cost.ALIASES)
        if target in self._seen:
            raise _Stop(Security.BOGUS, Ede(c.EDE_BOGUS, f"{to_text(self._question.qname)}: aliases lead in a circle"))
        self._seen.add(target)
        self._name = target
        return False

    @property
    def _asked(self) -> tuple[Name, int]:
        return self._name, self._question.qtype

    def _is_the_end(self) -> bool:
        """Whether the data found is all; an NXDOMAIN beside a CNAME that was asked for is told of its target (RFC 6604 2).

        Beside secure data of another type it is false: nothing signs the RCODE, the data are.
        """
        last = self._answer[-1]
        if self._rcode == c.NXDOMAIN and last.rdtype == c.CNAME:
            self._name, self._beyond = aliases.target_of(last), True
            return False
        if self._secure:
            self._rcode = c.NOERROR
        return True

    def _is_denied_here(self) -> bool:
        return any(rrset.rdtype in DENIALS for rrset in self._message.authority)

    def _ask_on(self) -> Asking[bool]:
        """Whether there is an answer of its own to the name that an alias led to, not looked at before; then it is at hand."""
        need = Need(*self._asked)
        if need in self._chains.fetched:
            return False
        yield from self._chains.fetch(need)
        outcome = self._chains.fetched[need]
        if isinstance(outcome, ResolveError) or outcome.rcode not in (c.NOERROR, c.NXDOMAIN):
            return False
        self._message, self._rcode = outcome, outcome.rcode
        return True

    # Data

    def _data_at_hand(self) -> Asking[bool]:
        """Whether the RRsets that were asked for are there; then they are judged."""
        name, qtype = self._asked
        section = self._message.answer
        if qtype == c.ANY:
            found = [rrset for rrset in section if rrset.owner == name and rrset.rdtype != c.RRSIG]
        else:
            found = [rrset for rrset in section if rrset.owner == name and rrset.rdtype == qtype]
        if not found or aliases.dname_above(name, section) is not None:
            return False  # nothing lies below a DNAME but what it makes (RFC 6672 2.4)
        for rrset in found:
            yield from self._judge(rrset)
        return True

    def _alias_at_hand(self) -> Asking[Name | None]:
        """Where the name leads, if it is an alias; the records that say so are judged."""
        dname = aliases.dname_above(self._name, self._message.answer)
        if dname is not None:
            return (yield from self._redirected(dname))
        cname = aliases.find(self._message.answer, self._name, c.CNAME)
        if cname is None:
            return None
        yield from self._judge(cname)
        return aliases.target_of(cname)

    def _redirected(self, dname: RRset) -> Asking[Name | None]:
        """Where a DNAME leads: the CNAME beside it needs no signature, but must be what we make (RFC 6672 5.3.1)."""
        secure = yield from self._judge(dname)
        target = aliases.substituted(self._name, dname.owner, aliases.target_of(dname))
        if target is None:
            self._rcode = c.YXDOMAIN
            return None
        given = aliases.find(self._message.answer, self._name, c.CNAME)
        if given is not None and aliases.target_of(given) != target:
            if secure:
                text = f"{reasons.record(self._name, c.CNAME)}: is not what the DNAME at {to_text(dname.owner)} makes"
                raise _Unproven(Security.BOGUS, Ede(c.EDE_BOGUS, text))
            target = aliases.target_of(given)
        rdata = given.rdatas[0] if given is not None and given.rdatas[0].lower() == target else target
        self._answer.append(RRset(self._name, c.CNAME, self._answer[-1].ttl, (rdata,)))
        return target

    def _too_long(self) -> None:
        """A DNAME leads to a name that cannot be (RFC 6672 2.2). What was signed is no answer: AD stays clear."""
        made_too_long = self._answer and self._answer[-1].rdtype == c.DNAME
        if self._secure and not made_too_long:
            raise _Stop(
                Security.BOGUS, Ede(c.EDE_BOGUS, f"{reasons.record(*self._asked)}: YXDOMAIN, but no DNAME is the cause")
            )
        self._secure = False

    def _judge(self, rrset: RRset) -> Asking[bool]:
        """Whether this RRset is secure, or else insecure; it joins the answer. Raises _Stop where it is neither."""
        trust, signed = yield from self._trust(_base(rrset.owner, rrset.rdtype), (rrset,))
        self._rest_on(trust)
        if trust.security is not Security.SECURE:
            self._answer.append(rrset)
            return False
        if not signed:
            raise _Unproven(Security.BOGUS, reasons.unsigned(rrset.owner, rrset.rdtype, trust.zone))
        found = self._chains.verify(rrset, trust)
        if isinstance(found, Flaw):
            raise _Unproven(Security.BOGUS, reasons.of_flaw(rrset.owner, rrset.rdtype, trust.zone, found))
        secure = self._expansion_holds(found, trust) if found.expanded else True
        self._answer.append(found.rrset)
        return secure

    def _expansion_holds(self, found: Verified, trust: Trust) -> bool:
        """Whether the name that a wildcard stood in for is securely proven not to exist (RFC 4035 5.3.4, RFC 5155 8.8)."""
        rrset, labels = found.rrset, found.rrsig.labels
        if rrset.rdtype == c.DNAME:
            text = f"{reasons.record(rrset.owner, c.DNAME)}: made from a wildcard (zone {to_text(trust.zone)})"
            raise _Unproven(Security.BOGUS, Ede(c.EDE_BOGUS, text))
        proofs, flaw = self._chains.proofs(self._message.authority, trust)
        proof = denial.prove_no_closer_match(rrset.owner, labels, proofs, trust.zone, **self._costs)
        if proof.kind is ProofKind.NONE:
            raise _Unproven(Security.BOGUS, *unproven(rrset.owner, rrset.rdtype, trust.zone, proof, flaw))
        return self._accept(proof, trust)

    # Absence

    def _absent(self, rcode: int) -> Asking[None]:
        """Judge that there is no such name (NXDOMAIN), or no such type at it (NOERROR)."""
        name, qtype = self._asked
        base = _base(name, qtype)
        denials = tuple(rrset for rrset in self._message.authority if rrset.rdtype in DENIALS)
        trust, signed = yield from self._trust(base, denials)
        self._rest_on(trust)
        if trust.security is not Security.SECURE:
            self._relay(rrset for rrset in denials if rrset.rdtype != c.SOA or is_subdomain(base, rrset.owner))
            return
        if not signed:
            raise _Unproven(Security.BOGUS, *_undenied(name, qtype, trust.zone, denials))
        proofs, flaw = self._chains.proofs(denials, trust)
        proof = self._proof_of_absence(rcode, proofs, trust)
        if proof.kind is ProofKind.NONE:
            below = yield from self._chains.trust_over(base)
            if below.security is not Security.INSECURE:
                raise _Unproven(Security.BOGUS, *unproven(name, qtype, trust.zone, proof, flaw))
            self._rest_on(below)
            self._relay(rrset for rrset in denials if rrset.rdtype == c.SOA and is_subdomain(rrset.owner, below.zone))
            return
        self._relay_soa(denials, trust)
        self._accept(proof, trust)
        if rcode == c.NXDOMAIN and proof.kind in (ProofKind.NODATA, ProofKind.WILDCARD_NODATA):
            self._rcode = c.NOERROR  # the name is there, whatever the header says

    def _proof_of_absence(self, rcode: int, proofs: tuple[RRset, ...], trust: Trust) -> Proof:
        name, qtype = self._asked
        if rcode == c.NXDOMAIN:
            return denial.prove_nonexistence(name, qtype, proofs, trust.zone, **self._costs)
        return denial.prove_nodata(name, qtype, proofs, trust.zone, **self._costs)

    def _relay_soa(self, denials: tuple[RRset, ...], trust: Trust) -> None:
        """The zone's SOA, which may be missing (RFC 2308 2.1, 2.2) but not be false."""
        for rrset in denials:
            if rrset.rdtype == c.SOA and rrset.owner == trust.zone:
                found = self._chains.verify(rrset, trust)
                if isinstance(found, Flaw):
                    raise _Unproven(Security.BOGUS, reasons.of_flaw(rrset.owner, c.SOA, trust.zone, found))
                self._relay((found.rrset,))

    # What it rests on

    @property
    def _costs(self) -> _Costs:
        return {"max_iterations": self._world.limits.nsec3_max_iterations, "budget": self._world.budget}

    def _trust(self, base: Name, rrsets: tuple[RRset, ...]) -> Asking[tuple[Trust, bool]]:
        """Trust in the zone that signed these, and True; or in the zone that `base` is in, and False.

        The second where they are not signed, or where it is only from above the closest trust anchor that they are, and
        not securely so: an anchor's zone does not become insecure by what is said elsewhere.
        """
        point = self._chains.point_of(base)
        if not isinstance(point, TrustAnchor):
            return untrusted(base, point), False
        signer = signer_above(rrsets, base)
        if signer is not None:
            trust = yield from self._chains.trust_in(signer)
            if trust.security is Security.SECURE or is_subdomain(signer, point.zone):
                return trust, True
        trust = yield from self._chains.trust_over(base)
        return trust, False

    def _rest_on(self, trust: Trust) -> None:
        """Note a zone that the answer rests on; raises _Stop unless it is secure or insecure."""
        for link in trust.chain:
            self._links.setdefault(link.zone, link)
        if trust.security in (Security.BOGUS, Security.INDETERMINATE):
            raise _Stop(trust.security, *trust.ede)
        if trust.security is Security.INSECURE:
            self._weaken(trust.ede)

    def _accept(self, proof: Proof, trust: Trust) -> bool:
        """Take a proof into the answer; whether it is secure."""
        self._relay(proof.used)
        secure = proof.secure and proof.kind is not ProofKind.UNSUPPORTED
        if not secure:
            self._weaken(of_proof(proof, trust.zone))
        return secure

    def _weaken(self, ede: tuple[Ede, ...]) -> None:
        self._secure = False
        self._ede += [one for one in ede if one not in self._ede]

    def _relay(self, rrsets: Iterable[RRset]) -> None:
        self._authority.update(((rrset.owner, rrset.rdtype), rrset) for rrset in rrsets)


class _Costs(TypedDict):
    max_iterations: int
    budget: Budget


def _base(owner: Name, rdtype: int) -> Name:
    """The name whose zone has the record: a DS belongs to the parent (RFC 4035 2.4)."""
    return names.parent(owner) if rdtype == c.DS else owner


def _undenied(name: Name, qtype: int, zone: Name, denials: tuple[RRset, ...]) -> tuple[Ede, ...]:
    """What is wrong with a negative answer without anything signed."""
    bare = [rrset for rrset in denials if not rrset.signatures and is_subdomain(rrset.owner, zone)]
    unsigned = tuple(reasons.unsigned(rrset.owner, rrset.rdtype, zone) for rrset in bare[:1])
    return (*unsigned, *unproven(name, qtype, zone, Proof.none("there is no signed NSEC or NSEC3"), None))
