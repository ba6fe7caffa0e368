"""Every exception of the project. A ResolveError carries the RCODE and the extended error that the client is told."""

from __future__ import annotations

from dohproxy.model import Ede

SERVFAIL, REFUSED = 2, 5


class DohproxyError(Exception):
    """The base of all."""


class MalformedMessage(DohproxyError):
    """Bytes from the network that are not what they should be: the only error of functions named `*_untrusted`."""


class BadName(DohproxyError, ValueError):
    """A text that is no domain name (RFC 1035 2.3.4)."""


class ResolveError(DohproxyError):
    """No answer can be given. Its text is for a person and goes into the EDE."""

    rcode = SERVFAIL
    code = 0
    """EDE INFO-CODE (RFC 8914 4): 0 is Other Error."""

    @property
    def ede(self) -> Ede:
        return Ede(self.code, str(self))


class NoReachableUpstream(ResolveError):
    """No upstream could be reached, or none answered in time."""

    code = 22


class UpstreamFailed(ResolveError):
    """An upstream answered with an error, with garbage or to another question."""

    code = 23


class ValidationFailed(ResolveError):
    """The answer is bogus or indeterminate, or insecure where `require-secure` holds."""

    def __init__(self, ede: Ede) -> None:
        super().__init__(ede.text)
        self.code = ede.code


class CachedFailure(ResolveError):
    """This question failed a moment ago (RFC 9520)."""

    code = 13


class NotReady(ResolveError):
    """The proxy is starting or stopping."""

    code = 14


class Overloaded(ResolveError):
    """Too many questions are in flight."""

    code = 0


class BudgetExhausted(ResolveError):
    """The question would cost more than a client may make us spend."""

    code = 0
