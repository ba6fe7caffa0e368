"""`dohproxy lab`: serves the lab, alone or with the proxy in front of it, until told to stop."""

from __future__ import annotations

import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trio

from dohproxy.lab.lab import PROXY_NAME, Lab, open_lab
from dohproxy.lab.samples import SAMPLES, ask, table

PROXY_PORT = 5300
TLS_PORT, WEB_PORT = 8853, 8443
"""Where the proxy listens by TLS and QUIC, and by HTTPS, if these are free."""
START = 10.0
"""Seconds that the proxy may take to start."""
PAGE = 160
"""Columns where the output is no terminal."""
STOP = 2.5
"""Seconds that it may take to end before it is killed."""


class LabFailed(Exception):
    """The proxy did not start, or died; its text is for a person."""


def run(*, with_proxy: bool = False, port: int = PROXY_PORT, dot_port: int = 0, doh_port: int = 0) -> int:
    """Serves until SIGINT or SIGTERM; answers the exit status.

    With `with_proxy` a proxy listens on 127.0.0.1, on `port` if that is free, and a table shows what it makes of the lab.
    """
    status = 0
    try:
        trio.run(partial(_serve, with_proxy=with_proxy, port=port, dot_port=dot_port, doh_port=doh_port))
    except* (LabFailed, OSError) as group:
        status = 1
        for error in _leaves(group):
            print(f"dohproxy lab: {error}", file=sys.stderr)
    return status


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _serve(*, with_proxy: bool, port: int, dot_port: int, doh_port: int) -> None:
    with TemporaryDirectory(prefix="dohproxy-lab-") as directory:
        async with open_lab(Path(directory), dot_port, doh_port) as lab, trio.open_nursery() as nursery:
            await nursery.start(_until_told, nursery.cancel_scope)
            if with_proxy:
                await _demonstrate(lab, port, nursery)
            else:
                _tell(lab, port)
            _print("Ctrl-C ends it.")
            await trio.sleep_forever()


async def _until_told(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _tell(lab: Lab, port: int) -> None:
    config = lab.directory / "dohproxy.toml"
    config.write_text(lab.config_toml(port))
    _print(f"The lab serves {lab.dot_url} and {lab.doh_url}, with certificates from {lab.ca_file}.")
    for line in lab.anchor_lines:
        _print(f"Its root's trust anchor: {line}")
    _print(f"\n# A proxy in front of it: dohproxy run --config {config}\n\n{lab.config_toml(port)}")


async def _demonstrate(lab: Lab, port: int, nursery: trio.Nursery) -> None:
    chosen = free_port(port)
    if port not in (0, chosen):
        _print(f"Port {port} of 127.0.0.1 is taken: the proxy listens on {chosen} instead.")
    config = lab.directory / "dohproxy.toml"
    encrypted = free_port(TLS_PORT), free_port(WEB_PORT)
    config.write_text(lab.config_toml(chosen, more='[log]\nlevel = "warning"\n', encrypted=encrypted))
    await start_proxy(config, chosen, nursery)
    _print(f"What the proxy on 127.0.0.1:{chosen} makes of the lab:\n")
    results = [await ask(sample, chosen) for sample in SAMPLES]
    for line in table(results, shutil.get_terminal_size((PAGE, 0)).columns):
        _print(line)
    _print(f"\nThe lab serves {lab.dot_url} and {lab.doh_url}; the proxy has {config}. Try:")
    for tried in ("www.rsa.lab +dnssec", "expired.bogus.lab", "expired.bogus.lab +cd", "ads.lab", "rebind.lab AAAA"):
        _print(f"    dig @127.0.0.1 -p {chosen} {tried}")
    for line in _encrypted_ways(lab, *encrypted):
        _print(line)


def _encrypted_ways(lab: Lab, tls_port: int, web_port: int) -> Iterator[str]:
    """What to try of the proxy's encrypted listeners."""
    ca_file, workload = lab.ca_file, lab.directory / "workload"
    trusting = f"+tls-ca={ca_file} +tls-hostname={PROXY_NAME}"
    yield f"\nBy TLS and QUIC on {tls_port}, by HTTPS and HTTP/3 on {web_port}:"
    for port, how in ((tls_port, "tls"), (tls_port, "quic"), (web_port, "https")):
        yield f"    kdig @127.0.0.1 -p {port} {trusting} +{how} www.rsa.lab"
    yield f"    curl --cacert {ca_file} 'https://127.0.0.1:{web_port}/dns-query?name=www.rsa.lab&type=A'"
    yield "As a workload with a certificate, which may ask for what is in rsa.lab and no more:"
    shown = f"+tls-certfile={workload}.pem +tls-keyfile={workload}.key"
    yield f"    kdig @127.0.0.1 -p {tls_port} {trusting} {shown} +tls www.ecdsa.lab"


def free_port(wanted: int) -> int:
    """`wanted` if both UDP and TCP are free on it, on 127.0.0.1; else another port that is."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(("127.0.0.1", wanted))
            bound: int = tcp.getsockname()[1]
            udp.bind(("127.0.0.1", bound))
        except OSError:
            return free_port(0)
        return bound


async def start_proxy(config: Path, port: int, nursery: trio.Nursery) -> None:
    """Runs a proxy in `nursery` and comes back when it accepts TCP on `port`; raises LabFailed, there, if it dies."""
    nursery.start_soon(_proxy, config)
    with trio.move_on_after(START) as waiting:
        while True:
            with suppress(OSError):
                await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
                return
            await trio.sleep(0.02)
    if waiting.cancelled_caught:
        raise LabFailed(f"the proxy does not serve after {START:g} seconds")


async def _proxy(config: Path) -> None:
    command = [sys.executable, "-m", "dohproxy", "run", "--config", str(config)]
    # In a session of its own: Ctrl-C reaches this process alone, and it is this process that stops the proxy.
    done = await trio.run_process(command, check=False, deliver_cancel=_stop, start_new_session=True)
    raise LabFailed(f"the proxy ended with status {done.returncode}")


async def _stop(process: trio.Process) -> None:
    process.terminate()
    await trio.sleep(STOP)
    process.kill()


def _print(text: str) -> None:
    print(text, flush=True)
