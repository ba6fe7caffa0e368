"""How both cores send: what leaves as one message, and what becomes of it where it may not."""

import importlib.util
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dohproxy.config.settings import ClientLimits
from dohproxy.core import pure
from dohproxy.core.pktinfo import IP_PKTINFO, ask_for_packet_info, wants_packet_info
from dohproxy.listen.limited import Limited
from dohproxy.policy import rates
from dohproxy.policy.rates import Prefixes, Rates
from dohproxy.telemetry.counters import Counters

KINDS = [pure]
if importlib.util.find_spec("dohproxy.core._compiled"):
    KINDS.append(importlib.import_module("dohproxy.core._compiled"))

UDP_GRO = 104
"""Of a socket that is given as one what came as one message (udp(7))."""
SO_NO_CHECK, IPV6_MTU = 11, 24
"""Without checksums nothing is cut, nor into what does not fit into a packet."""
ADDRESSES = [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.2"), ("::1", "::1"), ("::", "::1")]
"""Where a server listens, and where it is asked."""


class Echo:
    """A Limit that refuses everything, and replies what it was sent."""

    era = 0

    def payer(self, host):  # noqa: ARG002
        return bool

    def refusal(self, wire, charge):  # noqa: ARG002
        return wire


class Pair:
    """A server, and a client that sees which datagrams left together."""

    def __init__(self, kind, server, client):
        self.server, self.client, self.counters = server, client, Counters()
        self.wildcard = wants_packet_info(server)
        recall = kind.Recaller(lambda: 1.0, print)
        self.datagrams = kind.Datagrams(server, recall, self.counters, self.wildcard, Echo())
        self.unlimited = kind.Datagrams(server, recall, self.counters, self.wildcard)
        self.joins = kind is not pure or not self.wildcard

    def echoed(self, texts):
        for text in texts:
            self.client.send(text)
        assert self.datagrams.take() == []


@pytest.fixture(params=[(kind, *addresses) for kind in KINDS for addresses in ADDRESSES])
def pair(request):
    kind, bound, asked = request.param
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as server, socket.socket(family, socket.SOCK_DGRAM) as client:
        server.bind((bound, 0))
        if wants_packet_info(server):
            ask_for_packet_info(server)
        client.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        client.settimeout(5)
        client.connect((asked, server.getsockname()[1]))
        yield Pair(kind, server, client)


def test_replies_that_are_alike_leave_as_one_message(pair):
    tens = [b"%d" % n * 10 for n in range(4)]
    texts = [tens[0], b"other", tens[1], tens[2], b"fives", tens[3], b"fourteen octet"]
    for _ in range(2):
        pair.echoed(texts)
        expected = [b"".join(tens), b"other", b"fives", b"fourteen octet"] if pair.joins else texts
        assert {pair.client.recv(65535) for _ in expected} == set(expected)
        pair.echoed(texts[4:])
        assert {pair.client.recv(65535) for _ in range(3)} == set(texts[4:])
    assert pair.counters.send_errors == 0


def test_a_message_is_no_longer_than_the_kernel_takes(pair):
    texts = [b"%02d" % n * 600 for n in range(64)]
    pair.echoed(texts)
    expected = [b"".join(texts[:54]), b"".join(texts[54:])] if pair.joins else texts
    assert [pair.client.recv(65535) for _ in expected] == expected
    assert pair.counters.send_errors == 0


def test_what_the_kernel_does_not_cut_leaves_one_by_one(pair):
    if pair.server.family == socket.AF_INET6:
        pair.server.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU, 1280)
    else:
        pair.server.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    texts = [b"%d" % n * 1300 for n in range(5)] + [b"other"]
    for _ in range(2):
        pair.echoed(texts)
        assert {pair.client.recv(65535) for _ in texts} == set(texts)
    assert pair.counters.send_errors == 0


INCAPABLE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    int (*really)(int, struct mmsghdr *, unsigned, int) = dlsym(RTLD_NEXT, "sendmmsg");
    size_t size = messages->msg_hdr.msg_iov->iov_len;
    if (messages->msg_hdr.msg_iovlen == 1)
        return really(fd, messages, count, flags);
    fprintf(stderr, "refused %zu\n", size);
    errno = size == 4 ? EIO : EINVAL;
    return -1;
}
"""
"""A C library as on a machine where UDP_SEGMENT is told EIO, and of other lengths something else."""
ECHOES = """
import importlib, socket, sys
from test_datagrams import Pair
kind = importlib.import_module(sys.argv[1])
with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
    server.bind(("127.0.0.1", 0))
    client.settimeout(5)
    client.connect(server.getsockname())
    pair = Pair(kind, server, client)
    for texts in ([b"fives"] * 3, [b"four"] * 3 + [b"fives"] * 3, [b"fives"] * 3 + [b"four"] * 3):
        pair.echoed(texts)
        assert sorted(client.recv(65535) for _ in texts) == sorted(texts)
    assert pair.counters.send_errors == 0
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_cannot_have_messages_cut_is_not_asked_again(kind, tmp_path):
    library = tmp_path / "incapable.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, "-x", "c", "-", "-ldl"], input=INCAPABLE, text=True, check=True)
    environ = os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", ECHOES, kind.__name__], env=environ, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "refused 5\nrefused 4\nrefused 5\n")


def test_clients_get_what_is_theirs(pair):
    with socket.socket(pair.server.family, socket.SOCK_DGRAM) as other:
        other.settimeout(5)
        other.connect(pair.client.getpeername())
        for _ in range(3):
            pair.client.send(b"ours")
            other.send(b"text")
        pair.echoed([b"last one"])
        expected = [b"oursoursours", b"last one"] if pair.joins else [b"ours"] * 3 + [b"last one"]
        assert sorted(pair.client.recv(65535) for _ in expected) == sorted(expected)
        assert [other.recv(65535) for _ in range(3)] == [b"text"] * 3


def test_replies_to_what_was_missed_go_where_it_came_from(pair):
    datagrams = pair.unlimited
    pair.client.send(b"?")
    [(_, _, origin)] = datagrams.take()
    texts = [b"%d" % n * 20 for n in range(5)]
    datagrams.send([(origin, text) for text in texts])
    got = b""
    while len(got) < 100:
        got += pair.client.recv(65535)
    assert got == b"".join(texts)
    datagrams.send([(origin, b"")] * 3)
    assert [pair.client.recv(65535) for _ in range(3)] == [b""] * 3
    datagrams.send([(origin, bytes(65535))] * 3)  # which is too long for anything
    assert pair.counters.send_errors == 3


@pytest.mark.parametrize("prefix", [32, 9], ids=["each of its own", "all of one client"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_asks_too_often_is_not_forgotten_for_others_that_come(kind, prefix, monkeypatch):
    monkeypatch.setattr(pure, "_MAX_CLIENTS", 100)
    monkeypatch.setattr(rates, "KEPT", 200)
    limited = Limited(Rates(ClientLimits(0.001, 1, 0), Prefixes(prefix, 56)), Counters())
    most, strangers, passed = (100, 1000, []) if kind is pure else (65536, 70_000, [])
    with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        for sock in (server, client):
            sock.bind(("127.0.0.1", 0))
        datagrams = kind.Datagrams(server, kind.Recaller(lambda: 1.0, print), Counters(), False, limited)
        with socket.socket(type=socket.SOCK_DGRAM) as others:
            for number in range(strangers):
                source = struct.pack("=I4s4x", 0, (0x7F800002 + number).to_bytes(4))
                others.sendmsg([b"stranger"], [(socket.IPPROTO_IP, IP_PKTINFO, source)], 0, server.getsockname())
                if number % 50 == 0:
                    client.sendto(b"client", server.getsockname())
                    passed += [wire for wire, _, _ in datagrams.take()]
                    assert len(datagrams._clients) <= most
            passed += [wire for wire, _, _ in datagrams.take()]
    assert passed.count(b"stranger") == (strangers if prefix == 32 else 1)
    assert passed.count(b"client") == 1


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_reload_keeps_nothing_of_the_generation_before(kind):
    with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("127.0.0.1", 0))
        recall, groups = kind.Recaller(lambda: 1.0, print), {"127.0.0.1": ("default", b"prefix")}
        before = sys.getrefcount(groups)
        recall.use(groups, {}.get, 1232)
        datagrams = kind.Datagrams(server, recall, Counters(), False)
        client.sendto(b"\0\7\1\0\0\1\0\0\0\0\0\0\0\0\1\0\1", server.getsockname())
        assert len(datagrams.take()) == 1
        recall.use({}, {}.get, 1232)
        assert sys.getrefcount(groups) == before


@pytest.mark.skipif(len(KINDS) < 2, reason="the core is not compiled")
@pytest.mark.parametrize("origin", [b"", bytes(15), bytes(200)])
def test_what_is_no_origin_is_told_by_the_compiled_core(origin):
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        datagrams = KINDS[-1].Datagrams(server, KINDS[-1].Recaller(lambda: 1.0, print), Counters(), False)
        with pytest.raises(ValueError, match="no origin"):
            datagrams.send([(origin, b"reply")])
