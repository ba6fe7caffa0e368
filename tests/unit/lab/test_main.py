"""The lab as a command: its configuration, its ports, what it says of the proxy's answers."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

import pytest

from dohproxy.config.load import load, parse
from dohproxy.lab.lab import Lab
from dohproxy.lab.main import free_port
from dohproxy.lab.samples import Result, Sample, table
from dohproxy.listen.credentials import credentials


async def test_the_configuration_is_one_that_the_proxy_reads(lab: Lab) -> None:
    file = lab.directory / "dohproxy.toml"
    file.write_text(lab.config_toml(5353))
    settings = load(file)
    assert [(upstream.scheme, upstream.port) for upstream in settings.upstreams] == [
        ("tls", lab.dot_port),
        ("https", lab.doh_port),
    ]
    assert [anchor.zone for anchor in settings.dnssec.anchors] == [b"\0"]
    file.write_text(lab.config_toml(5353, [lab.doh_url], more="[workers]\ncount = 2\n"))
    assert (len(load(file).upstreams), load(file).workers.count) == (1, 2)


async def test_the_configuration_may_have_encrypted_listeners(lab: Lab) -> None:
    settings = parse(lab.config_toml(5353, more="[workers]\ncount = 2\n", encrypted=(8853, 8443)), "lab.toml", lab.directory)
    listen = settings.listen
    assert [[one.port for one in way] for way in (listen.dot, listen.doq, listen.doh, listen.doh3)] == [
        *([8853], [8853], [8443], [8443])
    ]
    assert (settings.warnings, settings.workers.count) == ((), 2)
    assert credentials(settings.tls).certificates[0].current().chain


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_taken_port_is_left_alone(kind: socket.SocketKind) -> None:
    with socket.socket(type=kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind is socket.SOCK_STREAM:
            taken.listen()
        assert free_port(taken.getsockname()[1]) != taken.getsockname()[1]


def test_a_free_port_is_taken_as_wished() -> None:
    free = free_port(0)
    assert free_port(free) == free


@pytest.mark.parametrize(
    ("result", "right"),
    [
        (Result(Sample("", "x", ad=True), "NOERROR", True), True),
        (Result(Sample("", "x", ad=True), "NOERROR", False), False),
        (Result(Sample("", "x"), "NOERROR", True), False),
        (Result(Sample("", "x", rcode="SERVFAIL", ede=(6, 9)), "SERVFAIL", ede=((9, "no key"),)), True),
        (Result(Sample("", "x", rcode="SERVFAIL", ede=(6, 9)), "SERVFAIL", ede=((22, ""), (9, ""))), False),
        (Result(Sample("", "x", rcode="SERVFAIL", ede=(6, 9)), "SERVFAIL"), False),
        (Result(Sample("", "x", tcp=True), "NOERROR"), False),
        (Result(Sample("", "x"), "timeout"), False),
    ],
)
def test_a_result_is_right_when_all_of_it_is(result: Result, right: bool) -> None:
    assert result.right is right


def test_the_table_tells_what_came_and_what_should_have() -> None:
    result = Result(Sample("expired", "e.lab", rcode="SERVFAIL"), "NOERROR", True, ((7, "too late"),))
    _, line = table([result], 200)
    for part in ("e.lab A", "expired", "NOERROR", "7: too late", "should be SERVFAIL", "NO"):
        assert part in line
    assert {len(line) for line in table([result], 40)} == {40}


def test_the_command_serves_and_ends_when_told() -> None:
    command = [sys.executable, "-m", "dohproxy", "lab"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lab:
        lines = iter(lab.stdout.readline, "")
        assert any("trust_anchors" in line for line in lines)
        assert any("Ctrl-C" in line for line in lines)
        told = time.monotonic()
        lab.send_signal(signal.SIGTERM)
        assert lab.wait(10) == 0
        assert time.monotonic() - told < 3
