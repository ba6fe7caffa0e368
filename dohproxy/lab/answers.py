"""Answers any question from the tree as a recursive resolver that does not validate would (RFC 4035 3.2)."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
from dns.message import Message
from dns.name import Name
from dns.rcode import Rcode
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.DNAME import DNAME
from dns.rrset import RRset

from dohproxy.lab.signer import SignedZone, Tree
from dohproxy.lab.zones import Denial

MAX_ALIASES = 8
DNSSEC_TYPES = {RdataType.RRSIG, RdataType.NSEC, RdataType.NSEC3}


def answer(tree: Tree, query: Message) -> Message:
    """The response to a query with one question."""
    response = dns.message.make_response(query, recursion_available=True)
    if len(query.question) != 1:
        response.set_rcode(Rcode.FORMERR)
        return response
    _Walk(tree, response).follow(query.question[0].name, query.question[0].rdtype)
    if not query.ednsflags & dns.flags.DO:
        _strip(response)
    return response


def _strip(response: Message) -> None:
    """Leaves out what only those get who set DO (RFC 3225 3), but for what was asked for."""
    unwanted = DNSSEC_TYPES - {response.question[0].rdtype}
    for section in (response.answer, response.authority):
        section[:] = [rrset for rrset in section if rrset.rdtype not in unwanted]


class _Walk:
    """Fills in one response, from alias to alias."""

    def __init__(self, tree: Tree, response: Message) -> None:
        self._tree, self._response = tree, response

    def follow(self, qname: Name, qtype: RdataType) -> None:
        for _ in range(MAX_ALIASES):
            target = self._step(self._zone(qname, qtype), qname, qtype)
            if target is None:
                return
            qname = target
        self._response.set_rcode(Rcode.SERVFAIL)

    def _zone(self, name: Name, qtype: RdataType) -> SignedZone:
        at_the_parent = qtype == RdataType.DS and name != dns.name.root
        return self._tree.zone_of(name.parent() if at_the_parent else name)

    def _step(self, zone: SignedZone, name: Name, qtype: RdataType) -> Name | None:
        """Adds what the zone has for the name; answers where to look next, None at the end."""
        if (dname := _dname_above(zone, name)) is not None:
            return self._redirect(zone, name, dname)
        if name in zone.existing:
            return self._node(zone, name, name, qtype)
        encloser = _closest_encloser(zone, name)
        source = dns.name.Name((b"*",)).concatenate(encloser)
        if source in zone.nodes:
            self._deny(zone, name, next_closer_only=True)
            return self._node(zone, name, source, qtype)
        self._response.set_rcode(Rcode.NXDOMAIN)
        self._negative(zone)
        self._deny(zone, name)
        if zone.chain is not None:
            self._prove(zone, zone.chain.cover(source))
        return None

    def _node(self, zone: SignedZone, name: Name, source: Name, qtype: RdataType) -> Name | None:
        """What `source` (the name itself, or the wildcard that stands for it) has of this type."""
        node = zone.nodes.get(source, {})
        if qtype in node:
            self._answer(zone, node[qtype], name)
        elif RdataType.CNAME in node:
            self._answer(zone, node[RdataType.CNAME], name)
            return _target(node[RdataType.CNAME])
        elif qtype == RdataType.ANY and node:
            self._answer(zone, next(iter(node.values())), name)  # one of them is enough (RFC 8482 4.1)
        else:
            self._negative(zone)
            self._no_data(zone, name, source)
        return None

    def _no_data(self, zone: SignedZone, name: Name, source: Name) -> None:
        if zone.chain is None:
            return
        matching = zone.chain.match(source)
        if source != name:
            self._deny(zone, name)
        if matching is not None:
            self._prove(zone, matching)
        else:  # an empty non-terminal in NSEC, a delegation under opt-out in NSEC3
            self._deny(zone, source)

    def _redirect(self, zone: SignedZone, name: Name, dname: RRset) -> Name:
        """DNAME, and the CNAME that it makes (RFC 6672 3.1)."""
        self._answer(zone, dname, dname.name)
        target = name.relativize(dname.name).concatenate(_target(dname))
        self._response.answer.append(dns.rrset.from_text(name, dname.ttl, "IN", "CNAME", str(target)))
        return target

    def _answer(self, zone: SignedZone, rrset: RRset, owner: Name) -> None:
        for records in (rrset, zone.signatures.get((rrset.name, rrset.rdtype))):
            if records is not None:
                self._response.answer.append(dns.rrset.from_rdata_list(owner, records.ttl, list(records)))

    def _negative(self, zone: SignedZone) -> None:
        self._prove(zone, zone.nodes[zone.origin][RdataType.SOA])

    def _deny(self, zone: SignedZone, name: Name, *, next_closer_only: bool = False) -> None:
        for record in zone.chain.deny(name)[-1 if next_closer_only else 0 :] if zone.chain else ():
            self._prove(zone, record)

    def _prove(self, zone: SignedZone, record: RRset) -> None:
        """Adds this record of the authority section with its signature, once."""
        left_out = zone.zone.denial is Denial.OMITTED and record.rdtype == RdataType.NSEC
        if left_out or record in self._response.authority:
            return
        self._response.authority.append(record)
        if (signature := zone.signatures.get((record.name, record.rdtype))) is not None:
            self._response.authority.append(signature)


def _closest_encloser(zone: SignedZone, name: Name) -> Name:
    while name not in zone.existing:
        name = name.parent()
    return name


def _dname_above(zone: SignedZone, name: Name) -> RRset | None:
    while name != zone.origin:
        name = name.parent()
        if RdataType.DNAME in (node := zone.nodes.get(name, {})):
            return node[RdataType.DNAME]
    return None


def _target(alias: RRset) -> Name:
    (rdata,) = alias
    assert isinstance(rdata, CNAME | DNAME)
    return rdata.target
