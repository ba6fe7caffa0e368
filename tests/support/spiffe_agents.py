"""Agents of the SPIFFE Workload API on a Unix socket: one of ours on h2, and one on Google's gRPC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import trio
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509 import load_pem_x509_certificates

from dohproxy.lab.certificates import Authority, Credentials, Validity

SERVICE = "/SpiffeWorkloadAPI/"


def field(number: int, octets: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(octets)) + octets


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def der_of(authority: Authority) -> bytes:
    return authority.certificate.public_bytes(Encoding.DER)


def svid(spiffe_id: str, credentials: Credentials, bundle: bytes) -> bytes:
    """A message X509SVID; the authority's certificate, a root, is no part of the chain."""
    leaf = load_pem_x509_certificates(credentials.certificate)[0]
    key = load_pem_private_key(credentials.key, None).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    chain = leaf.public_bytes(Encoding.DER)
    return field(1, spiffe_id.encode()) + field(2, chain) + field(3, key) + field(4, bundle) + field(5, b"internal")


def issue(authority: Authority, spiffe_id: str, validity: Validity | None = None) -> bytes:
    return svid(spiffe_id, authority.client("workload", spiffe_id, validity=validity), der_of(authority))


def svids(*each: bytes, federated: Mapping[str, bytes] | None = None) -> bytes:
    """A message X509SVIDResponse."""
    return b"".join(field(1, one) for one in each) + entries(3, federated or {})


def bundles(each: Mapping[str, bytes]) -> bytes:
    """A message X509BundlesResponse, as SPIRE writes it: with a CRL, and the trust domains' names as SPIFFE IDs."""
    return field(1, b"crl") + entries(2, {f"spiffe://{name}": der for name, der in each.items()})


def entries(number: int, each: Mapping[str, bytes]) -> bytes:
    return b"".join(field(number, field(1, name.encode()) + field(2, der)) for name, der in each.items())


class Agent:
    """Streams to every caller what `say` is told, from the latest on; `stop` ends it as a crash would."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.calls: list[dict[str, str]] = []
        self.status: tuple[int, str] | None = None
        """With which calls end at once."""
        self._latest: dict[str, bytes] = {}
        self._callers: list[tuple[str, _Caller]] = []
        self._life = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        self.socket.unlink(missing_ok=True)
        await sock.bind(str(self.socket))
        sock.listen()
        self._life = trio.CancelScope()
        with self._life:
            await trio.serve_listeners(self._serve, [trio.SocketListener(sock)], task_status=task_status)  # type: ignore[arg-type]

    def stop(self) -> None:
        self._life.cancel()

    async def say(self, method: str, message: bytes) -> None:
        self._latest[method] = message
        for called, caller in self._callers:
            if called == method:
                await caller.send(message)

    async def _serve(self, stream: trio.SocketStream) -> None:
        caller = _Caller(stream)
        try:
            headers = await caller.accept()
            self.calls.append(headers)
            method = headers[":path"].removeprefix(SERVICE)
            if self.status is not None:
                await caller.end(*self.status)
                return
            self._callers.append((method, caller))
            if method in self._latest:
                await caller.send(self._latest[method])
            async for _ in stream:
                pass
        except trio.BrokenResourceError:
            pass
        finally:
            self._callers = [one for one in self._callers if one[1] is not caller]


class _Caller:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self._answered = False

    async def accept(self) -> dict[str, str]:
        self._h2.initiate_connection()
        headers: dict[str, str] = {}
        async for data in self._stream:
            events: Iterable[Any] = self._h2.receive_data(bytes(data))
            for event in events:
                if isinstance(event, h2.events.RequestReceived):
                    headers = {str(name): str(value) for name, value in event.headers}
                if isinstance(event, h2.events.StreamEnded):
                    await self._flush()
                    return headers
            await self._flush()
        raise trio.BrokenResourceError

    async def send(self, message: bytes) -> None:
        if not self._answered:
            self._h2.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
            self._answered = True
        self._h2.send_data(1, b"\0" + len(message).to_bytes(4) + message)
        await self._flush()

    async def end(self, status: int, message: str) -> None:
        headers = [(":status", "200"), ("content-type", "application/grpc")]
        headers += [("grpc-status", str(status)), ("grpc-message", message)]
        self._h2.send_headers(1, headers, end_stream=True)
        await self._flush()

    async def _flush(self) -> None:
        await self._stream.send_all(self._h2.data_to_send())
