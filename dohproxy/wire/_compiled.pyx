# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""What every miss goes through, compiled: requests and replies of the ordinary kind read, ordinary answers written.

Each function answers None for whatever is not ordinary, malformed messages among it: then its twin in `request.py`,
`message.py`, `answers.py` or `reply.py` decides. What it does answer is what the twin would, octet for octet. Every read is
within the message, every write within the buffer.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy, memset

from dohproxy.model import Answer, Question, RRset, Security
from dohproxy.wire.message import Edns, Message
from dohproxy.wire.negative import negative_ttl
from dohproxy.wire.reply import Reply
from dohproxy.wire.request import Request

cdef enum:
    HEADER = 12
    MAX_NAME = 255
    POINTERS = 127
    RECORDS = 256
    SIZE = 4096
    NAMES = 128
    OPT = 41
    CNAME = 5
    SOA = 6
    DNAME = 39
    NSEC = 47
    NSEC3 = 50
    RRSIG = 46
    ANY = 255
    FOREVER = 0x7FFFFFFF
    PAYLOAD = 1232
    PACKED = 24  # octets of HEAD in core/finished.py
    ODD = -2  # of layouts: none that is read here
    ALL = -1  # of layouts: any number of octets

SECURE = Security.SECURE


cdef struct Layout:  # octets before the names, names, octets after them
    int head
    int names
    int tail


cdef Layout layout_of(int rdtype) noexcept:
    """As _LAYOUTS of rdata.py; no names and `ALL` for types that have none."""
    cdef Layout none = Layout(0, 0, ALL), name = Layout(0, 1, 0), odd = Layout(0, 0, ODD)
    if rdtype in (2, 3, 4, 5, 7, 8, 9, 12, 39):
        return name
    if rdtype == SOA:
        return Layout(0, 2, 20)
    if rdtype == 15:
        return Layout(2, 1, 0)
    if rdtype == RRSIG:
        return Layout(18, 1, ALL)
    if rdtype == NSEC:
        return Layout(0, 1, ALL)
    if rdtype == 33:
        return Layout(6, 1, 0)
    if rdtype in (14, 17, 18, 21, 24, 26, 30, 35, 36, 38):
        return odd
    return none


cdef inline int two(const uint8_t *at) noexcept:
    return at[0] << 8 | at[1]


cdef inline uint32_t four(const uint8_t *at) noexcept:
    return <uint32_t>at[0] << 24 | <uint32_t>at[1] << 16 | <uint32_t>at[2] << 8 | at[3]


cdef Py_ssize_t plain_name(const uint8_t *wire, Py_ssize_t at, Py_ssize_t size) noexcept:
    """The offset after an uncompressed name; -1 if there is none."""
    cdef Py_ssize_t start = at
    while at < size and wire[at]:
        if wire[at] > 63:
            return -1
        at += wire[at] + 1
    return at + 1 if at < size and at + 1 - start <= MAX_NAME else -1


cdef inline bint is_name(bytes name) noexcept:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(name)
    return plain_name(<const uint8_t *>PyBytes_AS_STRING(name), 0, size) == size


cdef class _Reader:
    """A message that is being read; `at` is -1 once it turned out not to be ordinary."""

    cdef bytes message, qname
    cdef const uint8_t *wire
    cdef Py_ssize_t size, at
    cdef uint8_t name[MAX_NAME + 1]
    cdef Py_ssize_t length
    cdef list reached
    """The name asked for, and where the aliases lead that were read."""
    cdef bint astray
    """Whether a record was read of none of these names, of another class than was asked for, or a DNAME."""

    cdef bint read_name(self, Py_ssize_t at) noexcept:
        """Put the name at this offset into `name`, and the offset after it into `at`."""
        cdef Py_ssize_t start = at, after = -1, length, target
        cdef int pointers = 0
        self.length = 0
        while True:
            if at >= self.size:
                return False
            length = self.wire[at]
            if length == 0:
                break
            if length < 64:
                if at + 1 + length > self.size or self.length + 1 + length >= MAX_NAME:
                    return False
                memcpy(self.name + self.length, self.wire + at, length + 1)
                self.length += length + 1
                at += length + 1
                continue
            if at + 2 > self.size:
                return False
            target = two(self.wire + at) - 0xC000
            pointers += 1
            if not HEADER <= target < start or pointers >= POINTERS:
                return False
            if after < 0:
                after = at + 2
            start = at = target
        self.name[self.length] = 0
        self.length += 1
        self.at = after if after >= 0 else at + 1
        return True

    cdef bytes owner(self):
        """The name at `at`, in lower case; None if there is none."""
        cdef Py_ssize_t i
        if self.at + 2 <= self.size and self.wire[self.at] == 0xC0 and self.wire[self.at + 1] == HEADER:
            self.at += 2
            return self.qname
        if not self.read_name(self.at):
            return None
        for i in range(self.length):
            if 65 <= self.name[i] <= 90:
                self.name[i] |= 0x20
        return PyBytes_FromStringAndSize(<char *>self.name, self.length)

    cdef bytes rdata(self, int rdtype, Py_ssize_t at, Py_ssize_t end):
        """The RDATA, its names uncompressed; None if it is not what its type needs."""
        cdef Layout layout = layout_of(rdtype)
        cdef uint8_t out[600]
        cdef Py_ssize_t written = layout.head
        cdef int i
        if layout.tail == ODD or (rdtype == 1 and end - at != 4) or (rdtype == 28 and end - at != 16):
            return None
        if layout.names == 0:
            return PyBytes_FromStringAndSize(<char *>self.wire + at, end - at)
        if at + layout.head > end:
            return None
        memcpy(out, self.wire + at, layout.head)
        at += layout.head
        for i in range(layout.names):
            if not self.read_name(at):
                return None
            memcpy(out + written, self.name, self.length)
            written += self.length
            at = self.at
        if at > end or (layout.tail != ALL and end - at != layout.tail):
            return None
        return PyBytes_FromStringAndSize(<char *>out, written) + PyBytes_FromStringAndSize(<char *>self.wire + at, end - at)

    cdef tuple section(self, int count, int qclass):
        """So many records, as RRsets with their signatures; None if they are not ordinary."""
        cdef list owners = [], rdatas = [], signatures = []
        cdef int types[RECORDS]
        cdef int classes[RECORDS]
        cdef uint32_t ttls[RECORDS]
        cdef int i, k, rdtype, wanted, rdclass, sets = 0
        cdef uint32_t ttl
        cdef Py_ssize_t start, end
        cdef bytes owner, rdata
        cdef list found
        if count > RECORDS:
            return None
        for i in range(count):
            owner = self.owner()
            if owner is None or self.at + 10 > self.size:
                return None
            rdtype, rdclass = two(self.wire + self.at), two(self.wire + self.at + 2)
            ttl, end = four(self.wire + self.at + 4), two(self.wire + self.at + 8)
            start = self.at + 10
            end += start
            if ttl > 0x7FFFFFFF:
                ttl = 0
            if end > self.size or rdtype == OPT or (rdtype == RRSIG and end - start < 2):
                return None
            rdata = self.rdata(rdtype, start, end)
            if rdata is None:
                return None
            self.at = end
            wanted = two(self.wire + start) if rdtype == RRSIG else rdtype
            for k in range(sets):
                if types[k] == wanted and classes[k] == rdclass and <bytes>owners[k] == owner:
                    break
            else:
                k = sets
            if k == sets:
                if rdtype == RRSIG or wanted == RRSIG:
                    return None
                types[k], classes[k], ttls[k] = rdtype, rdclass, ttl
                owners.append(owner)
                rdatas.append([rdata])
                signatures.append([])
                sets += 1
                if rdclass != qclass or rdtype == DNAME or owner is not self.qname and owner not in self.reached:
                    self.astray = True
                if rdtype == CNAME:
                    self.reached.append(rdata.lower())
                continue
            found = <list>signatures[k] if rdtype == RRSIG else <list>rdatas[k]
            if rdata in found:
                return None
            found.append(rdata)
            ttls[k] = min(ttls[k], ttl)
        return tuple([
            RRset(owners[k], types[k], ttls[k], tuple(<list>rdatas[k]), tuple(<list>signatures[k]), classes[k])
            for k in range(sets)
        ])

    cdef tuple options(self, Py_ssize_t at, Py_ssize_t end):
        """EDNS options; None if they are malformed."""
        cdef list found = []
        cdef int code, length
        while at < end:
            if end - at < 4:
                return None
            code, length = two(self.wire + at), two(self.wire + at + 2)
            at += 4 + length
            if at > end:
                return None
            found.append((code, PyBytes_FromStringAndSize(<char *>self.wire + at - length, length)))
        return tuple(found)

    cdef object edns(self):
        """The OPT record that is the last, and all there is; None if there is none."""
        cdef Py_ssize_t at = self.at
        cdef uint32_t ttl
        cdef tuple options
        if at + 11 > self.size or self.wire[at] or two(self.wire + at + 1) != OPT:
            return None
        if at + 11 + two(self.wire + at + 9) != self.size:
            return None
        options = self.options(at + 11, self.size)
        if options is None:
            return None
        ttl = four(self.wire + at + 5)
        self.at = self.size
        return Edns(two(self.wire + at + 3), ttl >> 16 & 0xFF, (ttl & 0x8000) != 0, options)


cdef _Reader reader(bytes wire):
    """Set to read what follows a question section of one plain name; None if there is none."""
    cdef _Reader made = _Reader.__new__(_Reader)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(wire), end
    cdef const uint8_t *octets = <const uint8_t *>PyBytes_AS_STRING(wire)
    if size < HEADER + 5 or two(octets + 4) != 1:
        return None
    end = plain_name(octets, HEADER, size)
    if end < 0 or end + 4 > size:
        return None
    made.message, made.wire, made.size, made.at = wire, octets, size, end + 4
    made.qname = PyBytes_FromStringAndSize(<char *>octets + HEADER, end - HEADER).lower()
    made.reached = [made.qname]
    return made


def ordinary_request(bytes wire not None):
    """As parse_request_untrusted."""
    cdef _Reader read = reader(wire)
    cdef const uint8_t *octets
    cdef Py_ssize_t end
    edns = None
    if read is None:
        return None
    octets, end = read.wire, read.at - 4
    if octets[2] & 0xF8 or memcmp(octets + 6, b"\0\0\0\0\0", 5) or octets[11] > 1:
        return None
    if octets[11]:
        edns = read.edns()
        if edns is None or octets[end + 4 + 6]:
            return None
    if read.at != read.size:
        return None
    return Request(
        two(octets),
        two(octets + 2),
        PyBytes_FromStringAndSize(<char *>octets + HEADER, end - HEADER),
        Question(read.qname, two(octets + end), two(octets + end + 2)),
        edns,
    )


def ordinary_message(bytes wire not None):
    """As parse_message_untrusted."""
    cdef _Reader read = reader(wire)
    cdef const uint8_t *octets
    cdef Py_ssize_t end, at
    cdef int rdclass, high = 0
    edns = None
    if read is None or two(read.wire + 10) > 1:
        return None
    octets, end = read.wire, read.at - 4
    rdclass = two(octets + end + 2)
    answer = read.section(two(octets + 6), rdclass)
    if answer is None:
        return None
    authority = read.section(two(octets + 8), rdclass)
    if authority is None:
        return None
    if octets[11]:
        at = read.at
        edns = read.edns()
        if edns is None:
            return None
        high = octets[at + 5]
    if read.at != read.size:
        return None
    question = Question(read.qname, two(octets + end), rdclass)
    return Message(two(octets), two(octets + 2), high << 4 | octets[3] & 15, question, answer, authority, (), edns)


def ordinary_answer(bytes wire not None, upstream, transport, born):
    """As answer_from, for what is said of the name that was asked for and of its aliases, with nothing told beside it."""
    cdef _Reader read = reader(wire)
    cdef const uint8_t *octets
    cdef Py_ssize_t end
    cdef int rdclass, code
    if read is None or read.wire[2] & 2 or two(read.wire + 10) > 1:
        return None
    octets, end = read.wire, read.at - 4
    rdclass = two(octets + end + 2)
    answer = read.section(two(octets + 6), rdclass)
    if answer is None or read.astray:
        return None
    authority = read.section(two(octets + 8), rdclass)
    if authority is None:
        return None
    if octets[11] and not only_padded(octets, read.at, read.size):
        return None
    if not octets[11] and read.at != read.size:
        return None
    return Answer(octets[3] & 15, answer, authority, born=born, upstream=upstream, transport=transport)


cdef bint only_padded(const uint8_t *wire, Py_ssize_t at, Py_ssize_t size) noexcept:
    """Whether an OPT record without an extended RCODE ends the message, with no option but padding (RFC 7830)."""
    if at + 11 > size or wire[at] or two(wire + at + 1) != OPT or wire[at + 5] or at + 11 + two(wire + at + 9) != size:
        return False
    at += 11
    if at == size:
        return True
    return at + 4 <= size and two(wire + at) == 12 and at + 4 + two(wire + at + 2) == size


cdef class _Writer:
    """A message in the making: as its twin in reply.py."""

    cdef uint8_t out[SIZE]
    cdef Py_ssize_t size
    cdef bytes qname
    cdef const uint8_t *names[NAMES]
    cdef Py_ssize_t lengths[NAMES]
    cdef uint16_t offsets[NAMES]
    cdef int known
    cdef list ttl_offsets
    cdef uint32_t ttl
    cdef Py_ssize_t opt_at

    cdef bint put(self, const uint8_t *octets, Py_ssize_t size) noexcept:
        if self.size + size > SIZE:
            return False
        memcpy(self.out + self.size, octets, size)
        self.size += size
        return True

    cdef bint put_two(self, int value) noexcept:
        cdef uint8_t octets[2]
        octets[0], octets[1] = value >> 8 & 255, value & 255
        return self.put(octets, 2)

    cdef bint remember(self, const uint8_t *name, Py_ssize_t length, Py_ssize_t offset) noexcept:
        if self.known == NAMES:
            return False
        self.names[self.known], self.lengths[self.known], self.offsets[self.known] = name, length, offset
        self.known += 1
        return True

    cdef bint remember_question(self) noexcept:
        cdef const uint8_t *name = <const uint8_t *>PyBytes_AS_STRING(self.qname)
        cdef Py_ssize_t at = 0, length = PyBytes_GET_SIZE(self.qname)
        while name[at]:
            if not self.remember(name + at, length - at, HEADER + at):
                return False
            at += name[at] + 1
        return True

    cdef bint put_name(self, const uint8_t *name, Py_ssize_t length) noexcept:
        """Write a name, which is well-formed and outlives the writer, compressed."""
        cdef Py_ssize_t at = 0, start = self.size
        cdef int i
        if not self.known and not self.remember_question():
            return False
        while name[at]:
            for i in range(self.known):
                if self.lengths[i] == length - at and memcmp(self.names[i], name + at, length - at) == 0:
                    return self.put(name, at) and self.put_two(0xC000 | self.offsets[i])
            if start + at < 0x4000 and not self.remember(name + at, length - at, start + at):
                return False
            at += name[at] + 1
        return self.put(name, length)

    cdef bint put_rdata(self, int rdtype, bytes rdata) noexcept:
        """Write the RDATA, its names compressed if they may be."""
        cdef const uint8_t *octets = <const uint8_t *>PyBytes_AS_STRING(rdata)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(rdata), at, end
        cdef Layout layout = layout_of(rdtype)
        cdef int i
        if rdtype == 14:  # MINFO
            return False
        if not (rdtype in (2, 3, 4, 5, 7, 8, 9, 12) or rdtype == SOA or rdtype == 15):
            return self.put(octets, size)
        at = layout.head
        if at > size or not self.put(octets, at):
            return False
        for i in range(layout.names):
            end = plain_name(octets, at, size)
            if end < 0 or not self.put_name(octets + at, end - at):
                return False
            at = end
        return self.put(octets + at, size - at)

    cdef bint put_record(self, bytes owner, int rdtype, int rdclass, uint32_t ttl, bytes rdata) except -1:
        cdef Py_ssize_t at
        cdef const uint8_t *name = <const uint8_t *>PyBytes_AS_STRING(owner)
        if PyBytes_GET_SIZE(owner) > 1 and owner == self.qname:
            if not self.put(b"\xc0\x0c", 2):
                return False
        elif not is_name(owner):
            return False
        elif not self.put_name(name, PyBytes_GET_SIZE(owner)):
            return False
        at = self.size
        if at + 10 > SIZE:
            return False
        self.put_two(rdtype)
        self.put_two(rdclass)
        self.ttl_offsets.append(self.size)
        self.put_two(ttl >> 16)
        self.put_two(ttl & 0xFFFF)
        self.size += 2
        if not self.put_rdata(rdtype, rdata):
            return False
        self.out[at + 8], self.out[at + 9] = (self.size - at - 10) >> 8, (self.size - at - 10) & 255
        self.ttl = min(self.ttl, ttl)
        return True

    cdef int add(self, rrset, uint32_t ttl, bint signed) except -2:
        """Write the records, with their signatures if wanted: how many those were; -1 if they are not ordinary."""
        cdef bytes owner = rrset.owner
        cdef int rdtype = rrset.rdtype, rdclass = rrset.rdclass, count = 0
        if rdtype == RRSIG and not signed:
            return 0
        for rdata in <tuple>rrset.rdatas:
            if not self.put_record(owner, rdtype, rdclass, ttl, rdata):
                return -1
            count += 1
        if signed:
            for rdata in <tuple>rrset.signatures:
                if not self.put_record(owner, RRSIG, rdclass, ttl, rdata):
                    return -1
                count += 1
        return count


cdef _Writer written_reply(answer, request, int payload_size):
    """The reply of compile_reply, for answers with nothing told beside them; None for others."""
    question, edns = request.question, request.edns
    cdef int rcode = answer.rcode, qtype = question.qtype, flags = request.flags, answers = 0, authorities = 0, count, rdtype
    cdef bint do = edns is not None and edns.do, has = False, negative
    cdef bint signed = do or qtype == RRSIG or qtype == ANY
    cdef bytes asked = request.qname
    cdef _Writer writer
    cdef Py_ssize_t opt_at
    cdef uint32_t ttl
    if rcode > 15 or answer.stale or (edns is not None and answer.ede):
        return None
    if not is_name(asked) or not is_name(question.qname):
        return None
    writer = _Writer.__new__(_Writer)
    writer.size, writer.qname, writer.ttl, writer.ttl_offsets = HEADER, question.qname, FOREVER, []
    writer.put(<const uint8_t *>PyBytes_AS_STRING(asked), PyBytes_GET_SIZE(asked))
    writer.put_two(qtype)
    writer.put_two(question.qclass)
    for rrset in <tuple>answer.answer:
        count = writer.add(rrset, rrset.ttl, signed)
        if count < 0:
            return None
        has = has or rrset.rdtype == qtype
        answers += count
    negative = rcode != 0 or (not answer.answer if qtype == ANY else not has)
    for rrset in <tuple>answer.authority:
        rdtype = rrset.rdtype
        if rdtype == SOA:
            if not negative:
                continue
            ttl = negative_ttl(rrset)
        elif do and (rdtype == NSEC or rdtype == NSEC3 or rdtype == RRSIG):
            ttl = rrset.ttl
        else:
            continue
        count = writer.add(rrset, ttl, do)
        if count < 0:
            return None
        authorities += count
    opt_at = writer.size
    if edns is not None:
        if opt_at + 11 > SIZE:
            return None
        writer.put(b"\0\0\x29", 3)
        writer.put_two(payload_size)
        writer.put(b"\0\0\x80\0\0\0" if do else b"\0\0\0\0\0\0", 6)
    flags = flags & 0x0110 | 0x8080 | rcode | (0x20 if wants_ad(flags, do) and answer.security is SECURE else 0)
    head(writer.out, flags, answers, authorities, edns is not None)
    writer.opt_at = opt_at
    return writer


def ordinary_reply(answer, request, int payload_size):
    """As compile_reply, for answers with nothing told beside them."""
    cdef _Writer writer = written_reply(answer, request, payload_size)
    if writer is None:
        return None
    wire = PyBytes_FromStringAndSize(<char *>writer.out, writer.size)
    born = answer.born
    if writer.ttl == FOREVER:
        return Reply(wire, (), born, born, writer.opt_at)
    return Reply(wire, tuple(writer.ttl_offsets), born, born + writer.ttl, writer.opt_at)


def finished_reply(answer, request, int payload_size, double now, Py_ssize_t limit, double share, int security, bint told):
    """As finish of core/finished.py, for ordinary answers that fit."""
    cdef _Writer writer
    cdef double born = answer.born, until
    cdef bytes key, sent, asked = request.qname
    if not now - born < FOREVER or not 0 <= security <= 255:
        return None
    writer = written_reply(answer, request, payload_size)
    if writer is None or writer.size > limit:
        return None
    sent = PyBytes_FromStringAndSize(<char *>writer.out, writer.size)
    if now - born >= 1 and writer.ttl != FOREVER:
        age(<uint8_t *>PyBytes_AS_STRING(sent), writer.ttl_offsets, <uint32_t>(now - born))
    stamped(<uint8_t *>PyBytes_AS_STRING(sent), request.id, asked)
    if writer.ttl == FOREVER:
        return sent, None, None
    until = born + share * ((born + <double>writer.ttl) - born)
    if until <= now:
        return sent, None, None
    key = shaped_key(request)
    if key is None:
        return sent, None, None
    wire = PyBytes_FromStringAndSize(<char *>writer.out, writer.size)
    return sent, key, packed(wire, writer.ttl_offsets, born, until, writer.opt_at, security, told)


cdef void age(uint8_t *octets, list offsets, uint32_t older):
    """Count the TTLs down, as far as they go."""
    cdef Py_ssize_t at
    cdef uint32_t ttl
    for offset in offsets:
        at = offset
        ttl = four(octets + at)
        ttl = ttl - older if ttl > older else 0
        put_number(octets + at, ttl >> 16)
        put_number(octets + at + 2, ttl & 0xFFFF)


cdef void stamped(uint8_t *octets, int id, bytes qname) noexcept:
    """For one client: with its ID, and the name as it spelt it."""
    octets[0], octets[1] = id >> 8 & 255, id & 255
    memcpy(octets + HEADER, PyBytes_AS_STRING(qname), PyBytes_GET_SIZE(qname))


cdef bytes shaped_key(request):
    """As key_of of wire/peek.py, with the shape of wire/reply.py; None where that has none, or for ANY."""
    question, edns = request.question, request.edns
    cdef bytes qname = question.qname, key
    cdef Py_ssize_t size = PyBytes_GET_SIZE(qname)
    cdef int qtype = question.qtype, flags = request.flags
    cdef bint do = edns is not None and edns.do
    cdef uint8_t *out
    if qtype == ANY or memchr(PyBytes_AS_STRING(qname), 0, size) != PyBytes_AS_STRING(qname) + size - 1:
        return None
    key = PyBytes_FromStringAndSize(NULL, size + 5)
    out = <uint8_t *>PyBytes_AS_STRING(key)
    memcpy(out, PyBytes_AS_STRING(qname), size)
    put_number(out + size, qtype)
    put_number(out + size + 2, question.qclass)
    out[size + 4] = (flags & 0x0110) >> 4 | (edns is not None) << 1 | do << 2 | (do or flags & 0x20 != 0) << 3
    return key


def rendered(reply, int id, bytes qname not None, double now, Py_ssize_t limit):
    """As render, for replies that are new and fit."""
    cdef bytes wire = reply.wire, out
    cdef Py_ssize_t size = PyBytes_GET_SIZE(wire), name = PyBytes_GET_SIZE(qname)
    if now - <double>reply.born >= 1 or size > limit or HEADER + name > size:
        return None
    out = PyBytes_FromStringAndSize(PyBytes_AS_STRING(wire), size)
    stamped(<uint8_t *>PyBytes_AS_STRING(out), id, qname)
    return out


def built_query(question, int id, bint cd, int pad_to):
    """As build_query with DO and RD, behind its length."""
    cdef bytes qname = question.qname, out
    cdef Py_ssize_t name = PyBytes_GET_SIZE(qname), size = HEADER + name + 4 + 11, padding = 0
    cdef uint8_t *at
    if pad_to:
        padding = pad_to - 1 - (size + 4 - 1) % pad_to
        size += 4 + padding
    if size > 0xFFFF:
        return None
    out = PyBytes_FromStringAndSize(NULL, 2 + size)
    at = <uint8_t *>PyBytes_AS_STRING(out)
    memset(at, 0, 2 + size)
    at[0], at[1] = size >> 8, size & 255
    at[2], at[3], at[4], at[5], at[7], at[13] = id >> 8 & 255, id & 255, 1, 0x10 if cd else 0, 1, 1
    at += 2 + HEADER
    memcpy(at, PyBytes_AS_STRING(qname), name)
    at += name
    put_number(at, question.qtype)
    put_number(at + 2, question.qclass)
    put_number(at + 5, OPT)
    put_number(at + 7, PAYLOAD)
    at[11] = 0x80
    if pad_to:
        put_number(at + 13, 4 + padding)
        put_number(at + 15, 12)
        put_number(at + 17, padding)
    return out


def cut_answers(bytes data not None, dict asked not None):
    """The messages that a stream begins with, each by its ID, as far as they answer just what was asked; where they end.

    Those are taken out of `asked`. What follows is for the twins in framing.py and dns_stream.py.
    """
    cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), start = 0, length, asks
    cdef list found = []
    cdef int id
    while size - start >= 2 + HEADER:
        length = two(at + start)
        id = two(at + start + 2)
        if length < HEADER or start + 2 + length > size:
            break
        question = asked.get(id)
        if question is None:
            break
        asks = PyBytes_GET_SIZE(<bytes?>question)
        if at[start + 4] & 0xF8 != 0x80 or two(at + start + 6) != 1 or HEADER + asks > length:
            break
        if memcmp(at + start + 2 + HEADER, PyBytes_AS_STRING(question), asks):
            break
        found.append((id, PyBytes_FromStringAndSize(<char *>at + start + 2, length)))
        del asked[id]
        start += 2 + length
    return found, start


def packed_reply(reply, double until, int security, bint told):
    """As pack of core/finished.py, the security as its number; None over 255 of them or 65535 TTLs."""
    return packed(reply.wire, list(reply.ttl_offsets), reply.born, until, reply.opt_at, security, told)


cdef bytes packed(bytes wire, list offsets, double born, double until, long opt_at, int security, bint told):
    cdef bytes out
    cdef Py_ssize_t count = len(offsets), size = PyBytes_GET_SIZE(wire), i
    cdef long offset
    cdef uint16_t number
    cdef uint8_t *at
    if not (0 <= security <= 255 and 0 <= opt_at <= 0xFFFF and count <= 0xFFFF):
        return None
    out = PyBytes_FromStringAndSize(NULL, PACKED + 2 * count + size)
    at = <uint8_t *>PyBytes_AS_STRING(out)
    memset(at, 0, PACKED)
    memcpy(at, &born, 8)
    memcpy(at + 8, &until, 8)
    number = opt_at
    memcpy(at + 16, &number, 2)
    number = count
    memcpy(at + 18, &number, 2)
    at[20], at[21] = security, told
    at += PACKED
    for i in range(count):
        offset = offsets[i]
        if not 0 <= offset <= 0xFFFF:
            return None
        number = offset
        memcpy(at + 2 * i, &number, 2)
    memcpy(at + 2 * count, PyBytes_AS_STRING(wire), size)
    return out


cdef inline void put_number(uint8_t *at, int value) noexcept:
    at[0], at[1] = value >> 8 & 255, value & 255


cdef inline bint wants_ad(int flags, bint do) noexcept:
    return (flags & 0x20 or do) and not flags & 0x10


cdef void head(uint8_t *out, int flags, int answers, int authorities, bint opt) noexcept:
    """The header, but for the ID."""
    out[0] = out[1] = out[4] = out[10] = 0
    out[2], out[3], out[5] = flags >> 8, flags & 255, 1
    out[6], out[7] = answers >> 8 & 255, answers & 255
    out[8], out[9] = authorities >> 8 & 255, authorities & 255
    out[11] = opt
