"""What became of a question, told to a person in lines or to a machine as a record. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from dohproxy.errors import Problem, ResolveError
from dohproxy.model import Answer, Ede, Link, Question, Rule, Security, Source, Transport, Verdict
from dohproxy.wire import names
from dohproxy.wire.constants import NSEC, NSEC3
from dohproxy.wire.text import ede_to_text, rcode_to_text, rrset_to_lines, type_to_text

ALGORITHMS = {
    5: "RSASHA1",
    7: "RSASHA1-NSEC3-SHA1",
    8: "RSASHA256",
    10: "RSASHA512",
    13: "ECDSAP256SHA256",
    14: "ECDSAP384SHA384",
    15: "ED25519",
    16: "ED448",
}
TRANSPORTS = {
    Transport.UDP: "plain UDP",
    Transport.TCP: "plain TCP",
    Transport.DOT: "DNS over TLS",
    Transport.DOH: "DNS over HTTPS",
    Transport.DOH3: "DNS over HTTP/3",
    Transport.DOQ: "DNS over QUIC",
    Transport.ODOH: "Oblivious DNS over HTTPS",
}
SOURCES = {
    Source.CACHE: "from the cache",
    Source.LOCAL: "made here",
    Source.POLICY: "made by policy",
    Source.SYNTHESIS: "made of proofs in the cache",
}


_PROOFS = (NSEC, NSEC3)


class Found(Struct, frozen=True):
    """A question, on whose behalf it was asked (the client's address, policy group and identity), and what became of it."""

    question: Question
    client: str
    group: str
    outcome: Answer | ResolveError
    seconds: float
    identity: str = ""

    @property
    def rcode(self) -> int:
        """The RCODE that the client would get."""
        return self.outcome.rcode


class Window(Struct, frozen=True):
    """When a signature holds, in seconds since 1970."""

    inception: int
    expiration: int


def problem_lines(problem: Problem, prefix: str = "") -> list[str]:
    """`file:line: key: message`, and what helps below it."""
    where = f"{problem.file}:{problem.line}" if problem.line else problem.file
    lines = [": ".join(part for part in (where, problem.key, prefix + problem.message) if part)]
    if problem.allowed:
        lines.append(f"    allowed: {problem.allowed}")
    if problem.nearest:
        lines.append(f"    did you mean {problem.nearest}?")
    return lines


def lines_of(found: Found) -> list[str]:
    """For a person: the outcome first, then how it came about."""
    question, outcome = found.question, found.outcome
    answer = None if isinstance(outcome, ResolveError) else outcome
    edes = outcome.edes if isinstance(outcome, ResolveError) else outcome.ede
    source = outcome.refused if isinstance(outcome, ResolveError) else answer
    records = _record_lines(answer) if answer else []
    return [
        f"{names.to_text(question.qname)} {type_to_text(question.qtype)}: {_verdict(found)}",
        *records,
        *([""] if records else []),
        *_labelled("why", map(ede_to_text, edes)),
        *_labelled("chain", _chain_lines(outcome.chain)),
        *_labelled("policy", [policy_text(source.verdict)] if source else []),
        *_labelled("source", [source_text(source)] if source else []),
        *_labelled("client", [f"{' '.join(filter(None, (found.client, found.identity)))} (group {found.group})"]),
        *_labelled("time", [f"{found.seconds * 1000:.0f} ms"]),
    ]


def _verdict(found: Found) -> str:
    outcome = found.outcome
    told = [rcode_to_text(outcome.rcode)]
    if isinstance(outcome, Answer) or outcome.security is not Security.UNCHECKED:
        told.append(outcome.security.value)
    if isinstance(outcome, Answer) and outcome.stale:
        told.append("stale")
    return ", ".join(told)


def _record_lines(answer: Answer) -> list[str]:
    """The records without what proves them: signatures, and those that deny others, which are counted."""
    told = [rrset for rrset in (*answer.answer, *answer.authority) if rrset.rdtype not in _PROOFS or rrset in answer.answer]
    proofs = [rrset for rrset in answer.authority if rrset.rdtype in _PROOFS]
    lines = [f"  {line}" for rrset in told for line in rrset_to_lines(replace(rrset, signatures=()))]
    if proofs:
        lines.append(f"  (with {len(proofs)} {type_to_text(proofs[0].rdtype)} as proof)")
    return lines


def _labelled(label: str, lines: Iterable[str]) -> list[str]:
    """The lines in a column, with the label before the first."""
    return [f"{label if number == 0 else '':<10}{line}" for number, line in enumerate(lines)]


def policy_text(verdict: Verdict | None) -> str:
    """The decision and the rule that made it."""
    if verdict is None:
        return "allow (no rule)"
    addresses = f" to {', '.join(verdict.addresses)}" if verdict.addresses else ""
    return f"{verdict.action.value}{addresses} by {rule_text(verdict.rule)}"


def rule_text(rule: Rule) -> str:
    """The rule as written, and where."""
    place = f"{rule.file}:{rule.line}" if rule.line else rule.file
    return f"{rule.text}, {rule.where}" + (f" ({place})" if place else "")


def source_text(answer: Answer) -> str:
    """Where the answer came from."""
    transport = f" by {TRANSPORTS.get(answer.transport, answer.transport.value)}" if answer.transport else ""
    upstream = f"{answer.upstream}{transport}" if answer.upstream else ""
    return ", ".join(part for part in (upstream, SOURCES.get(answer.source, "")) if part) or "unknown"


def _chain_lines(chain: tuple[Link, ...]) -> list[str]:
    return columns([_chain_row(link) for link in chain])


def _chain_row(link: Link) -> tuple[str, ...]:
    key = f"key {link.key_tag} {algorithm_text(link.algorithm)}" if link.key_tag or link.algorithm else "-"
    window = signature_window(link)
    signed = f"signed {moment_text(window.inception)} to {moment_text(window.expiration)}" if window else "-"
    return names.to_text(link.zone), link.security.value, ds_text(link), key, signed, link.note


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The rows as lines, their cells below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def ds_text(link: Link) -> str:
    """The key tags of the DS records and their algorithms."""
    tags = [f"{one['key_tag']} {algorithm_text(one['algorithm'])}" for one in _ds_records(link)]
    return f"DS {', '.join(tags)}" if tags else "-"


def algorithm_text(number: int) -> str:
    """The mnemonic of a DNSSEC algorithm (RFC 8624), or its number."""
    return ALGORITHMS.get(number, f"algorithm {number}")


def signature_window(link: Link) -> Window | None:
    """When the signature of the key that the chain runs through holds (RFC 4034 3.1.5); None if there is none."""
    for rdata in link.dnskey.signatures if link.dnskey else ():
        if int.from_bytes(rdata[16:18], "big") == link.key_tag and rdata[2] == link.algorithm:
            return Window(int.from_bytes(rdata[12:16], "big"), int.from_bytes(rdata[8:12], "big"))
    return None


def moment_text(seconds: int) -> str:
    """Such as `2026-01-31T12:00:00Z`."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _ds_records(link: Link) -> list[dict[str, int]]:
    return [
        {"key_tag": int.from_bytes(rdata[:2], "big"), "algorithm": rdata[2], "digest_type": rdata[3]}
        for rdata in (link.ds.rdatas if link.ds else ())
    ]


def record_of(found: Found) -> dict[str, Any]:
    """For machines: the same facts, ready to be JSON."""
    question, outcome = found.question, found.outcome
    told: dict[str, Any] = {
        "name": names.to_text(question.qname),
        "type": type_to_text(question.qtype),
        "client": found.client,
        **({"identity": found.identity} if found.identity else {}),
        "group": found.group,
        "rcode": rcode_to_text(outcome.rcode),
        "milliseconds": round(found.seconds * 1000, 1),
    }
    told |= {"security": outcome.security.value, "chain": [_link_record(link) for link in outcome.chain]}
    if isinstance(outcome, ResolveError):
        told |= {"answer": [], "authority": [], "ede": [_ede_record(ede) for ede in outcome.edes]}
        return told | (_origin_record(outcome.refused) if outcome.refused is not None else {})
    told |= {
        "answer": [line for rrset in outcome.answer for line in rrset_to_lines(rrset)],
        "authority": [line for rrset in outcome.authority for line in rrset_to_lines(rrset)],
        "ede": [_ede_record(ede) for ede in outcome.ede],
    }
    return told | _origin_record(outcome)


def _origin_record(answer: Answer) -> dict[str, Any]:
    """Where an answer is from, and what policy said."""
    return {
        "policy": _verdict_record(answer.verdict),
        "source": answer.source.value,
        "stale": answer.stale,
        "upstream": answer.upstream,
        "transport": answer.transport.value if answer.transport else None,
    }


def _ede_record(ede: Ede) -> dict[str, Any]:
    return {"code": ede.code, "text": ede.text}


def _link_record(link: Link) -> dict[str, Any]:
    window = signature_window(link)
    return {
        "zone": names.to_text(link.zone),
        "security": link.security.value,
        "ds": _ds_records(link),
        "key_tag": link.key_tag,
        "algorithm": link.algorithm,
        "inception": moment_text(window.inception) if window else None,
        "expiration": moment_text(window.expiration) if window else None,
        "note": link.note,
    }


def _verdict_record(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    rule = verdict.rule
    return {
        "action": verdict.action.value,
        "addresses": list(verdict.addresses),
        "rule": {"text": rule.text, "where": rule.where, "file": rule.file, "line": rule.line},
    }
