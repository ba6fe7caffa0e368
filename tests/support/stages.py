"""Stages of a test's own, and short ways to write questions and records."""

from __future__ import annotations

from collections.abc import Callable

import dns.rdata
import dns.rdatatype
import trio

from dohproxy.errors import ResolveError
from dohproxy.model import INTERNAL, Answer, Query, Question, RRset
from dohproxy.wire import names


def question(name: str, qtype: str = "A") -> Question:
    return Question(names.from_text(name), int(dns.rdatatype.from_text(qtype)))


def query(name: str, qtype: str = "A", **more: object) -> Query:
    return Query(question(name, qtype), **({"client": INTERNAL, "deadline": trio.current_time() + 5} | more))  # type: ignore[arg-type]


def rrset(line: str) -> RRset:
    """Such as `www.example. 300 A 192.0.2.1 192.0.2.2`: several addresses make several records."""
    owner, ttl, rdtype, *rest = line.split(maxsplit=3)
    texts = rest[0].split() if rdtype in ("A", "AAAA") else rest
    rdatas = tuple(dns.rdata.from_text("IN", rdtype, text).to_wire() for text in texts)
    return RRset(names.from_text(owner), int(dns.rdatatype.from_text(rdtype)), int(ttl), rdatas)


def answer(*lines: str, rcode: int = 0, authority: tuple[str, ...] = (), **more: object) -> Answer:
    return Answer(rcode, tuple(map(rrset, lines)), tuple(map(rrset, authority)), **more)  # type: ignore[arg-type]


class Canned:
    """A stage that answers from a table, and remembers what it was asked."""

    def __init__(self) -> None:
        self.table: dict[Question, Answer | ResolveError | Callable[[Query], Answer]] = {}
        self.asked: list[Query] = []
        self.gate = trio.Event()
        self.gate.set()

    def on(self, name: str, reply: Answer | ResolveError | Callable[[Query], Answer], qtype: str = "A") -> Canned:
        self.table[question(name, qtype)] = reply
        return self

    async def resolve(self, query: Query) -> Answer:
        self.asked.append(query)
        await self.gate.wait()
        reply = self.table[query.question]
        if isinstance(reply, ResolveError):
            raise reply
        return reply(query) if callable(reply) else reply
