"""A QUIC connection on a socket of its own, and the first of several addresses that takes one (RFC 9000, RFC 8305)."""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from math import inf

import trio
from aioquic.quic.events import ConnectionTerminated, QuicEvent
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import AlertDescription

from dohproxy.identity.own import BadCertificate
from dohproxy.upstream.connect import first, way_to
from dohproxy.upstream.quic_client import QuicClient
from dohproxy.upstream.tls import Unwelcome

_BATCH = 64
"""Datagrams that are read in one turn of the event loop."""
_READ = 65536
_PROBE = 3
"""IP_PMTUDISC_PROBE and its twin of IPv6: what does not fit the path is dropped, not cut up (RFC 9000 14)."""
_WHOLE = {socket.AF_INET: (socket.IPPROTO_IP, 10), socket.AF_INET6: (socket.IPPROTO_IPV6, 23)}
"""The options IP_MTU_DISCOVER and IPV6_MTU_DISCOVER of Linux."""
_BUFFER = 1 << 20
_WORDS = 100
"""Characters at most of what a server has to say."""
_REFUSALS = {
    int(alert): alert.name.replace("_", " ")
    for alert in (
        AlertDescription.bad_certificate,
        AlertDescription.unsupported_certificate,
        AlertDescription.certificate_revoked,
        AlertDescription.certificate_expired,
        AlertDescription.certificate_unknown,
        AlertDescription.unknown_ca,
        AlertDescription.access_denied,
    )
}
"""By which one side refuses the other's certificate (RFC 8446 6.2)."""
_MOVED = frozenset(
    (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EINVAL, errno.ENODEV, errno.ENXIO)
)
"""What the kernel says where our address, or the way from it, is no more."""


class Path:
    """A connection and the socket that it uses now. Raises OSError where nothing leads to the address, and BadCertificate."""

    def __init__(self, client: QuicClient, address: str, port: int) -> None:
        self._peer = (address, port)
        self.socket = _connected(*self._peer)
        try:
            self.quic = client.connection(address)
        except BaseException:
            self.socket.close()
            raise
        self.spoke = -inf
        """When the server was last heard."""
        self.quic.connect(self._peer, trio.current_time())

    @property
    def timer(self) -> float:
        """When `tick` is due."""
        timer = self.quic.get_timer()
        return inf if timer is None else timer

    def receive(self) -> None:
        """Takes some datagrams. Raises OSError where the server's host, or our own, says that nobody is there."""
        now, quic = trio.current_time(), self.quic
        with suppress(BlockingIOError):
            for _ in range(_BATCH):
                data = self.socket.recv(_READ)
                if data:
                    quic.receive_datagram(data, self._peer, now)
                    self.spoke = now

    def tick(self, now: float) -> None:
        """Time has passed."""
        if now >= self.timer:
            self.quic.handle_timer(now)

    def send(self) -> None:
        """Lets go what there is to send, unless it may wait; what the kernel has no room for is lost. Raises OSError."""
        now, quic = trio.current_time(), self.quic
        if quic.may_wait(now):
            return
        for data, peer in quic.datagrams_to_send(now):
            if peer == self._peer:
                with suppress(BlockingIOError):
                    self.socket.send(data)

    def move(self) -> None:
        """Goes on from a new socket, and so from the address and port that lead to the server now. Raises OSError."""
        moved = _connected(*self._peer)
        trio.lowlevel.notify_closing(self.socket)
        self.socket.close()
        self.socket = moved
        self.quic.migrate()

    def strayed(self) -> bool:
        """Whether packets to the server would leave from another address than they did, if they can at all."""
        now = way_to(self._peer[0])
        return bool(now) and now != self.socket.getsockname()[0]

    def close(self, code: int = QuicErrorCode.NO_ERROR) -> None:
        """Says goodbye, if that was not said yet."""
        try:
            self.quic.close(error_code=code)
            with suppress(OSError):
                self.send()
        finally:
            trio.lowlevel.notify_closing(self.socket)
            self.socket.close()

    def events(self) -> list[QuicEvent]:
        """What has come of it all, once only."""
        events = []
        while (event := self.quic.next_event()) is not None:
            events.append(event)
        return events


def is_lost(error: OSError) -> bool:
    """Whether another socket may help, for the network has changed under this one."""
    return error.errno in _MOVED


async def meet(client: QuicClient, addresses: tuple[str, ...], port: int) -> Path:
    """A connection to the first address that answers to the first packet; raises OSError, the last there was, if none does."""

    async def attempt(address: str) -> Path:
        try:
            path = Path(client, address, port)
        except BadCertificate as error:  # of many tasks, and so not as itself
            raise Unwelcome(str(error)) from error
        return await _greeted(path)

    return await first(addresses, attempt)


async def _greeted(path: Path) -> Path:
    try:
        path.send()
        while not path.quic.greeted:
            with trio.move_on_at(path.timer):
                await trio.lowlevel.wait_readable(path.socket)
                path.receive()
            path.tick(trio.current_time())
            if path.quic.end is not None:
                raise _aborted(path.quic.end, ours=path.quic.ended_it)
            path.send()
    except BaseException:
        path.close()
        raise
    return path


def _aborted(end: ConnectionTerminated, *, ours: bool) -> ConnectionAbortedError:
    return (Unwelcome if is_alert(end) else ConnectionAbortedError)(in_words(end, ours=ours))


def in_words(end: ConnectionTerminated, *, ours: bool) -> str:
    """Why a connection ended, by our will or the server's."""
    words = "".join(filter(str.isprintable, end.reason_phrase))
    said = words[:_WORDS].lower()
    if not is_alert(end):
        return said or f"closed with error {end.error_code:#x}"
    number = end.error_code - QuicErrorCode.CRYPTO_ERROR
    if ours and number in _REFUSALS:
        return f"its certificate is refused: {words}"  # ours: with the pins that it has, to copy
    if not ours and number == AlertDescription.certificate_required:
        return "the server wants a certificate of us"
    if not ours and number in _REFUSALS:
        return f"the server refuses our certificate: {_REFUSALS[number]}"
    return f"TLS: {said or f'alert {number}'}"


def is_alert(end: ConnectionTerminated) -> bool:
    """Whether a TLS alert ended a connection (RFC 9001 4.8)."""
    return end.frame_type is not None and 0 <= end.error_code - QuicErrorCode.CRYPTO_ERROR < 0x100


def _connected(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        with suppress(OSError):  # not on Linux
            sock.setsockopt(*_WHOLE[family], _PROBE)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock
