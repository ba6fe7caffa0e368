"""Other people's validators as the tests run them: Knot Resolver behind the same upstream as the proxy, and BIND's delv."""

from __future__ import annotations

import subprocess
from pathlib import Path

from programs import SEARCH, Running, free_ports, need
from real_peers import TLS_NAME


class Kresd(Running):
    """A Knot Resolver that forwards everything by DoT, and validates from this root anchor."""

    def __init__(self, directory: Path, dot_port: int, ca_file: Path, anchor: str) -> None:
        need("kresd")
        (self.port,) = free_ports(1)
        state = directory / "kresd"
        state.mkdir()
        (state / "kresd.conf").write_text(f"""\
net.listen('127.0.0.1', {self.port}, {{ kind = 'dns' }})
net.ipv6 = false
cache.size = 10 * MB
trust_anchors.remove('.')
for _, name in ipairs({{'ta_signal_query', 'ta_sentinel', 'priming', 'detect_time_jump', 'detect_time_skew'}}) do
  modules.unload(name)
end
modules = {{ 'policy' }}
trust_anchors.add([[{anchor}]])
policy.add(policy.all(policy.TLS_FORWARD({{{{'127.0.0.1@{dot_port}', hostname = '{TLS_NAME}', ca_file = '{ca_file}'}}}})))
""")
        super().__init__(["kresd", "-n", "-c", state / "kresd.conf", state], directory / "kresd.log", [self.port])


def delv(port: int, anchors: Path, name: str, rdtype: str) -> str:
    """What delv finds with the answers of 127.0.0.1: `secure`, `insecure` or `bogus`, and whether there is no such name."""
    command = ["delv", "@127.0.0.1", "-p", str(port), "-a", anchors, "+root=.", "+nocrypto", "+nomultiline", name, rdtype]
    environment = {"PATH": SEARCH}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=environment, check=False)
    told = done.stdout + done.stderr
    verdict = "insecure" if "unsigned answer" in told else "secure" if "fully validated" in told else "bogus"
    return f"{verdict}, no such name" if "ncache nxdomain" in told else verdict


def delv_anchor(ds: str, file: Path) -> Path:
    """The file of trust anchors for delv with this DS of the root, such as `. IN DS 12345 13 2 ABCD…`."""
    *_, tag, algorithm, digest_type, digest = ds.split(maxsplit=6)
    file.write_text(f'trust-anchors {{ . static-ds {tag} {algorithm} {digest_type} "{"".join(digest.split())}"; }};\n')
    return file
