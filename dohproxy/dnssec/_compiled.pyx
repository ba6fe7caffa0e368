# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What every judgement goes through, compiled: names compared, signatures read, and put before what they are made over.

The twins are in `pure.py` and, of `plain_claim`, in `signatures.py`; it answers None for whatever is not plain, flaws among it.
Names are well-formed (RFC 1035 3.1), RDATA is as it came. Every read is within its object.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from dohproxy.dnssec.keys import Claim

cdef enum:
    SIGNER = 18  # where the signer's name begins in the RDATA of an RRSIG
    MAX_NAME = 255
    FIXED = 10  # octets of a record between its owner and its RDATA
    MOST = 4096  # octets of RDATA: larger RRsets are none that is plain


cdef inline int two(const uint8_t *at) noexcept:
    return at[0] << 8 | at[1]


cdef inline uint32_t four(const uint8_t *at) noexcept:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


cdef inline const uint8_t *octets(bytes value) noexcept:
    return <const uint8_t *>PyBytes_AS_STRING(value)


cdef void lower(uint8_t *at, Py_ssize_t size) noexcept:
    cdef Py_ssize_t i
    for i in range(size):
        at[i] |= 0x20 if 65 <= at[i] <= 90 else 0


cdef bint below(bytes name, bytes ancestor) noexcept:
    """As is_subdomain."""
    cdef Py_ssize_t cut = PyBytes_GET_SIZE(name) - PyBytes_GET_SIZE(ancestor), at = 0
    cdef const uint8_t *wire = octets(name)
    if cut < 0 or memcmp(wire + cut, octets(ancestor), PyBytes_GET_SIZE(ancestor)):
        return False
    while at < cut:
        at += wire[at] + 1
    return at == cut


cdef int labels_of(bytes name) noexcept:
    cdef Py_ssize_t at = 0, size = PyBytes_GET_SIZE(name)
    cdef int count = 0
    while at < size and octets(name)[at]:
        count += 1
        at += octets(name)[at] + 1
    return count


def is_subdomain(bytes name not None, bytes ancestor not None):
    """As its twin in names.py."""
    return below(name, ancestor)


def label_count(bytes name not None):
    """As its twin in names.py."""
    return labels_of(name)


cdef Py_ssize_t signer_end(bytes rdata) noexcept:
    """The offset after the signer's name; -1 if there is none."""
    cdef Py_ssize_t at = SIGNER, size = PyBytes_GET_SIZE(rdata)
    while at < size and octets(rdata)[at]:
        at += octets(rdata)[at] + 1
    return at + 1 if at < size and at - SIGNER < MAX_NAME else -1


def signer_in(bytes rdata not None):
    """As its twin."""
    cdef Py_ssize_t end = signer_end(rdata)
    cdef bytes signer
    if end < 0:
        return b""
    signer = PyBytes_FromStringAndSize(<char *>octets(rdata) + SIGNER, end - SIGNER)
    lower(<uint8_t *>PyBytes_AS_STRING(signer), end - SIGNER)
    return signer


def signer_above(tuple rrsets not None, bytes base not None):
    """As its twin."""
    cdef bytes found = None, signer
    for rrset in rrsets:
        for rdata in <tuple?>rrset.signatures:
            signer = signer_in(rdata)
            if signer and below(base, signer) and (found is None or len(signer) > len(found)):
                found = signer
    return found


def plain_claim(rrset, bytes rdata not None, bytes zone not None, ring, int64_t wall):
    """As claim_of, for what has no flaw and is dated well without any allowance."""
    cdef bytes owner = rrset.owner
    cdef int rdtype = rrset.rdtype, labels = labels_of(owner), signed
    cdef Py_ssize_t end = signer_end(rdata), size = PyBytes_GET_SIZE(rdata)
    cdef const uint8_t *at = octets(rdata)
    cdef int64_t ttl
    if end < 0 or two(at) != rdtype or signer_in(rdata) != zone or not below(owner, zone):
        return None
    if PyBytes_GET_SIZE(owner) > 2 and octets(owner)[0] == 1 and octets(owner)[1] == 42:
        labels -= 1
    signed = at[3]
    if signed > labels or signed < labels_of(zone):
        return None
    if later(four(at + 8), four(at + 12)) < 0 or later(<uint32_t>wall, four(at + 12)) < 0 or later(four(at + 8), <uint32_t>wall) < 0:
        return None
    keys = ring.find(two(at + 16), at[2])
    if not keys:
        return None
    data = signed_data(rrset, rdata, end, owner, labels_of(owner) - signed if signed < labels else 0)
    if data is None:
        return None
    ttl = min(<int64_t>rrset.ttl, <int64_t>four(at + 4), <int64_t>later(four(at + 8), <uint32_t>wall))
    return Claim(keys, PyBytes_FromStringAndSize(<char *>at + end, size - end), data, ttl, signed < labels)


cdef inline int32_t later(uint32_t one, uint32_t other) noexcept:
    """As serial_gap."""
    return <int32_t>(one - other)


cdef bytes signed_data(rrset, bytes rdata, Py_ssize_t end, bytes owner, int surplus):
    """As its twin; None for types with a layout that is not known here, and for RRsets that are large."""
    cdef tuple rdatas = rrset.rdatas
    cdef int rdtype = rrset.rdtype, rdclass = rrset.rdclass
    cdef uint8_t name[MAX_NAME + 2]
    cdef Py_ssize_t skip = 0, length = 0, total = 0
    cdef bytes out, one
    cdef list records = []
    cdef uint8_t *to
    if surplus:
        while surplus > 0:
            skip += octets(owner)[skip] + 1
            surplus -= 1
        name[0], name[1], length = 1, 42, 2
    if length + PyBytes_GET_SIZE(owner) - skip > MAX_NAME:
        return None
    memcpy(name + length, octets(owner) + skip, PyBytes_GET_SIZE(owner) - skip)
    length += PyBytes_GET_SIZE(owner) - skip
    for given in rdatas:
        one = canonical(rdtype, given)
        if one is None:
            return None
        records.append(one)
        total += PyBytes_GET_SIZE(one)
    if total > MOST:
        return None
    if len(records) > 1:
        records = sorted(set(records))
    out = PyBytes_FromStringAndSize(NULL, end + sizes(records) + len(records) * (length + FIXED))
    to = <uint8_t *>PyBytes_AS_STRING(out)
    memcpy(to, octets(rdata), end)
    lower(to + SIGNER, end - SIGNER)
    to += end
    for one in records:
        memcpy(to, name, length)
        to += length
        to[0], to[1], to[2], to[3] = rdtype >> 8, rdtype & 255, rdclass >> 8, rdclass & 255
        memcpy(to + 4, octets(rdata) + 4, 4)
        to[8], to[9] = PyBytes_GET_SIZE(one) >> 8 & 255, PyBytes_GET_SIZE(one) & 255
        memcpy(to + FIXED, octets(one), PyBytes_GET_SIZE(one))
        to += FIXED + PyBytes_GET_SIZE(one)
    return out


cdef Py_ssize_t sizes(list records):
    cdef Py_ssize_t total = 0
    for one in records:
        total += PyBytes_GET_SIZE(<bytes>one)
    return total


cdef bytes canonical(int rdtype, rdata):
    """As canonical_rdata; None for types whose names are not looked for here, and where there are none."""
    cdef Py_ssize_t at, size, start
    cdef int names
    cdef bytes given = <bytes?>rdata, lowered
    if rdtype == 6:
        at, names = 0, 2
    elif rdtype in (2, 5, 12, 39):
        at, names = 0, 1
    elif rdtype == 15:
        at, names = 2, 1
    elif rdtype == 33:
        at, names = 6, 1
    elif rdtype in (3, 4, 7, 8, 9, 14, 17, 18, 21, 24, 26, 30, 35, 36, 38, 46):
        return None
    else:
        return given
    size, start = PyBytes_GET_SIZE(given), at
    while names:
        while at < size and 0 < octets(given)[at] < 64:
            at += octets(given)[at] + 1
        if at >= size or octets(given)[at]:
            return None
        at += 1
        names -= 1
    lowered = PyBytes_FromStringAndSize(PyBytes_AS_STRING(given), size)
    lower(<uint8_t *>PyBytes_AS_STRING(lowered) + start, at - start)
    return lowered
