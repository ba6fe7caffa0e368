"""Both cores beside each other and beside the whole way: the same octets, whatever comes."""

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import EveryThird

from dohproxy import core
from dohproxy.cache.replies import ReplyStore
from dohproxy.clock import Clock
from dohproxy.core import pure
from dohproxy.core.pktinfo import ask_for_packet_info
from dohproxy.front import Front, Generation
from dohproxy.model import Action, Answer, Attested, Ede, RRset, Rule, Security, Transport, Verdict
from dohproxy.telemetry.counters import Counters

compiled = pytest.importorskip("dohproxy.core._compiled", reason="the core is not compiled")
pytestmark = pytest.mark.skipif(core.KIND != "compiled", reason="the compiled core is switched off")

moderate = settings(max_examples=300, deadline=None, derandomize=True)
UDP, TCP = Transport.UDP, Transport.TCP
HOST, OTHER, STRANGER = "127.0.0.1", "::1", "192.0.2.1"
LONG = ".".join(["x" * 63] * 3 + ["y" * 61])
NAMES = [
    "www.example",
    "empty.example",
    "gone.example",
    "big.example",
    "bad.example",
    "stale.example",
    "edge.example",
    LONG,
    ".",
]


PAY, SHOP = Attested(HOST, "spiffe://prod.example/pay"), Attested(HOST, "spiffe://prod.example/shop")
PEERS = (HOST, OTHER, STRANGER, PAY, SHOP, Attested(OTHER, PAY.identity), Attested(STRANGER, PAY.identity))
SERVED = tuple(peer for peer in PEERS if STRANGER not in (peer, peer[0]))


class Everybody:
    """Whose group is their identity's, or else the default."""

    def admit(self, peer):
        address, identity = peer if isinstance(peer, Attested) else (peer, "default")
        return None if address == STRANGER else identity


def encoded(name):
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label) + b"\0"


BORN = 990.5
SOA = RRset(b"\7example\0", 6, 77, (b"\0\0" + struct.pack("!5L", 1, 2, 3, 4, 500),))
BLOCKED = Verdict(Action.SINKHOLE, Rule("blocked.example", 'list "ads"'))
SECURE = {"security": Security.SECURE, "born": BORN}
ANSWERS = {
    encoded("empty.example"): lambda _: Answer(0, authority=(SOA,), **SECURE),
    encoded("gone.example"): lambda _: Answer(3, authority=(SOA,), ede=(Ede(29, "made up " * 30),), born=BORN),
    encoded("big.example"): lambda q: Answer(0, (records(q, 120),), **SECURE),
    encoded("bad.example"): lambda q: Answer(0, (records(q, 2),), ede=(Ede(3, "x" * 190), Ede(22, "y" * 190)), **SECURE),
    encoded("edge.example"): lambda q: Answer(0, (RRset(q.qname, q.qtype, 100, (bytes(460),)),), **SECURE),  # 513 octets
    encoded("blocked.example"): lambda q: Answer(0, (records(q, 1),), born=BORN, verdict=BLOCKED),
    encoded("stale.example"): lambda q: Answer(0, (records(q, 1),), stale=True, born=BORN),
}


def records(question, count):
    rdatas = tuple(bytes((192, 0, 2, number)) for number in range(count))
    return RRset(question.qname, question.qtype, 100, rdatas, (bytes(60),))


class Anything:
    """A stage that has an answer to every question; workloads of the shop are refused those that begin with `b`."""

    async def resolve(self, query):
        question = query.question
        if query.client.group == SHOP.identity and question.qname[1:2] == b"b":
            return Answer(5, born=BORN, authority=(SOA,), verdict=Verdict(Action.REFUSED, Rule("b*", "group")))
        made = ANSWERS.get(question.qname, lambda q: Answer(0, (records(q, 2),), security=Security.INSECURE, born=BORN))
        return made(question)


class House:
    """A front that knows all names, its clock, and a recaller of either kind over the same replies."""

    def __init__(self, payload_size=1232, tell_all=False):
        self.time = 1000.0
        clock = Clock(lambda: self.time, lambda: self.time)
        self.replies = ReplyStore(1 << 22)
        self.front = Front(Generation(Anything(), Everybody(), self.replies, False, payload_size, 5.0), (), clock)
        self.told = [], []
        self.recallers = [
            kind(clock.now, lambda *hit, told=told: told.append(hit), tell_all)
            for kind, told in zip((pure.Recaller, compiled.Recaller), self.told, strict=True)
        ]
        for recall in self.recallers:
            recall.use(self.front._groups, self.replies.get, payload_size)

    async def fill(self, wires):
        for wire in wires:
            for peer in SERVED:
                await self.front.answer(wire, peer, UDP)

    def recalled(self, wire, host, transport):
        """What both recall, which is the same."""
        ours, theirs = (recall(wire, host, transport) for recall in self.recallers)
        assert ours == theirs
        assert self.told[0] == self.told[1]
        return ours


OPTIONS = st.one_of(
    st.just(b""),
    st.binary(min_size=8, max_size=8).map(lambda cookie: b"\0\x0a\0\x08" + cookie),
    st.integers(0, 300).map(lambda size: b"\0\x0c" + size.to_bytes(2) + bytes(size)),
    st.binary(max_size=40),
    st.tuples(st.integers(0, 65535), st.integers(0, 40)).map(lambda option: struct.pack("!HH", *option) + bytes(option[1])),
)
OPTS = st.one_of(
    st.none(),
    st.builds(
        lambda root, kind, size, rcode, version, flags, options, lie: (
            root + struct.pack("!HHBBHH", kind, size, rcode, version, flags, max(0, len(options) + lie)) + options
        ),
        st.sampled_from([b"\0", b"\0", b"\0", b"\1a\0", b"\xc0\x0c"]),
        st.sampled_from([41, 41, 41, 41, 1, 250]),
        st.sampled_from([0, 100, 512, 513, 600, 1231, 1232, 4096, 65535]),
        st.sampled_from([0, 0, 1]),
        st.sampled_from([0, 0, 0, 1]),
        st.sampled_from([0, 0x8000, 0x8001, 0x7FFF]),
        st.lists(OPTIONS, max_size=3).map(b"".join),
        st.sampled_from([0, 0, 0, 0, -1, 1, 5]),
    ),
)
QNAMES = st.one_of(
    st.sampled_from(NAMES).map(encoded),
    st.tuples(st.sampled_from(NAMES), st.randoms()).map(
        lambda it: encoded("".join(it[1].choice((c.lower(), c.upper())) for c in it[0]))
    ),
    st.sampled_from(
        [b"\3w\0w\0", b"\xc0\x0c", b"\3www\xc0\x0c", b"\x43www\7example\0", b"\x40", b"", b"\3ww", encoded("a." * 130)]
    ),
    st.binary(max_size=30),
)


@st.composite
def queries(draw):
    """Queries as clients send them, and as they do not."""
    opt = draw(OPTS)
    counts = draw(
        st.sampled_from([None, None, None, None, (0, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 256)])
    )
    head = struct.pack(
        "!HBB4H",
        draw(st.integers(0, 65535)),
        draw(st.sampled_from([1, 1, 1, 0, 3, 7, 0x81, 0x29])),
        draw(st.sampled_from([0, 0x20, 0x10, 0x30, 0x40, 0xFF])),
        *(counts or (1, 0, 0, 0 if opt is None else 1)),
    )
    question = draw(QNAMES) + struct.pack(
        "!HH", draw(st.sampled_from([1, 1, 28, 16, 65, 97, 255])), draw(st.sampled_from([1, 1, 255]))
    )
    wire = head + question + (opt or b"")
    mangled = draw(st.sampled_from(["", "", "", "", "", "cut", "more", "flip"]))
    if mangled == "cut":
        return wire[: draw(st.integers(0, len(wire)))]
    if mangled == "flip" and wire:
        at = draw(st.integers(0, len(wire) - 1))
        return wire[:at] + bytes((wire[at] ^ 1 << draw(st.integers(0, 7)),)) + wire[at + 1 :]
    return wire + draw(st.binary(min_size=1, max_size=12)) if mangled == "more" else wire


WIRES = st.lists(st.one_of(queries(), queries(), queries(), st.binary(max_size=60)), min_size=1, max_size=30)


@moderate
@given(WIRES, st.sampled_from([0.0, 0.4, 1.0, 13.7, 60.0, 91.0, 10_000.0, -3.0]), st.sampled_from([512, 1232, 4096]))
async def test_both_recall_the_same_and_what_answer_would_say(wires, later, payload_size):
    house = House(payload_size)
    await house.fill(wires)
    house.time += later
    for wire in wires:
        for peer in PEERS:
            for transport in (UDP, TCP):
                recalled = house.recalled(wire, peer, transport)
                assert recalled is None or peer in SERVED
                assert recalled in (None, await house.front.answer(wire, peer, transport))
    assert house.recallers[0].secured == house.recallers[1].secured


QUERY = b"\0\7\1\0\0\1\0\0\0\0\0\1" + encoded("edge.example") + b"\0\1\0\1"


@pytest.mark.parametrize(
    "opt",
    [
        b"\0\0\x29\4\xd0\0\1\0\0\0\0",  # EDNS version 1
        b"\0\0\x29\4\xd0\0\0\0\0\0\3\0\x0c\0",  # half an option
        b"\0\0\x29\4\xd0\0\0\0\0\0\5\0\x0c\0\2x",  # an option that ends after the message
        b"\0\0\x29\4\xd0\0\0\0\0\0\1",  # RDATA that is not there
        b"\0\0\x29\4\xd0\0\0\0\0\0\0x",  # an octet too many
        b"\0\0\x2a\4\xd0\0\0\0\0\0\0",  # no OPT
        b"\1a\0\x29\4\xd0\0\0\0\0\0\0",  # not the root's
    ],
)
async def test_what_needs_a_closer_look_gets_it(opt):
    house = House()
    await house.fill([QUERY + b"\0\0\x29\4\xd0\0\0\0\0\0\0"])
    assert house.recalled(QUERY + b"\0\0\x29\4\xd0\0\0\0\0\0\4\0\x0c\0\0", HOST, UDP) is not None
    assert house.recalled(QUERY + opt, HOST, UDP) is None


@pytest.mark.parametrize(("payload", "size"), [(0, 41), (512, 41), (513, 513), (4096, 513)])
async def test_a_client_takes_at_least_512_octets(payload, size):
    house = House()
    query = QUERY + b"\0\0\x29" + payload.to_bytes(2) + bytes(6)
    await house.fill([query])
    assert len(house.recalled(query, HOST, UDP)) == size


async def test_the_corpus_is_not_all_misses():
    house, hits = House(), 0
    wires = [b"\0\7\1\0\0\1\0\0\0\0\0\0" + encoded(name) + b"\0\1\0\1" for name in NAMES]
    await house.fill(wires)
    hits = sum(house.recalled(wire.replace(b"www", b"wWw"), HOST, UDP) is not None for wire in wires)
    assert hits == len(NAMES) - 1  # what is stale is not kept


def taken(kind, recall, wires, address, limit=None):
    """What a socket's client gets, what is missed, and what is counted, with one kind of core."""
    counters, got, missed = Counters(), [], []
    local, wildcard = ("::1", True) if address == "::" else ("127.0.0.1", True) if address == "0.0.0.0" else (address, False)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        for sock, host in ((server, address), (client, local)):
            sock.bind((host, 0))
            sock.setblocking(False)
        if wildcard:
            ask_for_packet_info(server)
        datagrams = kind.Datagrams(server, recall, counters, wildcard, limit)
        client.connect((local, server.getsockname()[1]))
        for start in range(0, len(wires), 7):
            batch = wires[start : start + 7]
            for wire in batch:
                client.send(wire)
            before = limit.silent if limit else 0
            found = datagrams.take()
            assert all(host == local for _, host, _ in found)
            silent = limit.silent - before if limit else 0
            got += sorted(client.recv(65535) for _ in range(len(batch) - len(found) - silent))  # in any order
            datagrams.send([(origin, wire + bytes(5000)) for wire, _, origin in found])
            assert sorted(client.recv(65535) for _ in found) == sorted(wire + bytes(5000) for wire, _, _ in found)
            port = client.getsockname()[1].to_bytes(2)
            missed += [(wire, origin.replace(port, b"port", 1)) for wire, _, origin in found]
    return got, missed, counters.snapshot()


@pytest.mark.parametrize("kind", [pure, compiled])
async def test_a_defect_makes_its_query_a_miss_and_costs_the_others_nothing(kind):
    house, told = House(), []
    wires = [b"\0\7\1\0\0\1\0\0\0\0\0\0" + encoded(name) + b"\0\1\0\1" for name in NAMES[:5]]
    await house.fill(wires)

    def find(key):
        if b"gone" in key:
            raise RuntimeError(key)
        return house.replies.get(key)

    recall = kind.Recaller(house.recallers[0].now, lambda *_: None, False, told.append)
    recall.use(house.front._groups, find, 1232)
    got, missed, counts = taken(kind, recall, wires, "127.0.0.1")
    assert ([wire for wire, _ in missed], len(got), counts["hits"]) == ([wires[2]], 4, 4)
    assert [type(error) for error in told] == [RuntimeError]


@pytest.mark.parametrize("kind", [pure, compiled])
async def test_what_is_known_of_a_client_holds_for_as_long_as_the_groups_and_the_limit(kind):
    house, asked = House(), []
    query = b"\0\7\1\0\0\1\0\0\0\0\0\0" + encoded("www.example") + b"\0\1\0\1"
    await house.fill([query])

    class Noting(EveryThird):
        def payer(self, host):
            asked.append(host)
            return lambda at: 0  # noqa: ARG005

    def hits_of(groups):
        recall.use(groups, house.replies.get, 1232)
        client.send(query)
        return 1 - len(datagrams.take())

    recall = kind.Recaller(house.recallers[0].now, lambda *_: None)
    with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        for sock in (server, client):
            sock.bind((HOST, 0))
        client.connect(server.getsockname())
        datagrams = kind.Datagrams(server, recall, Counters(), False, Noting())
        served = house.front._groups
        assert [hits_of(groups) for groups in (served, dict(served), {HOST: None}, {}, served)] == [1, 1, 0, 0, 1]
    assert asked == [HOST]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WIRES, st.sampled_from(["127.0.0.1", "::1", "0.0.0.0", "::"]), st.booleans())
async def test_both_take_and_answer_the_same_datagrams(wires, address, tell_all):
    house = House(tell_all=tell_all)
    await house.fill(wires)
    house.time += 7
    ours, theirs = (taken(kind, recall, wires, address) for kind, recall in zip((pure, compiled), house.recallers, strict=True))
    assert ours == theirs
    assert house.told[0] == house.told[1]
    assert house.recallers[0].secured == house.recallers[1].secured
    assert sum(house.recallers[0].secured) + len(house.told[0]) == len(ours[0])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(WIRES, st.sampled_from(["127.0.0.1", "::1", "0.0.0.0", "::"]))
async def test_both_refuse_the_same_datagrams(wires, address):
    house = House()
    await house.fill(wires)
    kinds = zip((pure, compiled), house.recallers, strict=True)
    ours, theirs = (taken(kind, recall, wires, address, EveryThird()) for kind, recall in kinds)
    assert ours == theirs
    assert ours[2]["udp_queries"] == len(wires)
    assert sum(reply.startswith(b"refused") for reply in ours[0]) == (len(wires) + 1) // 3
    assert len(ours[0]) + len(ours[1]) == len(wires) - (len(wires) + 2) // 3
