"""Presentation text of what is on the wire (RFC 1035 5.1, RFC 3597 5), and back: for people, logs and configuration.

dnspython does the work and is imported when first asked; nothing here belongs on the path of a query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dohproxy.model import Ede, RRset
from dohproxy.wire import constants as c
from dohproxy.wire import names

if TYPE_CHECKING:
    import dns.rdata


def type_to_text(rdtype: int) -> str:
    """Such as `AAAA`, or `TYPE65280` where there is no mnemonic."""
    import dns.rdatatype  # noqa: PLC0415

    return dns.rdatatype.to_text(dns.rdatatype.RdataType.make(rdtype))


def type_from_text(text: str) -> int:
    """The RR type of a mnemonic in any case, or of `TYPEnnn`; raises ValueError, which says what is wrong."""
    import dns.exception  # noqa: PLC0415
    import dns.rdatatype  # noqa: PLC0415

    try:
        return int(dns.rdatatype.from_text(text))
    except (dns.exception.DNSException, ValueError):
        raise ValueError(f"{text!r} is no record type") from None


def class_to_text(rdclass: int) -> str:
    """Such as `IN`, or `CLASS42`."""
    import dns.rdataclass  # noqa: PLC0415

    return dns.rdataclass.to_text(dns.rdataclass.RdataClass.make(rdclass))


def rcode_to_text(rcode: int) -> str:
    """Such as `NXDOMAIN`, or `RCODE17`."""
    import dns.rcode  # noqa: PLC0415

    text = dns.rcode.to_text(dns.rcode.Rcode.make(rcode))
    return f"RCODE{text}" if text.isdigit() else text


def ede_to_text(ede: Ede) -> str:
    """Such as `EDE 7 (Signature Expired): RRSIG of …`."""
    name = c.EDE_NAMES[ede.code] if ede.code < len(c.EDE_NAMES) else "unassigned"
    return f"EDE {ede.code} ({name})" + (f": {ede.text}" if ede.text else "")


def rdata_to_text(rdtype: int, rdata: bytes, rdclass: int = c.IN) -> str:
    """RDATA as in a zone file; as `\\# length hex` (RFC 3597 5) if it is not what its type says it is."""
    import dns.exception  # noqa: PLC0415

    try:
        return _rdata(rdtype, rdata, rdclass).to_text()
    except (dns.exception.DNSException, ValueError):
        return f"\\# {len(rdata)} {rdata.hex()}".rstrip()


def _rdata(rdtype: int, rdata: bytes, rdclass: int) -> dns.rdata.Rdata:
    import dns.rdata  # noqa: PLC0415
    import dns.rdataclass  # noqa: PLC0415
    import dns.rdatatype  # noqa: PLC0415

    kind, family = dns.rdatatype.RdataType.make(rdtype), dns.rdataclass.RdataClass.make(rdclass)
    return dns.rdata.from_wire(family, kind, rdata, 0, len(rdata))


def rdata_from_text(rdtype: int, text: str) -> bytes:
    """The uncompressed RDATA of zone-file text in class IN; names are absolute, a final dot may be missing.

    Raises ValueError, which says what is wrong.
    """
    import dns.exception  # noqa: PLC0415
    import dns.name  # noqa: PLC0415
    import dns.rdata  # noqa: PLC0415
    import dns.rdataclass  # noqa: PLC0415
    import dns.rdatatype  # noqa: PLC0415

    kind = dns.rdatatype.RdataType.make(rdtype)
    try:
        rdata = dns.rdata.from_text(dns.rdataclass.IN, kind, text, origin=dns.name.root, relativize=False)
        return rdata.to_wire() or b""
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"{text!r} is no {type_to_text(rdtype)} record: {error}") from None


def rrset_to_lines(rrset: RRset) -> list[str]:
    """Each record in zone-file form, its signatures after it."""
    owner, rdclass = names.to_text(rrset.owner), class_to_text(rrset.rdclass)
    records = [(rrset.rdtype, rdata) for rdata in rrset.rdatas] + [(c.RRSIG, rdata) for rdata in rrset.signatures]
    return [
        f"{owner} {rrset.ttl} {rdclass} {type_to_text(rdtype)} {rdata_to_text(rdtype, rdata, rrset.rdclass)}"
        for rdtype, rdata in records
    ]
