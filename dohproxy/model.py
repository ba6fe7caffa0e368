"""The project's vocabulary: frozen values that every room shares, with the terms of RFC 9499 and RFC 4035."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from msgspec import Struct

Name = bytes
"""A domain name: uncompressed wire form (RFC 1035 3.1), in lower case unless said otherwise; the root is b"\\0"."""


class Question(Struct, frozen=True, gc=False):
    """What is asked. `qname` is in lower case; the case that the client used stays with its request."""

    qname: Name
    qtype: int
    qclass: int = 1


class RRset(Struct, array_like=True, frozen=True, gc=False):
    """The records of one owner, class and type, with the signatures that cover them (RFC 4035 2.2).

    `rdatas` are uncompressed and keep their case, without duplicates; `signatures` are the RDATA of the RRSIGs whose
    type covered is `rdtype`. RRSIGs that cover nothing beside them form an RRset of type RRSIG of their own. `ttl` is in
    seconds, as of its Answer's `born`.
    """

    owner: Name
    rdtype: int
    ttl: int
    rdatas: tuple[bytes, ...]
    signatures: tuple[bytes, ...] = ()
    rdclass: int = 1


class Ede(Struct, frozen=True, gc=False):
    """An extended DNS error (RFC 8914): its INFO-CODE, and a text for a person."""

    code: int
    text: str = ""


class Security(Enum):
    """What validation found (RFC 4035 4.3); UNCHECKED where it was not asked to look."""

    UNCHECKED = "unchecked"
    SECURE = "secure"
    INSECURE = "insecure"
    BOGUS = "bogus"
    INDETERMINATE = "indeterminate"


class Mode(Enum):
    """What is done with the finding: see docs/configuration.md, `dnssec.mode`."""

    REQUIRE_SECURE = "require-secure"
    VALIDATE = "validate"
    LOG_ONLY = "log-only"
    OFF = "off"


class Transport(Enum):
    """How a message travels, on either side."""

    UDP = "udp"
    TCP = "tcp"
    DOT = "tls"
    DOH = "https"
    DOH3 = "h3"
    DOQ = "quic"
    ODOH = "odoh"
    INTERNAL = "internal"


class Source(Enum):
    """Who made an answer."""

    UPSTREAM = "upstream"
    CACHE = "cache"
    LOCAL = "local"
    POLICY = "policy"
    SYNTHESIS = "synthesis"


class Attested(NamedTuple):
    """A client that has proven who it is by a certificate that was verified, and the address that it came from."""

    address: str
    identity: str
    """Its SPIFFE ID (`spiffe://…`), else `dns:` and a name of the certificate, else `subject:` and its subject (RFC 4514)."""


Peer = str | Attested
"""Whom a listener has before it: the IP address as text, of a client that is known by nothing else, or more."""


class Assurance(Enum):
    """How sure we are who a client is."""

    ATTESTED = "attested"
    """By a verified certificate."""
    INFERRED = "inferred"
    """From its address."""


class Client(Struct, frozen=True, gc=False):
    """Who asks: the address as text, how it came, and the policy group that the address or identity puts it in."""

    address: str
    transport: Transport
    group: str = "default"
    identity: str = ""
    """As in Attested; "" where only the address is known."""

    @property
    def assurance(self) -> Assurance:
        """How sure we are who this is."""
        return Assurance.ATTESTED if self.identity else Assurance.INFERRED


INTERNAL = Client("", Transport.INTERNAL)
"""The proxy itself: a validator's question, a prefetch, a probe."""


class Action(Enum):
    """What policy may decide."""

    ALLOW = "allow"
    LOG = "log"
    NXDOMAIN = "nxdomain"
    NODATA = "nodata"
    REFUSED = "refused"
    SINKHOLE = "sinkhole"
    DROP = "drop"


class Rule(Struct, frozen=True, gc=False):
    """The line of configuration, or of a list, that decided: its text as written and where it stands."""

    text: str
    where: str
    """Such as `group "payments", allow` or `list "ads"`."""
    file: str = ""
    line: int = 0


class Verdict(Struct, frozen=True, gc=False):
    """What policy says of a question or of an answer, and the rule that made it say so."""

    action: Action
    rule: Rule
    addresses: tuple[str, ...] = ()
    """For SINKHOLE: the addresses to answer with."""


class Link(Struct, frozen=True, gc=False):
    """One zone of a chain of trust: how its keys came to be trusted, or why the chain ends here as insecure."""

    zone: Name
    security: Security
    ds: RRset | None
    """The DS RRset from the parent (with its signatures); None at a trust anchor, or where its absence was proven."""
    dnskey: RRset | None
    """The zone's DNSKEY RRset with its signatures; None below an insecure delegation."""
    key_tag: int = 0
    """Of the key that signs the DNSKEY RRset and that the DS or anchor names; 0 where there is none."""
    algorithm: int = 0
    note: str = ""
    """In words: `trust anchor`, `DS 12345 matched`, `no DS, proven by NSEC3 opt-out`, …"""


class Attestation(Protocol):
    """A verdict with all that it rests on, ready to be written down: dohproxy.dnssec.evidence makes it."""

    @property
    def client(self) -> Client:
        """On whose behalf the verdict was made; INTERNAL for a renewal that nobody waits for."""
        ...

    @property
    def security(self) -> Security:
        """The verdict."""
        ...

    def written(self, time: float, address: str, verdict: Verdict | None) -> bytes:
        """The record as a line: made at this wall time, for a client told as this address, under this policy decision."""
        ...


class Answer(Struct, frozen=True, gc=False):
    """What a stage found: RFC 1035's sections, the verdict on them and where they came from."""

    rcode: int
    answer: tuple[RRset, ...] = ()
    authority: tuple[RRset, ...] = ()
    security: Security = Security.UNCHECKED
    ede: tuple[Ede, ...] = ()
    """Why it is not secure, is stale, was made up …: told to clients that use EDNS, the most telling first."""
    born: float = 0.0
    """The monotonic time, in seconds, from which the TTLs count down."""
    stale: bool = False
    """Past its TTL and served all the same (RFC 8767): every TTL is then told as `STALE_TTL`."""
    source: Source = Source.UPSTREAM
    upstream: str = ""
    """The name of the upstream that it came from, now or when it was cached; "" if from none."""
    transport: Transport | None = None
    """How it came from there."""
    verdict: Verdict | None = None
    """The policy decision that made or let through this answer; None if policy was not asked."""
    chain: tuple[Link, ...] = ()
    """The chain of trust, from the anchor down; () when unchecked."""
    agent: Name = b""
    """Whom the zone's servers want to be told of errors (RFC 9567 5); b"" if they do not say."""
    evidence: Attestation | None = None
    """Of the verdict, for the client on whose behalf it was made, where that is recorded."""


STALE_TTL = 30
"""Seconds (RFC 8767 4)."""


class Query(Struct, frozen=True, gc=False):
    """A question on its way through the stages.

    There is no DO bit here: DNSSEC records are always asked for, and left out of a reply that did not ask for them.
    """

    question: Question
    client: Client
    deadline: float
    """The monotonic time by which an answer or an error must be there."""
    cd: bool = False
    """Checking disabled (RFC 4035 3.2.2): skip validation. Such answers have a cache of their own."""
    avoid: tuple[str, ...] = ()
    """Names of upstreams that gave a bad answer to this question already: ask others first."""
    minimal: bool = False
    """Whether a made-up answer will do: of ANY, for those who do not validate (RFC 8482 4.2)."""
    begun: object = None
    """What was asked of an upstream already, to be taken up there: a resolve.selected.Begun."""


class Stage(Protocol):
    """One step of the path of a query, and also an upstream."""

    async def resolve(self, query: Query) -> Answer:
        """The answer; raises ResolveError, never returns None."""
        ...


class Outcome(Struct, frozen=True, gc=False):
    """What became of one query: what observers (logs, counters) are told."""

    question: Question | None
    """None where the query could not be read."""
    client: Client
    rcode: int
    """-1 where silence was the answer."""
    security: Security
    source: Source | None
    """None for an error."""
    verdict: Verdict | None
    ede: tuple[Ede, ...]
    upstream: str
    duration: float
    """Seconds from reading the query to having the reply."""
    size: int
    """Octets of the reply."""
    evidence: Attestation | None = None
    """What the verdict rests on, where one was made for this query and is to be recorded."""
