"""Answers without asking anyone: the operator's hosts and records, and the special-use names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import msgspec

from dohproxy.config import settings
from dohproxy.model import Answer, Name, Query, Question, RRset, Security, Source, Stage
from dohproxy.resolve.hosts import read_hosts, reverse_name
from dohproxy.resolve.special_names import EXISTING, LOOPBACK_NAMES, SPECIAL_ZONES, Treatment
from dohproxy.wire import names
from dohproxy.wire.constants import AAAA, ANY, CNAME, DS, HINFO, IN, NOERROR, NS, NXDOMAIN, PTR, SOA, A

TTL = 10800
"""Seconds, of what the special zones hold (RFC 6303 3)."""
HOSTS_TTL = 60
"""Seconds, of what hosts files say: they are edited while the proxy runs."""
_MINIMAL_ANY, _MINIMAL_ANY_TTL = (b"\x07RFC8482\x00",), 3600
_LOOPBACK = {A: bytes([127, 0, 0, 1]), AAAA: b"\0" * 15 + b"\1"}
_SOA_TAIL = names.from_text("nobody.invalid") + b"".join(n.to_bytes(4, "big") for n in (1, 3600, 1200, 604800, TTL))


class LocalData:
    """The operator's records by owner and type, those of hosts files among them."""

    def __init__(self, local: settings.Local) -> None:
        self._records: dict[Name, dict[int, RRset]] = {}
        for record in local.records:
            self._add(record.owner, record.rdtype, record.ttl, record.rdata)
        written = {owner for owner, records in self._records.items() if PTR in records}
        for record in local.records:
            if record.rdtype in (A, AAAA):
                self._add_pointer(ip_address(record.rdata), record.owner, record.ttl, written)
        for host in (host for file in local.hosts for host in read_hosts(file)):
            for name in host.names:
                self._add(name, A if host.address.version == 4 else AAAA, HOSTS_TTL, host.address.packed)
            for name in host.names[:1]:
                self._add_pointer(host.address, name, HOSTS_TTL, written)
        self.owners = self._records.keys()
        """The names that have records."""
        self._above = {ancestor for owner in self._records for ancestor in names.suffixes(names.parent(owner))}

    def _add(self, owner: Name, rdtype: int, ttl: int, rdata: bytes) -> None:
        records = self._records.setdefault(owner, {})
        known = records.get(rdtype, RRset(owner, rdtype, ttl, ()))
        if rdata not in known.rdatas:
            records[rdtype] = RRset(owner, rdtype, min(ttl, known.ttl), (*known.rdatas, rdata))

    def _add_pointer(self, address: IPv4Address | IPv6Address, name: Name, ttl: int, written: set[Name]) -> None:
        """The PTR of an address, unless the operator wrote one."""
        if (owner := reverse_name(address)) not in written:
            self._add(owner, PTR, ttl, name)

    def records(self, name: Name) -> dict[int, RRset] | None:
        """What there is at the name, by type; None if it has nothing, and so is for others to answer."""
        return self._records.get(name)

    def has_below(self, name: Name) -> bool:
        """Whether the name exists for what lies below it (RFC 8020 2)."""
        return name in self._above


class Local:
    """The stage that answers local and special-use names and passes on all other questions.

    `zones` are the names of zones with upstreams of their own: one at or below a special name takes precedence over it.
    Its answers are insecure and never claim to be authentic. Raises ConfigError if a hosts file cannot be read.
    """

    def __init__(self, below: Stage, local: settings.Local, now: Callable[[], float], zones: Collection[Name] = ()) -> None:
        self._below, self._now = below, now
        self._data = LocalData(local)
        self._special = SPECIAL_ZONES if local.special_use_names else {}
        self._zones = frozenset(zones)
        self._tails = tuple({names.last_labels(zone, 1) for zone in self._special})
        """What the special names end with: few others do, and they are known by it at once."""

    def resolve(self, query: Query) -> Coroutine[Any, Any, Answer]:
        """The local answer, or that of the stage below, whose coroutine then is enough."""
        answer = _minimal(query.question.qname, self._now()) if query.minimal else self.find(query.question)
        return self._below.resolve(query) if answer is None else self._followed(query, answer)

    async def _followed(self, query: Query, answer: Answer) -> Answer:
        """The local answer with what a local alias leads to, which is asked for in its turn."""
        target = _open_alias(answer, query.question)
        if target is None:
            return answer
        onward = Question(target, query.question.qtype, query.question.qclass)
        return _joined(answer, await self.resolve(msgspec.structs.replace(query, question=onward)))

    def find(self, question: Question) -> Answer | None:
        """The local answer, or the CNAMEs that it begins with; None if the question is not for us."""
        qname = question.qname
        if question.qclass != IN:
            return None
        if qname not in self._data.owners:
            return self._find_special(question) if qname.endswith(self._tails) else None
        records = tuple(self._follow(question))
        return self._answer(records) if records else self._negative(NOERROR, question.qname)

    def _follow(self, question: Question) -> Iterator[RRset]:
        """The records asked for, after the CNAMEs that lead to them through local names (RFC 1034 3.6.2)."""
        name, seen = question.qname, set[Name]()
        while name not in seen:
            seen.add(name)
            records = self._data.records(name) or {}
            if question.qtype == ANY:
                yield from records.values()
                return
            if found := records.get(question.qtype):
                yield found
                return
            if (alias := records.get(CNAME)) is None:
                return
            yield alias
            name = alias.rdatas[0].lower()

    def _find_special(self, question: Question) -> Answer | None:
        zone = self._special_zone(question.qname)
        if zone is None:
            return None
        treatment, apex = self._special[zone], question.qname == zone
        if treatment is Treatment.LOOPBACK:
            return self._loopback(question, zone)
        if treatment is Treatment.EMPTY and apex and question.qtype == DS:
            return None
        if treatment is Treatment.EMPTY and (records := _zone_records(question, zone)):
            return self._answer(records)
        exists = (treatment is Treatment.EMPTY and (apex or question.qname in _EXISTING)) or self._data.has_below(
            question.qname
        )
        return self._negative(NOERROR if exists else NXDOMAIN, zone)

    def _special_zone(self, qname: Name) -> Name | None:
        """The special zone that the name is in, unless a zone of the operator's is nearer to the name."""
        for ancestor in names.suffixes(qname):
            if ancestor in self._zones:
                return None
            if ancestor in self._special:
                return ancestor
        return None

    def _loopback(self, question: Question, zone: Name) -> Answer:
        rdata = _LOOPBACK.get(question.qtype)
        if rdata is None:
            return self._negative(NOERROR, zone)
        return self._answer((RRset(question.qname, question.qtype, TTL, (rdata,)),))

    def _answer(self, records: Iterable[RRset]) -> Answer:
        return Answer(NOERROR, tuple(records), security=Security.INSECURE, born=self._now(), source=Source.LOCAL)

    def _negative(self, rcode: int, zone: Name) -> Answer:
        return Answer(rcode, (), (_soa(zone),), Security.INSECURE, born=self._now(), source=Source.LOCAL)


_EXISTING = EXISTING | frozenset(LOOPBACK_NAMES)


def _minimal(qname: Name, now: float) -> Answer:
    """The answer to ANY that says as little as possible (RFC 8482 4.2)."""
    hinfo = RRset(qname, HINFO, _MINIMAL_ANY_TTL, _MINIMAL_ANY)
    return Answer(NOERROR, (hinfo,), born=now, security=Security.INSECURE, source=Source.LOCAL)


def _soa(zone: Name) -> RRset:
    """The SOA that RFC 6303 3 has for such zones."""
    return RRset(zone, SOA, TTL, (zone + _SOA_TAIL,))


def _zone_records(question: Question, zone: Name) -> tuple[RRset, ...]:
    """What an empty zone has all the same: SOA and NS at its apex, the PTRs of the loopback addresses."""
    if question.qtype == SOA and question.qname == zone:
        return (_soa(zone),)
    if question.qtype == NS and question.qname == zone:
        return (RRset(zone, NS, TTL, (zone,)),)
    if question.qtype == PTR and question.qname in LOOPBACK_NAMES:
        return (RRset(question.qname, PTR, TTL, (names.from_text("localhost"),)),)
    return ()


def _open_alias(answer: Answer, question: Question) -> Name | None:
    """The target that an answer ends with unanswered; None if it is complete, or a loop."""
    if not answer.answer or question.qtype in (CNAME, ANY) or answer.answer[-1].rdtype != CNAME:
        return None
    target = answer.answer[-1].rdatas[0].lower()
    return None if any(rrset.owner == target for rrset in answer.answer) else target


def _joined(alias: Answer, found: Answer) -> Answer:
    """The answer at the end of local aliases: never secure as a whole, and of the source that was asked."""
    security = Security.INSECURE if found.security is Security.SECURE else found.security
    return msgspec.structs.replace(found, answer=alias.answer + found.answer, security=security)
