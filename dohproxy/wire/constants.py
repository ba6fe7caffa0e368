"""Numbers of the DNS: the registries of IANA's "Domain Name System (DNS) Parameters", as far as the project reads them.

RR types and classes stand as plain integers under their mnemonics; RCODEs, opcodes, header flags, EDNS options and
extended errors likewise.
"""

from __future__ import annotations

# RR types
A = 1
NS = 2
MD = 3
MF = 4
CNAME = 5
SOA = 6
MB = 7
MG = 8
MR = 9
NULL = 10
WKS = 11
PTR = 12
HINFO = 13
MINFO = 14
MX = 15
TXT = 16
RP = 17
AFSDB = 18
X25 = 19
ISDN = 20
RT = 21
NSAP = 22
NSAP_PTR = 23
SIG = 24
KEY = 25
PX = 26
GPOS = 27
AAAA = 28
LOC = 29
NXT = 30
SRV = 33
NAPTR = 35
KX = 36
CERT = 37
A6 = 38
DNAME = 39
OPT = 41
APL = 42
DS = 43
SSHFP = 44
IPSECKEY = 45
RRSIG = 46
NSEC = 47
DNSKEY = 48
DHCID = 49
NSEC3 = 50
NSEC3PARAM = 51
TLSA = 52
SMIMEA = 53
HIP = 55
CDS = 59
CDNSKEY = 60
OPENPGPKEY = 61
CSYNC = 62
ZONEMD = 63
SVCB = 64
HTTPS = 65
DSYNC = 66
SPF = 99
NID = 104
L32 = 105
L64 = 106
LP = 107
EUI48 = 108
EUI64 = 109
URI = 256
CAA = 257
AVC = 258
AMTRELAY = 260
RESINFO = 261
WALLET = 262
TA = 32768
DLV = 32769

# Meta-types and QTYPEs, which no zone has (RFC 6895 3.1)
TKEY = 249
TSIG = 250
IXFR = 251
AXFR = 252
MAILB = 253
MAILA = 254
ANY = 255

META_TYPES = range(128, 256)


def is_meta_type(rdtype: int) -> bool:
    """Whether no record of this type can be data of a zone: QTYPEs and meta-types (RFC 6895 3.1), and OPT."""
    return 128 <= rdtype <= 255 or rdtype in (0, OPT)


# Classes
IN = 1
CH = 3
HS = 4
CLASS_NONE = 254
CLASS_ANY = 255

# Opcodes
QUERY = 0
IQUERY = 1
STATUS = 2
NOTIFY = 4
UPDATE = 5
DSO = 6

# RCODEs; above 15 they need EDNS (RFC 6891 6.1.3)
NOERROR = 0
FORMERR = 1
SERVFAIL = 2
NXDOMAIN = 3
NOTIMP = 4
REFUSED = 5
YXDOMAIN = 6
YXRRSET = 7
NXRRSET = 8
NOTAUTH = 9
NOTZONE = 10
DSOTYPENI = 11
BADVERS = 16
BADCOOKIE = 23

# Header flags (RFC 1035 4.1.1, RFC 4035 3)
QR = 0x8000
AA = 0x0400
TC = 0x0200
RD = 0x0100
RA = 0x0080
AD = 0x0020
CD = 0x0010
OPCODE_MASK = 0x7800
OPCODE_SHIFT = 11
RCODE_MASK = 0x000F

DO = 0x8000
"""In the flags of an OPT record (RFC 3225)."""

# Sizes
HEADER_SIZE = 12
MAX_MESSAGE = 65535
MIN_PAYLOAD = 512
"""What every client takes over UDP (RFC 1035 4.2.1)."""
PAYLOAD_SIZE = 1232
"""What we take and send over UDP without fragments."""

# EDNS option codes
OPTION_LLQ = 1
OPTION_NSID = 3
OPTION_DAU = 5
OPTION_DHU = 6
OPTION_N3U = 7
OPTION_CLIENT_SUBNET = 8
OPTION_EXPIRE = 9
OPTION_COOKIE = 10
OPTION_TCP_KEEPALIVE = 11
OPTION_PADDING = 12
OPTION_CHAIN = 13
OPTION_KEY_TAG = 14
OPTION_EDE = 15
OPTION_REPORT_CHANNEL = 18
OPTION_ZONEVERSION = 19

# Extended DNS errors (RFC 8914 4, and the registry)
EDE_OTHER = 0
EDE_UNSUPPORTED_DNSKEY_ALGORITHM = 1
EDE_UNSUPPORTED_DS_DIGEST = 2
EDE_STALE_ANSWER = 3
EDE_FORGED = 4
EDE_INDETERMINATE = 5
EDE_BOGUS = 6
EDE_SIGNATURE_EXPIRED = 7
EDE_SIGNATURE_NOT_YET_VALID = 8
EDE_DNSKEY_MISSING = 9
EDE_RRSIGS_MISSING = 10
EDE_NO_ZONE_KEY_BIT = 11
EDE_NSEC_MISSING = 12
EDE_CACHED_ERROR = 13
EDE_NOT_READY = 14
EDE_BLOCKED = 15
EDE_CENSORED = 16
EDE_FILTERED = 17
EDE_PROHIBITED = 18
EDE_STALE_NXDOMAIN = 19
EDE_NOT_AUTHORITATIVE = 20
EDE_NOT_SUPPORTED = 21
EDE_NO_REACHABLE_AUTHORITY = 22
EDE_NETWORK_ERROR = 23
EDE_INVALID_DATA = 24
EDE_SIGNATURE_EXPIRED_BEFORE_VALID = 25
EDE_TOO_EARLY = 26
EDE_UNSUPPORTED_NSEC3_ITERATIONS = 27
EDE_UNABLE_TO_CONFORM = 28
EDE_SYNTHESIZED = 29
EDE_INVALID_QUERY_TYPE = 30

EDE_NAMES = (
    "Other Error",
    "Unsupported DNSKEY Algorithm",
    "Unsupported DS Digest Type",
    "Stale Answer",
    "Forged Answer",
    "DNSSEC Indeterminate",
    "DNSSEC Bogus",
    "Signature Expired",
    "Signature Not Yet Valid",
    "DNSKEY Missing",
    "RRSIGs Missing",
    "No Zone Key Bit Set",
    "NSEC Missing",
    "Cached Error",
    "Not Ready",
    "Blocked",
    "Censored",
    "Filtered",
    "Prohibited",
    "Stale NXDOMAIN Answer",
    "Not Authoritative",
    "Not Supported",
    "No Reachable Authority",
    "Network Error",
    "Invalid Data",
    "Signature Expired before Valid",
    "Too Early",
    "Unsupported NSEC3 Iterations Value",
    "Unable to conform to policy",
    "Synthesized",
    "Invalid Query Type",
)
"""By INFO-CODE."""
