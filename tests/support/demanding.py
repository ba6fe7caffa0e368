"""nginx and stunnel before a resolver: they demand clients' certificates, and nginx writes down whose it saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from programs import Running, free_ports, need
from real_peers import Unbound

MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


class Resolver(Unbound):
    """Asked in clear, by TCP and by HTTP/2: what demands certificates stands before it."""

    def __init__(self, directory: Path, nsd_port: int) -> None:
        super().__init__(directory, "undemanding", nsd_port)
        config = directory / "undemanding.conf"
        clear = f"  interface: 127.0.0.1@{self.doh_port}\n  https-port: {self.doh_port}\n  http-notls-downstream: yes\n"
        config.write_text(config.read_text().replace("server:\n", f"server:\n{clear}", 1))
        self.ports = [self.plain_port, self.doh_port]


class Nginx(Running):
    """Ends TLS for the resolver, of clients that `clients` vouches for. Tells of connections once they are over."""

    def __init__(self, directory: Path, resolver: Resolver, certificate: tuple[Path, Path], clients: Path) -> None:
        need("nginx")
        self.dot_port, self.doh_port = free_ports(2)
        self._seen = directory / "nginx.seen"
        config = directory / "nginx.conf"
        config.write_text(f"""\
load_module {MODULE};
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr info;
events {{}}
stream {{
    log_format seen escape=json '{{"name": "$ssl_client_s_dn", "serial": "$ssl_client_serial", '
                                '"resumed": "$ssl_session_reused", "verify": "$ssl_client_verify"}}';
    access_log {self._seen} seen;
    ssl_certificate {certificate[0]};
    ssl_certificate_key {certificate[1]};
    ssl_client_certificate {clients};
    ssl_verify_client on;
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:tls:1m;
    server {{ listen 127.0.0.1:{self.dot_port} ssl; ssl_alpn dot; proxy_pass 127.0.0.1:{resolver.plain_port}; }}
    server {{ listen 127.0.0.1:{self.doh_port} ssl; ssl_alpn h2; proxy_pass 127.0.0.1:{resolver.doh_port}; }}
}}
""")
        super().__init__(
            ["nginx", "-e", "stderr", "-c", config, "-p", directory], directory / "nginx.log", [self.dot_port, self.doh_port]
        )

    @property
    def seen(self) -> list[dict[str, Any]]:
        """The clients of the connections that are over, but for those that did not even shake hands."""
        lines = self._seen.read_text().splitlines() if self._seen.exists() else []
        return [client for client in map(json.loads, lines) if client["name"]]


class Stunnel(Running):
    """The same for DNS over TLS alone, and tells a client that it refuses why."""

    def __init__(self, directory: Path, resolver: Resolver, certificate: tuple[Path, Path], clients: Path) -> None:
        need("stunnel4")
        (self.port,) = free_ports(1)
        config = directory / "stunnel.conf"
        config.write_text(f"""\
foreground = yes
pid =
debug = info
[dot]
accept = 127.0.0.1:{self.port}
connect = 127.0.0.1:{resolver.plain_port}
cert = {certificate[0]}
key = {certificate[1]}
CAfile = {clients}
verifyChain = yes
requireCert = yes
""")
        super().__init__(["stunnel4", config], directory / "stunnel.log", [self.port])
