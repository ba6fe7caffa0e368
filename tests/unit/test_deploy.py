"""The units and the container file of deploy/ hold together, and ask for no more than they need."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
ROOT = DEPLOY.parent
EXPOSURE = 20
"""Of systemd-analyze security, in tenths: it calls up to 2.0 OK, and an unhardened service 9.6 UNSAFE."""


@pytest.fixture
def units(tmp_path):
    """The units, with a program in place of ours, which is not installed here."""
    if shutil.which("systemd-analyze") is None:
        message = "systemd-analyze is not installed"
        pytest.fail(message) if "CI" in os.environ else pytest.skip(message)
    for name in ("dohproxy.service", "dohproxy.socket"):
        (tmp_path / name).write_text((DEPLOY / name).read_text().replace("/opt/dohproxy/bin/dohproxy", "/bin/true"))
    return tmp_path


def test_units_have_no_faults(units):
    done = subprocess.run(
        ["systemd-analyze", "verify", units / "dohproxy.service", units / "dohproxy.socket"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_is_confined(units):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", units / "dohproxy.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def setting(name):
    return re.findall(rf"^{name}=(.*)$", (DEPLOY / "dohproxy.service").read_text(), re.MULTILINE)


def test_the_service_speaks_as_the_worker_does():
    master, supervisor = ((ROOT / f"dohproxy/{name}.py").read_text() for name in ("master", "supervisor"))
    assert setting("Type") == ["notify"]
    assert setting("ExecReload") == ["/bin/kill -HUP $MAINPID"]
    assert setting("RestartPreventExitStatus") == ["2"] and "BAD_CONFIGURATION = 0, 1, 2" in master
    assert float(re.findall(r"^END = ([\d.]+)", supervisor, re.MULTILINE)[0]) < float(setting("TimeoutStopSec")[0].rstrip("s"))


def test_sockets_are_of_one_version_of_ip():
    assert "BindIPv6Only=ipv6-only" in (DEPLOY / "dohproxy.socket").read_text()


def containerfile():
    return (DEPLOY / "Containerfile").read_text()


def test_the_container_copies_what_is_there_and_is_not_root():
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", containerfile(), re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
    assert re.findall(r"^USER (\d+)$", containerfile(), re.MULTILINE) == ["5300"]


def health_check(port):
    [command] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", containerfile(), re.MULTILINE)
    _, *arguments = json.loads(command)
    arguments[1] = arguments[1].replace("5300", str(port)).replace("timeout=6", "timeout=2")
    return subprocess.run([sys.executable, *arguments], check=False, capture_output=True).returncode


def test_the_health_check_wants_a_reply_and_no_more():
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse_one():
            with server.accept()[0] as client:
                query = client.recv(512)
                client.sendall(query[:4] + bytes([query[4] | 0x80, 5]) + query[6:])

        thread = threading.Thread(target=refuse_one)
        thread.start()
        assert health_check(server.getsockname()[1]) == 0
        thread.join()
        port = server.getsockname()[1]
    assert health_check(port) != 0
