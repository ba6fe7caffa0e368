# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The core, compiled: takes datagrams, replays finished replies, hands back what it has none for. It decides nothing.

Its twin is `dohproxy.core.pure`: the same classes, the same answers, octet for octet. Here every read is within what the
kernel said that it wrote, and every write within a slot. The GIL is kept: calls never block, and a thread that compiles
lists must not make hits wait.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.errno cimport EAGAIN, EIO, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

from dohproxy.core.finished import HEAD, SECURITIES
from dohproxy.model import Transport
from dohproxy.wire.reply import shortened

cdef extern from "<sys/socket.h>":
    struct iovec:
        void *iov_base
        size_t iov_len
    struct msghdr:
        void *msg_name
        unsigned int msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    struct sockaddr_storage:
        unsigned short ss_family
    cmsghdr *CMSG_FIRSTHDR(msghdr *)
    uint8_t *CMSG_DATA(cmsghdr *)
    size_t CMSG_LEN(size_t)
    size_t CMSG_SPACE(size_t)
    int getsockopt(int, int, int, void *, unsigned int *)
    int recvmmsg(int, mmsghdr *, unsigned int, int, void *)
    int sendmmsg(int, mmsghdr *, unsigned int, int)
    ssize_t sendmsg(int, msghdr *, int)
    int MSG_DONTWAIT, AF_INET, AF_INET6
cdef extern from "<netinet/in.h>":
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in6:
        in6_addr sin6_addr
    int IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP, IP_PKTINFO, IPV6_PKTINFO
cdef extern from "<arpa/inet.h>":
    const char *inet_ntop(int, const void *, char *, unsigned int)

cdef enum:
    BATCH = 64
    SLOT = 4096
    CONTROL = 128
    WORDS = 16  # of eight octets, as control data has to be aligned
    HEADER = 12
    OPT = 11
    MAX_CLIENTS = 65536

cdef enum:  # how replies are joined
    UDP_SEGMENT = 103  # udp(7)
    FEWEST = 3  # of two, mostly a stub's for A and AAAA, whoever watches the network shall see each
    LONGEST = 65000  # octets of a message; the kernel makes no more than BATCH of one
    BUCKETS = 64

cdef enum:  # what becomes of a query
    MISS
    READY
    SILENCE

cdef struct Head:  # HEAD, in C
    double born
    double until
    uint16_t opt_at
    uint16_t ttls
    uint8_t security
    uint8_t told

cdef struct Seen:  # what a look at a query tells
    Py_ssize_t name_end
    Py_ssize_t limit
    uint8_t shape

cdef struct Slot:  # one datagram
    sockaddr_storage client
    iovec read
    iovec written
    uint8_t control[CONTROL]
    uint8_t query[SLOT]
    uint8_t reply[SLOT]

UDP = Transport.UDP

if sizeof(Head) != HEAD.size:
    raise ImportError("the core was compiled for another layout of finished replies")


cdef bint peek_untrusted(const uint8_t *wire, Py_ssize_t size, Seen *seen) noexcept:
    """As wire/peek.py: whether this is a plain query, and what there is to know of it."""
    if size < HEADER + 5 or memcmp(wire + 4, b"\0\1\0\0\0\0", 6) or wire[2] & 0xF8:
        return False
    cdef const uint8_t *root = <const uint8_t *>memchr(wire + HEADER, 0, size - HEADER)
    if root == NULL:
        return False
    seen.name_end = root - wire + 1
    seen.limit = 512
    seen.shape = (wire[2] & 1) << 4 | (wire[3] & 0x10) >> 4 | (wire[3] & 0x20) >> 2
    cdef Py_ssize_t at = seen.name_end + 4
    if wire[10] or wire[11] > 1:
        return False
    if wire[11] == 0:
        return at == size
    if size < at + OPT or memcmp(wire + at, b"\0\0\x29", 3) or wire[at + 6]:
        return False
    if size != at + OPT + (wire[at + 9] << 8 | wire[at + 10]):
        return False
    seen.limit = max(512, wire[at + 3] << 8 | wire[at + 4])
    seen.shape |= 14 if wire[at + 7] & 0x80 else 2
    at += OPT
    while size - at >= 4:
        at += 4 + (wire[at + 2] << 8 | wire[at + 3])
    return at == size


cdef bytes key_of(bytes prefix, const uint8_t *wire, Seen *seen):
    """The key of the finished reply: the group's prefix, the name in lower case, type, class, shape."""
    cdef Py_ssize_t start = PyBytes_GET_SIZE(prefix), i, name = seen.name_end - HEADER
    cdef bytes key = PyBytes_FromStringAndSize(NULL, start + name + 5)
    cdef uint8_t *out = <uint8_t *>PyBytes_AS_STRING(key)
    memcpy(out, PyBytes_AS_STRING(prefix), start)
    out += start
    for i in range(name):
        out[i] = wire[HEADER + i] | (0x20 if 65 <= wire[HEADER + i] <= 90 else 0)
    memcpy(out + name, wire + seen.name_end, 4)
    out[name + 4] = seen.shape
    return key


cdef inline bytes packed_of(finished):
    """The octets of a reply, kept with or without what there is to tell of it."""
    return <bytes>finished if type(finished) is bytes else finished.packed


cdef Py_ssize_t size_of(bytes packed, Head *head) noexcept:
    """Octets of the message in a packed reply, and its head; negative if this is no packed reply."""
    if PyBytes_GET_SIZE(packed) < <Py_ssize_t>sizeof(Head):
        return -1
    memcpy(head, PyBytes_AS_STRING(packed), sizeof(Head))
    return PyBytes_GET_SIZE(packed) - <Py_ssize_t>sizeof(Head) - 2 * head.ttls


cdef void write(bytes packed, Head *head, const uint8_t *wire, Seen *seen, double now, uint8_t *out) noexcept:
    """The message as this client is sent it; `out` has room for `size_of` octets."""
    cdef const uint8_t *offsets = <const uint8_t *>PyBytes_AS_STRING(packed) + sizeof(Head)
    cdef Py_ssize_t size = size_of(packed, head), i
    cdef uint16_t at
    cdef double age = now - head.born
    cdef uint32_t ttl, older = <uint32_t>age if 0 < age < 4e9 else 0
    memcpy(out, offsets + 2 * head.ttls, size)
    memcpy(out, wire, 2)
    memcpy(out + HEADER, wire + HEADER, seen.name_end - HEADER)
    for i in range(head.ttls if older else 0):
        memcpy(&at, offsets + 2 * i, 2)
        if at + 4 > size:
            return
        ttl = <uint32_t>out[at] << 24 | <uint32_t>out[at + 1] << 16 | <uint32_t>out[at + 2] << 8 | out[at + 3]
        ttl = ttl - older if ttl > older else 0
        out[at], out[at + 1], out[at + 2], out[at + 3] = ttl >> 24, ttl >> 16 & 255, ttl >> 8 & 255, ttl & 255


cdef class Client:
    """All that is known of an address: one look-up a query."""

    cdef str host
    cdef object pay
    cdef bytes prefix
    cdef long use  # that the prefix is of


cdef class Recaller:
    """Finds finished replies and renders them: see `dohproxy.core.pure.Recaller`."""

    cdef readonly object now
    cdef object _find, _tell, _failed
    cdef dict _groups
    cdef long _use  # how often there were other groups
    cdef Py_ssize_t _payload_size
    cdef readonly list secured
    cdef bint _tell_all

    def __init__(self, now, tell, bint tell_all=False, failed=id):
        self.now, self._tell, self._tell_all, self._failed = now, tell, tell_all, failed
        self.secured = [0] * len(SECURITIES)
        self.use({}, {}.get, 0)

    def use(self, dict groups, find, payload_size):
        self._groups, self._find, self._payload_size = groups, find, min(payload_size, SLOT)
        self._use += 1

    def __call__(self, bytes wire, peer, transport, when=None):
        try:
            return self._replayed(wire, peer, transport, when)
        except Exception as error:
            self._failed(error)
            return None

    cdef object _replayed(self, bytes wire, peer, transport, when):
        group = self._groups.get(peer)
        if group is None:
            return None
        cdef const uint8_t *query = <const uint8_t *>PyBytes_AS_STRING(wire)
        cdef double now = self.now() if when is None else when
        cdef Seen seen
        cdef Head head
        finished = self._look_up(<bytes>group[1], query, PyBytes_GET_SIZE(wire), now, &seen, &head)
        if finished is None:
            return None
        cdef Py_ssize_t limit = min(seen.limit, self._payload_size) if transport is UDP else 65535
        reply = self._rendered(packed_of(finished), &head, query, &seen, now, limit)
        if head.told or self._tell_all:
            self._tell(wire, peer, transport, finished, len(reply))
        else:
            self.secured[head.security] += 1
        return reply

    cdef object _look_up(self, bytes prefix, const uint8_t *wire, Py_ssize_t size, double now, Seen *seen, Head *head):
        """The finished reply for this query; None if there is none."""
        if not peek_untrusted(wire, size, seen):
            return None
        finished = self._find(key_of(prefix, wire, seen))
        if finished is None or size_of(packed_of(finished), head) < seen.name_end or now >= head.until:
            return None
        return finished

    cdef bytes _rendered(self, bytes packed, Head *head, const uint8_t *wire, Seen *seen, double now, Py_ssize_t limit):
        cdef bytes reply = PyBytes_FromStringAndSize(NULL, size_of(packed, head))
        write(packed, head, wire, seen, now, <uint8_t *>PyBytes_AS_STRING(reply))
        return reply if len(reply) <= limit else shortened(reply, seen.name_end - HEADER, head.opt_at, limit)

    cdef bytes _prefix_of(self, Client client):
        """The prefix of this client's keys; None if it has not been admitted."""
        if client.prefix is None or client.use != self._use:
            group = self._groups.get(client.host)
            client.prefix, client.use = None if group is None else group[1], self._use
        return client.prefix


cdef str host_of(sockaddr_storage *address):
    """The address as text, as the socket module has it."""
    cdef char text[64]
    if address.ss_family == AF_INET:
        inet_ntop(AF_INET, &(<sockaddr_in *>address).sin_addr, text, sizeof(text))
    else:
        inet_ntop(AF_INET6, &(<sockaddr_in6 *>address).sin6_addr, text, sizeof(text))
    return text.decode("ascii")


cdef void turned(msghdr *message) noexcept:
    """As reply_ancillary of pktinfo.py, with the octets in place: what makes the answer leave from the address asked."""
    cdef cmsghdr *control = CMSG_FIRSTHDR(message)
    cdef uint8_t *data
    if control != NULL:
        data = CMSG_DATA(control)
        if control.cmsg_level == IPPROTO_IP and control.cmsg_type == IP_PKTINFO and control.cmsg_len == CMSG_LEN(12):
            memset(data, 0, 4)
            message.msg_controllen = CMSG_LEN(12)
            return
        if control.cmsg_level == IPPROTO_IPV6 and control.cmsg_type == IPV6_PKTINFO and control.cmsg_len == CMSG_LEN(20):
            if data[0] != 0xFE or data[1] & 0xC0 != 0x80:
                memset(data + 16, 0, 4)
            message.msg_controllen = CMSG_LEN(20)
            return
    message.msg_controllen = 0


cdef bint alike(msghdr *one, msghdr *other) noexcept:
    """Whether two replies are as long, and leave from and to the same."""
    return (
        0 < one.msg_iov.iov_len == other.msg_iov.iov_len
        and one.msg_namelen == other.msg_namelen
        and one.msg_controllen == other.msg_controllen
        and not memcmp(one.msg_name, other.msg_name, one.msg_namelen)
        and (one.msg_controllen == 0 or not memcmp(one.msg_control, other.msg_control, one.msg_controllen))
    )


cdef void cut(msghdr *message, uint64_t *room, uint16_t size) noexcept:
    """Have the kernel make datagrams of so many octets of a message, whose control data is copied into `room`."""
    cdef size_t before = (message.msg_controllen + 7) & ~<size_t>7
    cdef cmsghdr *control = <cmsghdr *>(<uint8_t *>room + before)
    memset(room, 0, before + CMSG_SPACE(sizeof(size)))
    if message.msg_controllen:
        memcpy(room, message.msg_control, message.msg_controllen)
    control.cmsg_len, control.cmsg_level, control.cmsg_type = CMSG_LEN(sizeof(size)), IPPROTO_UDP, UDP_SEGMENT
    memcpy(CMSG_DATA(control), &size, sizeof(size))
    message.msg_control, message.msg_controllen = room, before + CMSG_SPACE(sizeof(size))


cdef Py_ssize_t size_of_address(unsigned short family) noexcept:
    return sizeof(sockaddr_in) if family == AF_INET else sizeof(sockaddr_in6)


cdef bytes octets_of(void *start, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<char *>start, size)


cdef class Datagrams:
    """The datagrams of one socket: see `dohproxy.core.pure.Datagrams`."""

    cdef object _socket, _counters, _limit
    cdef readonly dict _clients
    cdef object _era  # of the limit, that the clients are of
    cdef Recaller _recall
    cdef int _fd
    cdef bint _wildcard, _joins
    cdef Slot *_slots
    cdef mmsghdr *_in
    cdef mmsghdr *_out
    cdef mmsghdr _joined[BATCH]
    cdef iovec _parts[BATCH]
    cdef uint64_t _controls[BATCH][WORDS]

    def __cinit__(self):
        self._slots = <Slot *>PyMem_Calloc(BATCH, sizeof(Slot))
        self._in = <mmsghdr *>PyMem_Calloc(BATCH, sizeof(mmsghdr))
        self._out = <mmsghdr *>PyMem_Calloc(BATCH, sizeof(mmsghdr))
        if self._slots == NULL or self._in == NULL or self._out == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self._slots)
        PyMem_Free(self._in)
        PyMem_Free(self._out)

    def __init__(self, socket, Recaller recall, counters, bint wildcard, limit=None):
        self._socket, self._fd = socket, socket.fileno()  # held, so that the number stays this socket's
        self._recall, self._counters, self._wildcard, self._limit = recall, counters, wildcard, limit
        self._clients, self._era = {}, None if limit is None else limit.era
        cdef int size
        cdef unsigned int octets = sizeof(size)
        self._joins = not getsockopt(self._fd, IPPROTO_UDP, UDP_SEGMENT, &size, &octets)

    cdef int _receive(self) noexcept:
        cdef int i
        cdef Slot *slot
        for i in range(BATCH):
            slot = &self._slots[i]
            slot.read.iov_base, slot.read.iov_len = slot.query, SLOT
            self._in[i].msg_hdr.msg_name, self._in[i].msg_hdr.msg_namelen = &slot.client, sizeof(sockaddr_storage)
            self._in[i].msg_hdr.msg_iov, self._in[i].msg_hdr.msg_iovlen = &slot.read, 1
            if self._wildcard:
                self._in[i].msg_hdr.msg_control, self._in[i].msg_hdr.msg_controllen = slot.control, CONTROL
        return recvmmsg(self._fd, self._in, BATCH, MSG_DONTWAIT, NULL)

    def take(self):
        cdef int received = self._receive(), hits = 0, i = 0, outcome
        cdef int rcodes[16]
        cdef int secured[8]
        if received < 0:
            if errno != EAGAIN:
                self._counters.receive_errors += 1
            return []
        self._forget()
        memset(rcodes, 0, sizeof(rcodes))
        memset(secured, 0, sizeof(secured))
        cdef double now = self._recall.now()
        cdef object at = <long long>(now * 1e9)
        cdef list misses = []
        while i < received:
            try:  # around all, for an exception is a defect: it makes its query a miss, and costs the others nothing
                while i < received:
                    outcome = self._answer(i, now, at, &self._out[hits], secured)
                    if outcome == READY:
                        rcodes[self._slots[i].reply[3] & 15] += 1
                        hits += 1
                    elif outcome == MISS:
                        misses.append(self._miss(i))
                    i += 1
            except Exception as error:
                misses.append(self._miss(i))
                i += 1
                self._recall._failed(error)
        self._count(received, hits, rcodes, secured)
        self._send(hits)
        return misses

    cdef int _answer(self, int i, double now, at, mmsghdr *out, int *secured) except -1:
        """Make the reply to a query ready to be sent, if there is one at hand."""
        cdef Client client = self._client(&self._slots[i].client)
        cdef bytes refusal
        if client.pay is not None and (charge := client.pay(at)):
            refusal = self._limit.refusal(self._query(i), charge)
            if not refusal:
                return SILENCE
            self._copy(i, refusal, out)
            return READY
        return READY if self._replay(i, client, now, out, secured) else MISS

    cdef void _copy(self, int i, bytes reply, mmsghdr *out):
        cdef Py_ssize_t size = min(PyBytes_GET_SIZE(reply), SLOT)
        memcpy(self._slots[i].reply, PyBytes_AS_STRING(reply), size)
        self._address_back(i, size, out)

    cdef void _address_back(self, int i, Py_ssize_t size, mmsghdr *out) noexcept:
        """Have the reply in this slot, of so many octets, leave to where the query came from."""
        cdef Slot *slot = &self._slots[i]
        slot.written.iov_base, slot.written.iov_len = slot.reply, size
        out.msg_hdr = self._in[i].msg_hdr
        out.msg_hdr.msg_iov = &slot.written
        if self._wildcard:
            turned(&out.msg_hdr)

    cdef bint _replay(self, int i, Client client, double now, mmsghdr *out, int *secured) except -1:
        cdef Slot *slot = &self._slots[i]
        cdef Recaller recall = self._recall
        cdef bytes prefix = recall._prefix_of(client)
        cdef Seen seen
        cdef Head head
        if prefix is None:
            return False
        finished = recall._look_up(prefix, slot.query, self._in[i].msg_len, now, &seen, &head)
        if finished is None:
            return False
        cdef bytes packed = packed_of(finished)
        cdef Py_ssize_t limit = min(seen.limit, recall._payload_size), size = size_of(packed, &head)
        if size <= limit:
            write(packed, &head, slot.query, &seen, now, slot.reply)
            self._address_back(i, size, out)
        else:
            self._copy(i, recall._rendered(packed, &head, slot.query, &seen, now, limit), out)
            size = slot.written.iov_len
        if head.told or recall._tell_all:
            recall._tell(self._query(i), client.host, UDP, finished, size)
        else:
            secured[head.security & 7] += 1
        return True

    cdef bytes _query(self, int i):
        return PyBytes_FromStringAndSize(<char *>self._slots[i].query, self._in[i].msg_len)

    cdef tuple _miss(self, int i):
        cdef Slot *slot = &self._slots[i]
        cdef Py_ssize_t control = 0
        if self._wildcard:
            turned(&self._in[i].msg_hdr)
            control = min(self._in[i].msg_hdr.msg_controllen, CONTROL)
        origin = octets_of(&slot.client, size_of_address(slot.client.ss_family)) + octets_of(slot.control, control)
        return self._query(i), self._client(&slot.client).host, origin

    cdef Client _client(self, sockaddr_storage *address):
        """What is known of this address, kept for the next time."""
        cdef bytes octets
        if address.ss_family == AF_INET:
            octets = octets_of(&(<sockaddr_in *>address).sin_addr, 4)
        else:
            octets = octets_of(&(<sockaddr_in6 *>address).sin6_addr, 16)
        cdef Client client = self._clients.get(octets)
        if client is None:
            if len(self._clients) >= MAX_CLIENTS:
                self._clients.clear()
            client = Client()
            client.host = host_of(address)
            client.pay = None if self._limit is None else self._limit.payer(client.host)
            self._clients[octets] = client
        return client

    cdef void _forget(self):
        """Forget the clients if the limit has forgotten some: it is asked for all of them again."""
        if self._limit is not None and self._limit.era != self._era:
            self._clients, self._era = {}, self._limit.era

    cdef void _count(self, int received, int hits, int *rcodes, int *secured):
        cdef int i
        self._counters.udp_queries += received
        self._counters.hits += hits
        for i in range(16):
            if rcodes[i]:
                self._counters.rcodes[i] += rcodes[i]
        for i in range(8):
            if secured[i]:
                self._recall.secured[i] += secured[i]

    cdef void _send(self, int count):
        """Send what is ready; what cannot be sent is counted, and ends nothing."""
        cdef int done = 0, sent, failed
        cdef mmsghdr *ready = self._out
        if self._joins and count >= FEWEST:
            ready, count = &self._joined[0], self._join(count)
        while done < count:
            sent = sendmmsg(self._fd, &ready[done], count - done, MSG_DONTWAIT)
            if sent < 0:
                failed = self._failures(&ready[done].msg_hdr)
                self._counters.send_errors += failed
            done += max(1, sent)

    cdef int _join(self, int count) noexcept:
        """Have replies that are alike leave as one message, which the kernel cuts; how many messages there are then.

        To go through the kernel is most of what a hit costs.
        """
        cdef int order[BATCH]
        cdef int first = 0, end, messages = 0
        cdef msghdr *message
        self._group(count, order)
        while first < count:
            message = &self._joined[messages].msg_hdr
            message[0] = self._out[order[first]].msg_hdr
            self._parts[first] = message.msg_iov[0]
            message.msg_iov = &self._parts[first]
            end = first + 1
            while end < count and (end - first + 1) * message.msg_iov.iov_len <= LONGEST and alike(&self._out[order[end]].msg_hdr, message):
                self._parts[end] = self._out[order[end]].msg_hdr.msg_iov[0]
                end += 1
            if end - first < FEWEST:
                end = first + 1
            else:
                message.msg_iovlen = end - first
                cut(message, self._controls[messages], message.msg_iov.iov_len)
            first = end
            messages += 1
        return messages

    cdef void _group(self, int count, int *order) noexcept:
        """Order replies so that those that are alike are in a row. A group goes by the number of its first reply."""
        cdef int begun_last[BUCKETS]  # the group, by length and port
        cdef int begun_before[BATCH]  # of two groups in a bucket
        cdef int firsts[BATCH]
        cdef int last[BATCH]
        cdef int follows[BATCH]
        cdef int i, group, bucket, groups = 0, at = 0
        cdef uint16_t port
        memset(begun_last, 0xFF, sizeof(begun_last))
        for i in range(count):
            port = (<sockaddr_in *>self._out[i].msg_hdr.msg_name).sin_port
            bucket = ((port ^ port >> 8) + self._out[i].msg_hdr.msg_iov.iov_len) % BUCKETS
            group = begun_last[bucket]
            while group >= 0 and not alike(&self._out[group].msg_hdr, &self._out[i].msg_hdr):
                group = begun_before[group]
            if group >= 0:
                follows[last[group]] = i
            else:
                group, begun_before[i], begun_last[bucket], firsts[groups] = i, begun_last[bucket], i, i
                groups += 1
            last[group], follows[i] = i, -1
        for group in range(groups):
            i = firsts[group]
            while i >= 0:
                order[at] = i
                at += 1
                i = follows[i]

    cdef int _failures(self, msghdr *message) noexcept:
        """How many replies of a message could not be sent, which was refused; those of several are sent one by one."""
        cdef size_t i, several = message.msg_iovlen
        cdef int failed = 0
        if several == 1:
            return 1
        if errno == EIO:
            self._joins = False  # the device cannot, or what is encrypted below us
        message.msg_iovlen = 1
        message.msg_controllen -= CMSG_SPACE(sizeof(uint16_t))
        for i in range(several):
            failed += sendmsg(self._fd, message, MSG_DONTWAIT) < 0
            message.msg_iov += 1
        return failed

    def send(self, list replies):
        cdef int ready = 0
        for origin, reply in replies:
            self._address(&self._out[ready].msg_hdr, &self._slots[ready].written, origin, reply)
            ready += 1
            if ready == BATCH:
                self._send(ready)
                ready = 0
        self._send(ready)

    cdef int _address(self, msghdr *out, iovec *written, bytes origin, bytes reply) except -1:
        """Make a reply ready to be sent; the list that it is in keeps it and its origin alive."""
        cdef const uint8_t *octets = <const uint8_t *>PyBytes_AS_STRING(origin)
        cdef Py_ssize_t size
        if not 16 <= PyBytes_GET_SIZE(origin) <= 16 + CONTROL // 2:
            raise ValueError("no origin of a query")
        size = min(PyBytes_GET_SIZE(origin), size_of_address((<sockaddr_storage *>octets).ss_family))
        memset(out, 0, sizeof(msghdr))
        written.iov_base, written.iov_len = PyBytes_AS_STRING(reply), PyBytes_GET_SIZE(reply)
        out.msg_name, out.msg_namelen, out.msg_iov, out.msg_iovlen = <void *>octets, size, written, 1
        if PyBytes_GET_SIZE(origin) > size:
            out.msg_control, out.msg_controllen = <void *>(octets + size), PyBytes_GET_SIZE(origin) - size
        return 0
