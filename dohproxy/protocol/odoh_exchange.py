"""Questions and answers of Oblivious DoH as HTTP has them (RFC 9230 4), and the question for a target's keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from dohproxy.errors import MalformedMessage, UpstreamFailed
from dohproxy.protocol.doh_exchange import Headers, Response, ResponseHead
from dohproxy.protocol.odoh import CONFIGS_PATH, MEDIA_TYPE, Sealed, Target
from dohproxy.wire.constants import MAX_MESSAGE

_UNAUTHORIZED = b"401"


class Keys(Protocol):
    """Of one target."""

    @property
    def target(self) -> Target | None:
        """Whom to seal for now; None while that is not known."""
        ...

    def refused(self, target: Target) -> None:
        """The target does not know this key any more."""
        ...


class OdohRequests:
    """Makes the requests of one connection to a relay: all for the key that the first was sealed for."""

    post = True

    def __init__(self, relay: str, relay_path: str, target: str, target_path: str, keys: Keys) -> None:
        """Relay and target are host and port as in a URL."""
        mark = "&" if "?" in relay_path else "?"
        query = f"targethost={quote(target, safe='')}&targetpath={quote(target_path, safe='')}"
        self._headers: Headers = [
            (b":method", b"POST"),
            (b":path", f"{relay_path}{mark}{query}".encode()),
            (b":scheme", b"https"),
            (b":authority", relay.encode()),
            (b"accept", MEDIA_TYPE),
            (b"content-type", MEDIA_TYPE),
            (b"cache-control", b"no-cache, no-store"),
        ]
        self._keys = keys
        self._target: Target | None = None

    @property
    def spent(self) -> bool:
        """Whether the key is none any more."""
        return self._target is not None and self._keys.target is not self._target

    def request(self, query: bytes, question: bytes) -> tuple[Headers, bytes, Response]:
        """Headers and body of the request with this query, and what takes its response."""
        self._target = target = self._target or self._keys.target
        if target is None:
            raise AssertionError("no connection to a relay opens before the target's key is known")
        body, sealed = target.seal(query)
        response = OdohResponse(question, sealed, lambda: self._keys.refused(target))
        return [*self._headers, (b"content-length", b"%d" % len(body))], body, response


class OdohResponse(Response):
    """What has come back for one sealed question so far."""

    __slots__ = ("_on_refusal", "_sealed")

    media_type = MEDIA_TYPE
    limit = MAX_MESSAGE + 1024
    """With what seals it."""

    def __init__(self, question: bytes, sealed: Sealed, on_refusal: Callable[[], None]) -> None:
        super().__init__(question)
        self._sealed, self._on_refusal = sealed, on_refusal

    def begin(self, head: ResponseHead) -> UpstreamFailed | None:
        """As of all DoH; 401 means that the key is another by now (RFC 9230 4.3)."""
        if head.status == _UNAUTHORIZED:
            self._on_refusal()
            return UpstreamFailed("the target has another key by now (HTTP status 401)")
        failure = super().begin(head)
        self.age = 0  # nobody can have kept it
        return failure

    def end(self) -> bytes | UpstreamFailed:
        """The answer, opened."""
        try:
            return self.checked(self._sealed.open_untrusted(self.body()))
        except MalformedMessage as error:
            return UpstreamFailed(str(error))


class KeyRequests:
    """Asks a target for its keys."""

    post = False
    spent = False

    def __init__(self, target: str) -> None:
        self._headers: Headers = [
            (b":method", b"GET"),
            (b":path", CONFIGS_PATH.encode()),
            (b":scheme", b"https"),
            (b":authority", target.encode()),
        ]

    def request(self, query: bytes, question: bytes) -> tuple[Headers, bytes, Response]:  # noqa: ARG002 -- there is none
        """The same each time."""
        return self._headers, b"", KeyResponse(question)


class KeyResponse(Response):
    """Keys as they come, of whatever media type."""

    __slots__ = ()

    def begin(self, head: ResponseHead) -> UpstreamFailed | None:
        """Takes the headers."""
        self.begun, status = True, head.status
        return None if status == b"200" else UpstreamFailed(f"HTTP status {status.decode('ascii', 'replace')} for its keys")

    def end(self) -> bytes | UpstreamFailed:
        """ObliviousDoHConfigs, perhaps."""
        return self.body()
