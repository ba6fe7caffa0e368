"""Every exception of the project. A ResolveError carries the RCODE and the extended error that the client is told."""

from __future__ import annotations

from msgspec import Struct

from dohproxy.model import Answer, Attestation, Ede, Link, Security

SERVFAIL, REFUSED = 2, 5


class DohproxyError(Exception):
    """The base of all."""


class MalformedMessage(DohproxyError):
    """Bytes from the network that are not what they should be: the only error of functions named `*_untrusted`."""


class BadName(DohproxyError, ValueError):
    """A text that is no domain name (RFC 1035 2.3.4)."""


class Problem(Struct, frozen=True):
    """One thing wrong with a configuration: where it stands, what it is, and the way out."""

    file: str
    line: int
    """0 where it belongs to no line."""
    key: str
    """Such as `upstream[1].url`; "" for the file as a whole."""
    message: str
    allowed: str = ""
    """What may stand there."""
    nearest: str = ""
    """The correct key or word that is most like the one written."""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        hints = [f"allowed: {self.allowed}"] * bool(self.allowed) + [f"did you mean {self.nearest}?"] * bool(self.nearest)
        return ": ".join(part for part in (where, self.key, self.message) if part) + "".join(f"; {hint}" for hint in hints)


class ConfigError(DohproxyError):
    """A configuration that cannot be used, with everything that is wrong with it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ResolveError(DohproxyError):
    """No answer can be given. Its text is for a person and goes into the EDE."""

    rcode = SERVFAIL
    code = 0
    """EDE INFO-CODE (RFC 8914 4): 0 is Other Error."""

    security = Security.UNCHECKED
    """What validation found, where that is the cause."""
    chain: tuple[Link, ...] = ()
    """How far the chain of trust was followed, where that is the cause."""
    evidence: Attestation | None = None
    """What that finding rests on, where it is recorded."""
    refused: Answer | None = None
    """The answer that was not good enough, where that is the cause."""

    @property
    def edes(self) -> tuple[Ede, ...]:
        """What the client is told, the most telling first."""
        return (Ede(self.code, str(self)),)


class NotServed(ResolveError):
    """The client is none of those that may ask."""

    rcode = REFUSED
    code = 18


class NoReachableUpstream(ResolveError):
    """No upstream could be reached, or none answered in time."""

    code = 22


class NoHandshake(NoReachableUpstream):
    """An upstream is there, and one side does not take the other for whom it should be: the text says which, and why."""


class UpstreamFailed(ResolveError):
    """An upstream answered with an error, with garbage or to another question."""

    code = 23


class Disconnected(UpstreamFailed):
    """The connection ended before the answer came: not yet a word against the upstream, ask it once more."""


class ValidationFailed(ResolveError):
    """The answer is bogus or indeterminate, or insecure where `require-secure` holds."""

    def __init__(self, ede: tuple[Ede, ...], refused: Answer) -> None:
        super().__init__(ede[0].text)
        self._edes, self.refused = ede, refused
        self.security, self.chain, self.evidence = refused.security, refused.chain, refused.evidence

    @property
    def edes(self) -> tuple[Ede, ...]:
        """As validation gave them."""
        return self._edes


class CachedFailure(ResolveError):
    """This question failed a moment ago, for the reasons given, and is not asked again so soon (RFC 9520)."""

    code = 13

    def __init__(self, reasons: tuple[Ede, ...]) -> None:
        super().__init__("it failed a moment ago")
        self._reasons = reasons

    @property
    def edes(self) -> tuple[Ede, ...]:
        """Why it failed, and that this was not tried again."""
        return (*self._reasons, Ede(self.code, str(self)))


class SentinelFailed(ResolveError):
    """A name asked whether a key of the root is trusted, and this is how it is told (RFC 8509 3)."""

    code = 0


class NotReady(ResolveError):
    """The proxy is starting or stopping."""

    code = 14


class Overloaded(ResolveError):
    """Too many questions wait at an upstream: it does not keep up."""

    code = 23


class BudgetExhausted(ResolveError):
    """The question would cost more than a client may make us spend."""

    code = 0
