# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What every judgement goes through, compiled: names compared, signatures read, and put before what they are made over.

The twins are in `pure.py` and, of `plain_claim` and `plain_nxdomain`, in `signatures.py` and `nsec3.py`: these answer None for
whatever is not plain, flaws among it. Names are well-formed (RFC 1035 3.1), RDATA is as it came. Every read is within its
object.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from hashlib import sha1

from dohproxy.dnssec.budget import Cost
from dohproxy.dnssec.keys import Claim
from dohproxy.dnssec.proof import Proof, ProofKind

cdef enum:
    SIGNER = 18  # where the signer's name begins in the RDATA of an RRSIG
    MAX_NAME = 255
    FIXED = 10  # octets of a record between its owner and its RDATA
    MOST = 4096  # octets of RDATA: larger RRsets are none that is plain
    NSEC3 = 50
    DIGEST = 20  # octets of a hash, and its characters in base32hex
    CHARACTERS = 32
    RECORDS = 8  # of NSEC3: a proof takes three
    OPT_OUT = 1

cdef object NXDOMAIN = ProofKind.NXDOMAIN, HASHES = Cost.HASHES


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
    if later(<uint32_t>wall, four(at + 12)) < 0 or later(four(at + 8), <uint32_t>wall) < 0:
        return None
    if later(four(at + 8), four(at + 12)) < 0:
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


cdef struct Span:
    uint8_t owner[DIGEST]
    const uint8_t *next
    const uint8_t *types
    Py_ssize_t size
    bint opt_out


def plain_nxdomain(bytes qname not None, tuple proofs not None, bytes zone not None, int max_iterations, budget):
    """As prove_nonexistence in nsec3.py, where a few records of the same parameters prove that a name is not there; else None.

    The first signatures of these RRsets were verified. Raises BudgetExhausted.
    """
    cdef Span spans[RECORDS]
    cdef Hashing hashing
    cdef int number = 0, matching = -1, covering = -1, denied, here
    cdef Py_ssize_t at
    cdef bytes closer = qname, encloser, digest, wildcard
    if not 0 < len(proofs) <= RECORDS or not below(qname, zone):
        return None
    hashing = Hashing(proofs[0], max_iterations, budget)
    for rrset in proofs:
        if not read_span(rrset, zone, hashing, &spans[number]):
            return None
        number += 1
    digest = hashing.of(qname)
    if match(spans, number, octets(digest)) >= 0:
        return None
    for at in path(qname, zone):
        closer = qname[at:]
        digest = hashing.of(closer)
        here = match(spans, number, octets(digest))
        if here >= 0 and hides_below(&spans[here]):
            return None
        if here < 0 <= matching:
            covering = cover(spans, number, octets(digest))
            if covering >= 0:
                break
        matching = here
    if covering < 0:
        return None
    encloser = closer[octets(closer)[0] + 1 :]
    wildcard = b"\1*" + encloser
    digest = hashing.of(wildcard)
    denied = cover(spans, number, octets(digest))
    if denied < 0 or match(spans, number, octets(digest)) >= 0:
        return None
    used = [proofs[matching]]
    if covering != matching:
        used.append(proofs[covering])
    if denied != matching and denied != covering:
        used.append(proofs[denied])
    reason = "NSEC3 covers the name and its wildcard"
    if spans[covering].opt_out:
        return Proof(NXDOMAIN, reason + " (opt-out)", False, encloser, tuple(used))
    return Proof(NXDOMAIN, reason, True, encloser, tuple(used))


cdef class Hashing:
    """Hashes names as these records say, each paid for once: as Chain.hash."""

    cdef bytes salt
    cdef int iterations, most
    cdef object budget
    cdef dict hashes

    def __init__(self, rrset, int most, budget):
        cdef bytes rdata = rrset.rdatas[0] if rrset.rdatas else b""
        self.iterations = two(octets(rdata) + 2) if PyBytes_GET_SIZE(rdata) > 4 else 0
        self.salt = rdata[5 : 5 + octets(rdata)[4]] if PyBytes_GET_SIZE(rdata) > 4 else b""
        self.most, self.budget, self.hashes = most, budget, budget.hashes

    cdef bytes of(self, bytes name):
        key = (name, self.salt, self.iterations)
        digest = self.hashes.get(key)
        if digest is None:
            self.budget.spend(HASHES)
            digest = sha1(name + self.salt, usedforsecurity=False).digest()
            for _ in range(self.iterations):
                digest = sha1(digest + self.salt, usedforsecurity=False).digest()
            self.hashes[key] = digest
        return digest


cdef list path(bytes qname, bytes zone):
    """Where the names begin from the apex down to `qname`, which is it or below it."""
    cdef Py_ssize_t at = 0, apex = PyBytes_GET_SIZE(qname) - PyBytes_GET_SIZE(zone)
    cdef list found = [0]
    while at < apex:
        at += octets(qname)[at] + 1
        found.append(at)
    found.reverse()
    return found


cdef bint read_span(rrset, bytes zone, Hashing hashing, Span *span) except -1:
    """Whether this is one record of the zone with these parameters, as signed; then it is told."""
    cdef bytes owner = rrset.owner, rdata, signature
    cdef tuple rdatas = rrset.rdatas, signatures = rrset.signatures
    cdef Py_ssize_t size, at = 5 + PyBytes_GET_SIZE(hashing.salt)
    cdef const uint8_t *wire
    if rrset.rdtype != NSEC3 or len(rdatas) != 1 or not signatures:
        return False
    rdata, signature = rdatas[0], signatures[0]
    wire, size = octets(rdata), PyBytes_GET_SIZE(rdata)
    if PyBytes_GET_SIZE(signature) < SIGNER or octets(signature)[3] != labels_of(zone) + 1:
        return False
    if size < at + 1 + DIGEST or wire[0] != 1 or wire[1] & ~OPT_OUT or wire[at] != DIGEST:
        return False
    if two(wire + 2) != hashing.iterations or hashing.iterations > hashing.most:
        return False
    if wire[4] != at - 5 or rdata[5:at] != hashing.salt:
        return False
    if not read_owner(owner, zone, span.owner):
        return False
    span.opt_out = wire[1] & OPT_OUT
    span.next, span.types, span.size = wire + at + 1, wire + at + 1 + DIGEST, size - at - 1 - DIGEST
    return in_order(span.types, span.size)


cdef bint read_owner(bytes owner, bytes zone, uint8_t *digest) noexcept:
    """Whether the owner is a hash in base32hex, in lower case, right below the apex; then it is told."""
    cdef const uint8_t *at = octets(owner)
    cdef uint32_t bits = 0
    cdef int held = 0, i, value
    if PyBytes_GET_SIZE(owner) != 1 + CHARACTERS + PyBytes_GET_SIZE(zone) or at[0] != CHARACTERS:
        return False
    if memcmp(at + 1 + CHARACTERS, octets(zone), PyBytes_GET_SIZE(zone)):
        return False
    for i in range(1, 1 + CHARACTERS):
        value = at[i] - 48 if 48 <= at[i] <= 57 else at[i] - 87 if 97 <= at[i] <= 118 else -1
        if value < 0:
            return False
        bits, held = bits << 5 | value, held + 5
        if held >= 8:
            held -= 8
            digest[0] = bits >> held & 255
            digest += 1
    return True


cdef bint in_order(const uint8_t *types, Py_ssize_t size) noexcept:
    """As read_untrusted in bitmap.py."""
    cdef Py_ssize_t at = 0
    cdef int last = -1
    while at < size:
        if at + 2 > size or not 1 <= types[at + 1] <= 32 or types[at] <= last:
            return False
        last = types[at]
        at += 2 + types[at + 1]
    return at == size


cdef bint hides_below(const Span *span) noexcept:
    """As in bitmap.py: NS without SOA, or a DNAME."""
    return has(span, 39) or (has(span, 2) and not has(span, 6))


cdef bint has(const Span *span, int rdtype) noexcept:
    """Whether the bit of this type, of the first window, is set."""
    cdef int octet = rdtype >> 3
    return span.size > 0 and span.types[0] == 0 and octet < span.types[1] and span.types[2 + octet] & 128 >> (rdtype & 7)


cdef int match(const Span *spans, int number, const uint8_t *digest) noexcept:
    """Which of these matches this hash; -1 if none does."""
    cdef int i
    for i in range(number):
        if not memcmp(spans[i].owner, digest, DIGEST):
            return i
    return -1


cdef int cover(const Span *spans, int number, const uint8_t *digest) noexcept:
    """Which of these covers this hash, one without opt-out if there is one; -1 if none does."""
    cdef int i, found = -1
    cdef bint after, before
    for i in range(number):
        after = memcmp(spans[i].owner, digest, DIGEST) < 0
        before = memcmp(digest, spans[i].next, DIGEST) < 0
        if (after and before) if memcmp(spans[i].owner, spans[i].next, DIGEST) < 0 else (after or before):
            if not spans[i].opt_out:
                return i
            found = i if found < 0 else found
    return found
