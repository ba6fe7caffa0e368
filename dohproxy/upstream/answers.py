"""An upstream's reply as an Answer, and waiting for one."""

from __future__ import annotations

from dohproxy.courses import Exchange
from dohproxy.errors import MalformedMessage, NoReachableUpstream, UpstreamFailed
from dohproxy.model import Answer, Ede, Name, Question, RRset, Transport
from dohproxy.wire.constants import CNAME, DNAME, OPTION_EDE, OPTION_REPORT_CHANNEL, TC
from dohproxy.wire.message import Edns
from dohproxy.wire.names import ROOT, suffixes
from dohproxy.wire.quick import ordinary_answer_untrusted, parse_message_untrusted
from dohproxy.wire.rdata import read_name


async def answered(exchange: Exchange, upstream: str, until: float) -> Answer:
    """The answer, whatever its RCODE, to what this upstream was asked. Raises ResolveError, also if there is none by then."""
    try:
        answer = await exchange.answer(until)
    finally:
        exchange.drop()
    if answer is None:
        raise NoReachableUpstream(f"{upstream}: no answer in time")
    return answer


def answer_from(reply: bytes, upstream: str, transport: Transport, born: float) -> Answer:
    """What the reply says of its question, without its additional section; `born` is when its TTLs began to count down.

    Raises UpstreamFailed for garbage and for a truncated reply, which has no place in a stream.
    """
    if (answer := ordinary_answer_untrusted(reply, upstream, transport, born)) is not None:
        return answer
    try:
        message = parse_message_untrusted(reply)
    except MalformedMessage as error:
        raise UpstreamFailed(f"a malformed answer ({error})") from error
    if message.flags & TC:
        raise UpstreamFailed("a truncated answer")
    edns = message.edns if message.edns is not None and message.edns.options else None
    return Answer(
        rcode=message.rcode,
        answer=_to_the_point(message.question, message.answer),
        authority=message.authority,
        ede=_extended_errors(edns) if edns is not None else (),
        agent=_agent(edns) if edns is not None else b"",
        born=born,
        upstream=upstream,
        transport=transport,
    )


def _to_the_point(question: Question | None, rrsets: tuple[RRset, ...]) -> tuple[RRset, ...]:
    """Those of the names that the question leads to, by aliases or not at all: the rest is what nobody asked (RFC 5452 6)."""
    if question is None:
        return ()
    if all(rrset.owner == question.qname and rrset.rdclass == question.qclass for rrset in rrsets):
        return rrsets
    rrsets = tuple(rrset for rrset in rrsets if rrset.rdclass == question.qclass)
    aliases = {rrset.owner: rrset.rdatas[0].lower() for rrset in rrsets if rrset.rdtype == CNAME}
    reached, name = set[Name](), question.qname
    while name not in reached:
        reached.add(name)
        name = aliases.get(name, name)
    above = {suffix for name in reached for suffix in suffixes(name)} if any(r.rdtype == DNAME for r in rrsets) else reached
    return tuple(rrset for rrset in rrsets if rrset.owner in (above if rrset.rdtype == DNAME else reached))


def _extended_errors(edns: Edns) -> tuple[Ede, ...]:
    """Those that the reply carries (RFC 8914 2); one too short to have a code is left out."""
    return tuple(
        Ede(int.from_bytes(value[:2]), value[2:].decode("utf-8", "replace").rstrip("\0"))
        for code, value in edns.options
        if code == OPTION_EDE and len(value) >= 2
    )


def _agent(edns: Edns) -> Name:
    """Whom to report errors to (RFC 9567 5); b"" where that is nobody, or is not one uncompressed name and nothing else."""
    for code, value in edns.options:
        if code == OPTION_REPORT_CHANNEL:
            try:
                name, end = read_name(value, 0)
            except (MalformedMessage, IndexError):
                return b""
            return name.lower() if end == len(value) and name != ROOT else b""
    return b""
