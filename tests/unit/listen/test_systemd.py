import os
import socket

import pytest

from dohproxy.listen.systemd import Notifier, passed_sockets


@pytest.fixture
def manager(tmp_path):
    """A service manager's end of NOTIFY_SOCKET: gives its address and what it heard."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield str(tmp_path / "notify"), lambda: sock.recv(4096).decode().split("\n")


def test_takes_the_sockets_passed_and_the_variables():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        first = os.dup2(sock.fileno(), 200)
        environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "dns", "HOME": "/"}
        [passed] = passed_sockets(environ, first)
        with passed:
            assert passed.getsockname() == sock.getsockname()
            assert not passed.get_inheritable()
            assert (passed.family, passed.type) == (socket.AF_INET, socket.SOCK_DGRAM)
        assert environ == {"HOME": "/"}


@pytest.mark.parametrize(
    "environ", [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}]
)
def test_sockets_meant_for_others_are_left_alone(environ):
    assert passed_sockets(dict(environ)) == ()


def test_tells_how_we_are(manager):
    address, heard = manager
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready()
    assert "READY=1" in heard()
    notifier.reloading()
    reloading, monotonic = heard()
    assert reloading == "RELOADING=1"
    assert int(monotonic.removeprefix("MONOTONIC_USEC=")) > 0
    notifier.stopping()
    assert "STOPPING=1" in heard()
    notifier.alive()
    assert heard() == ["WATCHDOG=1"]


def test_abstract_addresses():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0dohproxy-test-{os.getpid()}")
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@dohproxy-test-{os.getpid()}"}).ready()
        assert sock.recv(100).startswith(b"READY=1")


def test_nobody_to_tell(tmp_path):
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
    ],
)
def test_watchdog(environ, seconds):
    assert Notifier(environ).watchdog == seconds
