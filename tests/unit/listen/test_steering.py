"""Names asked of sockets that are bound alike, as clients ask: in any case, from any port."""

import random
import socket
import subprocess
import sys

import pytest

from dohproxy.listen import steering
from dohproxy.listen.steering import steer
from dohproxy.wire import names

PATTERNS = ("m{:08}.plain.example", "www.host{}.example.com", "a{}.io", "h{}.internal.svc.cluster.local", "x{}")


@pytest.fixture
def alike():
    """So many sockets of one address."""
    opened = []

    def bound(count):
        for _ in range(count):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(opened[0].getsockname() if opened else ("127.0.0.1", 0))
            sock.setblocking(False)
            opened.append(sock)
        return opened

    yield bound
    for sock in opened:
        sock.close()


def taken_by(socks, octets):
    """The number of the socket that gets these octets from a client with a port of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(octets, socks[0].getsockname())
    for number, sock in enumerate(socks):
        try:
            assert sock.recv(512) == octets
        except BlockingIOError:
            continue
        return number
    raise AssertionError("nobody has it")


def query(name, chance):
    """In any case, of any type, with EDNS or without."""
    wire = bytes(octet ^ 0x20 if chance.random() < 0.5 and chr(octet).isalpha() else octet for octet in names.from_text(name))
    edns = chance.choice((b"", b"\0\0\x29\4\xd0" + bytes(6)))
    head = chance.randbytes(2) + b"\1\0\0\1" + bytes(5) + bytes([len(edns) > 0])
    return head + wire + b"\0" + chance.choice((b"\1", b"\x1c", b"\x41")) + b"\0\1" + edns


@pytest.mark.parametrize("count", [2, 3, 8])
def test_each_name_has_a_socket_of_its_own_and_each_socket_its_share(alike, count):
    socks, chance = alike(count), random.Random(count)
    assert steer(socks[0], range(count))
    shares = [0] * count
    for number in range(150):
        for pattern in PATTERNS:
            [owner] = {taken_by(socks, query(pattern.format(number), chance)) for _ in range(3)}
            shares[owner] += 1
    assert sum(shares) == 150 * len(PATTERNS)
    assert min(shares) > sum(shares) / count / 2


def test_names_go_to_the_targets_alone_and_the_last_word_counts(alike):
    socks, chance = alike(4), random.Random(4)
    for targets in ([2], [3, 1], range(4)):
        assert steer(socks[0], targets)
        assert {taken_by(socks, query(f"name{number}.example", chance)) for number in range(100)} == set(targets)


@pytest.mark.parametrize("octets", [b"", b"x", bytes(11), bytes(15), b"\xff" * 15])
def test_what_holds_no_name_goes_to_one_of_them(alike, octets):
    socks = alike(3)
    assert steer(socks[0], [1, 2])
    assert taken_by(socks, octets) in (1, 2)


def test_names_are_told_apart_by_their_24th_octet(alike):
    socks, chance = alike(2), random.Random(24)
    assert steer(socks[0], range(2))
    owners = {
        taken_by(socks, query(f"{'x' * 22}{letter}.example", chance)) for letter in "abcdefghijklmnopqrstuvwxyz0123456789"
    }
    assert owners == {0, 1}


def test_the_hash_has_two_secrets():
    told = "from dohproxy.listen import steering; print(steering._SEED, steering._FACTOR)"
    runs = [subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert not {*runs[0].split()} & {*runs[1].split()}


def test_both_secrets_choose_the_socket(alike, monkeypatch):
    socks, chance = alike(2), random.Random(7)
    wires = [query(f"name{number}.example", chance) for number in range(60)]
    found = []
    for seed, factor in ((1, 5), (2, 5), (1, 0x9E3779B1)):
        monkeypatch.setattr(steering, "_SEED", seed)
        mix = [step._replace(value=factor) if step.code == steering._MULTIPLY else step for step in steering._MIX]
        monkeypatch.setattr(steering, "_MIX", mix)
        assert steer(socks[0], range(2))
        found.append([taken_by(socks, wire) for wire in wires])
    assert found[0] != found[1]
    assert found[0] != found[2]


def test_where_the_kernel_takes_no_program_that_is_said_and_all_stays_as_it_was(alike, monkeypatch, caplog):
    socks = alike(2)
    monkeypatch.setattr(steering, "_ATTACH", 9999)
    caplog.set_level("INFO")
    assert not steer(socks[0], [0, 1])
    assert "by addresses and ports, and not by names: Protocol not available" in caplog.text
    assert taken_by(socks, bytes(20)) in (0, 1)
