"""A handful of questions to the lab, what a validating proxy must make of each, and a table of what it made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
from dns.edns import EDEOption
from dns.message import Message
from msgspec import Struct

PATIENCE = 10.0
"""Seconds that one answer may take."""


class Sample(Struct, frozen=True):
    """A question and what has to come of it; `ede` are the codes one of which is to be the first, () is any or none."""

    what: str
    name: str
    rdtype: str = "A"
    rcode: str = "NOERROR"
    ad: bool = False
    ede: tuple[int, ...] = ()
    tcp: bool = False
    """Whether the answer is too large for UDP."""


SAMPLES = (
    Sample("secure, RSA", "www.rsa.lab", ad=True),
    Sample("secure, P-256", "www.ecdsa.lab", "AAAA", ad=True),
    Sample("secure, Ed25519", "www.ed25519.lab", ad=True),
    Sample("secure, aliases across zones", "far.ecdsa.lab", ad=True),
    Sample("secure, DNAME", "host.old.rsa.lab", ad=True),
    Sample("secure, from a wildcard", "any.wild.ecdsa.lab", ad=True),
    Sample("secure, large: by TCP", "large.ed25519.lab", "TXT", ad=True, tcp=True),
    Sample("no such name, NSEC", "nothing.rsa.lab", rcode="NXDOMAIN", ad=True),
    Sample("no such name, NSEC3", "nothing.ecdsa.lab", rcode="NXDOMAIN", ad=True),
    Sample("no such type, NSEC3", "www.ecdsa.lab", "MX", ad=True),
    Sample("insecure, below opt-out", "www.insecure.lab"),
    Sample("insecure, below NSEC3", "www.insecure.ecdsa.lab"),
    Sample("secure alias to insecure", "out.ecdsa.lab"),
    Sample("bogus: expired", "expired.bogus.lab", rcode="SERVFAIL", ede=(7,)),
    Sample("bogus: not yet valid", "notyet.bogus.lab", rcode="SERVFAIL", ede=(8,)),
    Sample("bogus: a bit flipped", "flipped.bogus.lab", rcode="SERVFAIL", ede=(6,)),
    Sample("bogus: no signature", "unsigned.bogus.lab", rcode="SERVFAIL", ede=(10,)),
    Sample("bogus: wrong DS", "www.wrongds.lab", rcode="SERVFAIL", ede=(6, 9)),
    Sample("bogus: denial without proof", "nothing.nodenial.lab", rcode="SERVFAIL", ede=(12,)),
    Sample("bogus, behind an alias", "stray.ecdsa.lab", rcode="SERVFAIL", ede=(7,)),
    Sample("blocked by a list", "ads.lab", rcode="NXDOMAIN", ede=(15,)),
    Sample("blocked behind an alias", "cloaked.ecdsa.lab", rcode="NXDOMAIN", ede=(15,)),
    Sample("rebinding: a private address", "rebind.lab", rcode="NXDOMAIN", ede=(15,)),
    Sample("special use", "localhost"),
    Sample("special use", "use-application-dns.net", rcode="NXDOMAIN"),
)


class Result(Struct, frozen=True):
    """What came of a sample; `rcode` is "timeout" where nothing did."""

    sample: Sample
    rcode: str
    ad: bool = False
    ede: tuple[tuple[int, str], ...] = ()
    tcp: bool = False

    @property
    def right(self) -> bool:
        """Whether it is what it has to be."""
        wanted = self.sample
        ede = not wanted.ede or (bool(self.ede) and self.ede[0][0] in wanted.ede)
        return ede and (self.rcode, self.ad, self.tcp) == (wanted.rcode, wanted.ad, wanted.tcp)


async def ask(sample: Sample, port: int) -> Result:
    """What the proxy on 127.0.0.1 answers: by UDP, then by TCP if it says that UDP is too small."""
    query = dns.message.make_query(sample.name, sample.rdtype, use_edns=0, payload=1232)
    query.flags |= dns.flags.AD
    try:
        answer, tcp = await dns.asyncquery.udp_with_fallback(query, "127.0.0.1", PATIENCE, port)
    except dns.exception.Timeout:
        return Result(sample, "timeout")
    return Result(sample, dns.rcode.to_text(answer.rcode()), bool(answer.flags & dns.flags.AD), extended_errors(answer), tcp)


def extended_errors(message: Message) -> tuple[tuple[int, str], ...]:
    """Codes and texts of the extended errors (RFC 8914), in their order."""
    return tuple((int(option.code), option.text or "") for option in message.options if isinstance(option, EDEOption))


ROW = "{:3} {:25} {:28} {:9} {:3} {}"


def table(results: Iterable[Result], width: int) -> Iterator[str]:
    """The lines of a table of results, none longer than `width` columns."""
    yield _cut(ROW.format("", "question", "what it is", "rcode", "AD", "extended error"), width)
    for result in results:
        mark = "ok" if result.right else "NO"
        question = f"{result.sample.name} {result.sample.rdtype}"
        errors = "; ".join(f"{code}: {text}" if text else str(code) for code, text in result.ede)
        if not result.right:
            errors = f"[should be {result.sample.rcode}{' AD' if result.sample.ad else ''}] {errors}"
        row = (mark, question, result.sample.what, result.rcode, "AD" if result.ad else "", errors)
        yield _cut(ROW.format(*row).rstrip(), width)


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 1] + "…"
