"""What is said of an answer once it was judged."""

from __future__ import annotations

from msgspec import Struct

from dohproxy.dnssec.chain import Need
from dohproxy.model import Ede, Link, Name, RRset, Security


class Judgement(Struct, frozen=True):
    """The verdict on an answer, why, and what of it may be relayed."""

    security: Security
    ede: tuple[Ede, ...]
    """Why it is not secure, the most telling first."""
    chain: tuple[Link, ...]
    """Every zone that it rests on, from the anchors down."""
    rcode: int
    """As answered, or as proven where that is less: an NXDOMAIN of a name that exists is NOERROR."""
    answer: tuple[RRset, ...]
    """The RRsets that answer the question, TTLs capped, others dropped; the whole section if bogus or indeterminate."""
    authority: tuple[RRset, ...]
    """The SOA and the denial records that the answer needs; likewise."""
    blame: tuple[Need, ...] = ()
    """The questions whose answers broke the chain, () if it was the answer itself: worth asking elsewhere."""
    aging: tuple[Name, ...] = ()
    """The zones whose trust will soon be over: a DNSKEY question, judged in a world that is `renewing`, renews it."""
