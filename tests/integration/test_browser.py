"""A browser that an administrator's policy has ask the proxy, and nobody else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from programs import free_ports, need
from real_peers import Proxy

from dohproxy.lab.certificates import Authority

IN_A_MOUNT_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c")
"""Where the browser's policies, which are files in /etc, are ours."""
CONFIG = """
[listen]
udp = ["127.0.0.1:PORT"]
tcp = ["127.0.0.1:PORT"]
doh = ["127.0.0.1:{doh}"]
[tls]
certificate = "server.pem"
key = "server.key"
[log]
queries = true
[local]
records = ["page.example. 300 IN A 127.0.0.1", "image.example. 300 IN A 127.0.0.1", "ads.example. 300 IN A 127.0.0.1"]
[[policy.group]]
name = "default"
deny = ["ads.example"]
[[upstream]]
url = "tls://127.0.0.1:1"
"""


class Web(ThreadingHTTPServer):
    """A page that wants images of two other names; `hosts` are the names that it was asked by."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.hosts: list[str] = []

    @property
    def page(self) -> bytes:
        images = "".join(f'<img src="http://{name}.example:{self.server_port}/">' for name in ("image", "ads"))
        return f"<p>this is the page</p>{images}".encode()


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Web)
        self.server.hosts.append(str(self.headers["host"]).partition(":")[0])
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(self.server.page)))
        self.end_headers()
        self.wfile.write(self.server.page)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def browse(directory: Path, policies: dict[str, object], url: str) -> str:
    """What chromium has on its page, in the end."""
    need("chromium", "unshare")
    if subprocess.run([*IN_A_MOUNT_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.fail("no mount namespaces") if "CI" in os.environ else pytest.skip("mount namespaces are not allowed here")
    managed = directory / "etc" / "policies" / "managed"
    managed.mkdir(parents=True)
    (managed / "dns.json").write_text(json.dumps(policies))
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
    command = ["chromium", *options, f"--user-data-dir={directory / 'profile'}", "--timeout=20000", "--dump-dom", url]
    mounted = [*IN_A_MOUNT_NAMESPACE, 'mount --bind "$0" /etc/chromium && exec "$@"', str(directory / "etc"), *command]
    environment = {**os.environ, "HOME": str(directory)}
    return subprocess.run(mounted, capture_output=True, text=True, timeout=90, check=True, env=environment).stdout


def test_chromium_finds_a_page_by_us(web: Web, tmp_path: Path) -> None:
    authority = Authority("servers")
    authority.server("127.0.0.1").write(tmp_path, "server")
    (doh,) = free_ports(1)
    policies: dict[str, object] = {
        "DnsOverHttpsMode": "secure",
        "DnsOverHttpsTemplates": f"https://127.0.0.1:{doh}/dns-query{{?dns}}",
        "CACertificates": [b64encode(authority.certificate.public_bytes(Encoding.DER)).decode()],
    }
    with Proxy(tmp_path, CONFIG.format(doh=doh)) as proxy:
        shown = browse(tmp_path, policies, f"http://page.example:{web.server_port}/")
        asked = set(re.findall(r"transport=https name=(\w+)\.example\. type=A rcode=(\w+)", proxy.log.read_text()))
    assert "this is the page" in shown
    assert set(web.hosts) == {"page.example", "image.example"}
    assert {("page", "NOERROR"), ("image", "NOERROR"), ("ads", "NXDOMAIN")} <= asked
