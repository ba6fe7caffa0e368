"""The client of the SPIFFE Workload API: keeps what the agent says as it says it anew, and outlives the agent."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from pathlib import Path
from types import MappingProxyType

import trio

from dohproxy.contained import kept
from dohproxy.errors import DohproxyError, MalformedMessage
from dohproxy.identity.own import BadCertificate, OwnCertificate, SvidCertificate
from dohproxy.identity.svid import Identity, identity_from
from dohproxy.identity.workload_messages import Bundles, Svids, parse_bundles_untrusted, parse_svids_untrusted
from dohproxy.protocol.grpc import UNKNOWN, CallEnded, StreamingCall

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds that a start waits for the agent at most."""
_SHORTEST, _LONGEST = 0.5, 30.0
"""Seconds before the agent is asked again."""
_LOOK = 30.0
"""Seconds between two looks at the clock, which may be set while we sleep."""
_SERVICE = "/SpiffeWorkloadAPI"
_METADATA = (("workload.spiffe.io", "true"),)
"""Without it an agent does not answer (SPIFFE Workload API 4.1)."""


class Workload:
    """What the agent at this socket says that we are, and whom to trust, while `run` runs. Each process asks for itself.

    `svid` is our certificate; of several identities the first, as the standard has it. What was given last counts until its
    end, also when the agent is gone meanwhile. `bundles` may be called at any time.
    """

    def __init__(self, socket: Path, wall: Callable[[], float] = time.time) -> None:
        self._socket, self._wall = socket, wall
        self._svid = SvidCertificate()
        self._identity: Identity | None = None
        self._changed = trio.Event()
        self._own_bundles: Bundles = MappingProxyType({})
        """Those that came with our identity."""
        self._all_bundles: Bundles = MappingProxyType({})
        """Those that came by themselves."""
        self._bundles: Bundles = MappingProxyType({})

    def svid(self) -> OwnCertificate:
        """Our X.509-SVID, which is there once the agent has given one."""
        return self._svid

    def bundles(self) -> Mapping[str, tuple[bytes, ...]]:
        """The authorities, certificates in DER, by the names of their trust domains: the same object while nothing changed."""
        return self._bundles

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen to the agent until cancelled; started once there is an SVID, or has not been one for PATIENCE."""
        async with trio.open_nursery() as nursery:
            for method, take in (("FetchX509SVID", self._take_svids), ("FetchX509Bundles", self._take_bundles)):
                nursery.start_soon(kept, f"the Workload API ({method})", partial(self._listen, method, take))
            with trio.move_on_after(PATIENCE):
                await self._changed.wait()
            task_status.started()
            await kept("the end of our identity", self._expire)

    # What the agent says

    def _take_svids(self, message: bytes) -> None:
        said = parse_svids_untrusted(message)
        self._own_bundles = _bundles_of(said)
        self._join_bundles()
        if not said.svids:
            raise MalformedMessage("no X.509-SVID among those that it gives us")
        identity = identity_from(said.svids[0], self._wall())
        if identity == self._identity:
            return
        self._identity = identity
        self._svid.replace(identity.pair)
        self._changed.set()
        self._changed = trio.Event()
        log.info("the Workload API says that we are %s, until %s", identity.spiffe_id, _date(identity.end))

    def _take_bundles(self, message: bytes) -> None:
        self._all_bundles = parse_bundles_untrusted(message)
        self._join_bundles()

    def _join_bundles(self) -> None:
        joined = {**self._own_bundles, **self._all_bundles}
        if joined != self._bundles:
            self._bundles = MappingProxyType(joined)
            log.info("the Workload API says whom to trust: %s", ", ".join(sorted(joined)) or "nobody")

    # The agent's comings and goings

    async def _listen(self, method: str, take: Callable[[bytes], None]) -> None:
        """Call it again and again: less and less often while it says nothing of use."""
        patience = _Patience(method)
        while True:
            try:
                await self._call(method, partial(patience.heard, take))
            except (OSError, DohproxyError) as error:
                patience.lost(error)
            await trio.sleep(patience.pause())

    async def _call(self, method: str, take: Callable[[bytes], None]) -> None:
        """One call, until it ends; raises OSError, MalformedMessage, BadCertificate or CallEnded."""
        call = StreamingCall(f"{_SERVICE}/{method}", _METADATA)
        async with await _connect(self._socket) as stream:
            try:
                await stream.send_all(call.take())
                async for data in stream:
                    for message in call.receive_untrusted(bytes(data)):
                        take(message)
                    if call.ended is not None:
                        raise call.ended
                    await stream.send_all(call.take())
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise ConnectionError("the connection broke") from error
        raise CallEnded(UNKNOWN, "it closed the connection")

    # The end of an identity

    async def _expire(self) -> None:
        """Withdraw the SVID once it is over: nobody would accept it any more."""
        while True:
            if (left := self._left()) <= 0:
                assert self._identity is not None
                why = f"the X.509-SVID of {self._identity.spiffe_id} has expired, and the Workload API gives no other"
                log.error("%s", why)
                self._svid.withdraw(why)
                self._identity = None
                continue
            with trio.move_on_after(min(left, _LOOK)):
                await self._changed.wait()

    def _left(self) -> float:
        return inf if self._identity is None else self._identity.end - self._wall()


class _Patience:
    """How often an agent is asked that does not answer, and what is said of it: once until it is back."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._pause = _SHORTEST
        self._said = ""

    def heard(self, take: Callable[[bytes], None], message: bytes) -> None:
        """It speaks; what it says may be refused, and then the connection stays."""
        try:
            take(message)
        except (BadCertificate, MalformedMessage) as error:
            self._say(f"what the Workload API says cannot be used ({self._method}): {error}")
        else:
            self._pause, self._said = _SHORTEST, ""

    def lost(self, error: Exception) -> None:
        """It does not."""
        why = getattr(error, "strerror", None) or error
        self._say(f"the Workload API does not answer ({self._method}): {why}")

    def _say(self, text: str) -> None:
        log.log(logging.DEBUG if text == self._said else logging.WARNING, "%s", text)
        self._said = text

    def pause(self) -> float:
        """Seconds until it is asked again: at random, so that not all the workloads of a machine come at once."""
        self._pause = min(2 * self._pause, _LONGEST)
        return self._pause * random.uniform(0.25, 0.5)


def _bundles_of(said: Svids) -> Bundles:
    """The federated ones, and each identity's own trust domain's."""
    own = {svid.spiffe_id.removeprefix("spiffe://").partition("/")[0]: svid.bundle for svid in said.svids}
    return MappingProxyType({**said.federated, **own})


async def _connect(socket: Path) -> trio.SocketStream:
    sock = trio.socket.socket(trio.socket.AF_UNIX)
    try:
        await sock.connect(str(socket))
    except BaseException:
        sock.close()
        raise
    return trio.SocketStream(sock)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
