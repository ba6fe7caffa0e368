"""CNAME and DNAME records as links from name to name (RFC 1034 3.6.2, RFC 6672 2)."""

from __future__ import annotations

from dohproxy.errors import MalformedMessage
from dohproxy.model import Name, RRset
from dohproxy.wire import constants as c
from dohproxy.wire.names import MAX_LENGTH, is_below
from dohproxy.wire.rdata import names_in


def target_of(alias: RRset) -> Name:
    """Where a CNAME or DNAME leads, in lower case; raises MalformedMessage unless there is exactly one (RFC 2181 10.1)."""
    if len(alias.rdatas) != 1:
        raise MalformedMessage("there is more than one")
    return names_in(alias.rdtype, alias.rdatas[0])[0].lower()


def substituted(name: Name, owner: Name, target: Name) -> Name | None:
    """The name that a DNAME leads `name`, which lies below `owner`, to (RFC 6672 2.2); None if it would be too long."""
    result = name[: len(name) - len(owner)] + target
    return result if len(result) <= MAX_LENGTH else None


def dname_above(name: Name, section: tuple[RRset, ...]) -> RRset | None:
    """The first DNAME of the section that redirects the name."""
    return next((rrset for rrset in section if rrset.rdtype == c.DNAME and is_below(name, rrset.owner)), None)


def find(section: tuple[RRset, ...], owner: Name, rdtype: int) -> RRset | None:
    """The RRset of this owner and type."""
    return next((rrset for rrset in section if rrset.rdtype == rdtype and rrset.owner == owner), None)
