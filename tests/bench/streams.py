"""Cached names asked over kept connections: TCP, DNS over TLS, DNS over HTTPS (dnsperf, h2load); and new connections."""

import base64
import re
import socket
import ssl
import subprocess
from pathlib import Path

import systems

CONNECTIONS, IN_FLIGHT = 100, 1000
HANDSHAKES = 300


def ask(kind: str, port: int, queries: Path, cpu: int, seconds: float) -> dict[str, float]:
    """One run over 100 kept connections: answers a second, and what was lost or wrong, in percent."""
    return _h2load(port, queries, cpu, seconds) if kind == "doh" else _dnsperf(kind, port, queries, cpu, seconds)


def _dnsperf(kind: str, port: int, queries: Path, cpu: int, seconds: float) -> dict[str, float]:
    where = ["-s", "127.0.0.1", "-p", port, "-d", queries]
    how = ["-c", CONNECTIONS, "-q", IN_FLIGHT, "-l", seconds, "-t", 2, "-T", 1]
    said = _run(cpu, ["dnsperf", "-m", kind, *where, *how], seconds)
    sent, completed = _number(r"Queries sent: +(\d+)", said), _number(r"Queries completed: +(\d+)", said)
    right = _number(r"NOERROR (\d+)", said)
    return {
        "qps": _number(r"Queries per second: +([\d.]+)", said),
        "received": completed,
        "lost": 100 * (sent - completed) / max(1, sent),
        "wrong": 100 * (completed - right) / max(1, completed),
    }


def _h2load(port: int, queries: Path, cpu: int, seconds: float) -> dict[str, float]:
    urls = queries.with_name("urls")
    if not urls.exists():
        names = [line.split()[0] for line in queries.read_text().splitlines()]
        urls.write_text("".join(f"https://127.0.0.1/dns-query?dns={_encoded(name)}\n" for name in names))
    first, rest = urls.read_text().split("\n", 1)
    urls_here = urls.with_name(f"urls-{port}")
    urls_here.write_text(first.replace("127.0.0.1", f"127.0.0.1:{port}") + "\n" + rest)
    how = ["-c", CONNECTIONS, "-m", IN_FLIGHT // CONNECTIONS, "-D", max(1, round(seconds))]
    said = _run(cpu, ["h2load", *how, "-H", "accept: application/dns-message", "-i", urls_here], seconds)
    done, good = _number(r"requests:.* (\d+) done", said), _number(r"status codes: (\d+) 2xx", said)
    failed = _number(r"(\d+) failed", said)
    return {
        "qps": _number(r"finished in .*?, ([\d.]+) req/s", said),
        "received": good,
        "lost": 100 * failed / max(1, done),
        "wrong": 100 * max(0.0, done - failed - good) / max(1, done),
    }


def _encoded(name: str) -> str:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    message = b"\0\0\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    return base64.urlsafe_b64encode(message).rstrip(b"=").decode()


def _run(cpu: int, command: list[object], seconds: float) -> str:
    words = [str(word) for word in ("taskset", "-c", cpu, *command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=seconds + 60, check=False).stdout


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def shake_hands(port: int, ca: Path, *, resume: bool) -> int:
    """Open connections one after the other, with one octet's worth of patience each; how many were opened."""
    context = ssl.create_default_context(cafile=str(ca))
    context.set_alpn_protocols(["dot"])
    session: ssl.SSLSession | None = None
    for _ in range(HANDSHAKES):
        with socket.create_connection(("127.0.0.1", port)) as plain:
            stream = context.wrap_socket(plain, server_hostname=systems.TLS_NAME, session=session)
            stream.sendall(b"\0\x1c\0\1\1\0\0\1\0\0\0\0\0\0\2h0\5plain\2zz\0\0\1\0\1")
            stream.recv(4096)
            session = stream.session if resume else None
            stream.close()
    return HANDSHAKES
