"""The outcome of looking at denial records."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from dohproxy.model import Name, RRset


class ProofKind(Enum):
    """What was proven."""

    NXDOMAIN = "name does not exist"
    NODATA = "type does not exist"
    WILDCARD_NODATA = "type does not exist at the wildcard"
    NO_DS = "unsigned delegation"
    """NS without DS: what lies below is insecure."""
    NOT_A_CUT = "not a delegation"
    """The name has no NS RRset, is an empty non-terminal or does not exist: its zone is its parent's."""
    OPT_OUT = "opt-out"
    """Of prove_no_ds: the name lies in a span of unsigned delegations (RFC 5155 6); what lies there is insecure."""
    UNSUPPORTED = "unsupported iterations"
    """NSEC3 records ask for more iterations than we do: insecure, EDE 27 (RFC 9276 3.2). They are relayed all the same."""
    NONE = "nothing"
    """Nothing was proven: bogus, where something had to be."""


class Proof(Struct, frozen=True):
    """What denial records prove, why or why not, and on which RRsets that rests."""

    kind: ProofKind
    reason: str
    secure: bool = True
    """Whether AD may be set for it: not where opt-out was involved (RFC 5155 9.2)."""
    closest_encloser: Name | None = None
    """The longest ancestor of the name that exists, where the proof shows it."""
    used: tuple[RRset, ...] = ()

    @classmethod
    def none(cls, reason: str) -> Proof:
        """Nothing proven."""
        return cls(ProofKind.NONE, reason, secure=False)

    @property
    def proven(self) -> bool:
        """Whether anything was proven."""
        return self.kind not in (ProofKind.NONE, ProofKind.UNSUPPORTED)


NOTHING_TO_READ = Proof.none("no usable records")
"""The outcome where there was no record of the kind at all."""
