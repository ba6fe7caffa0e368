"""The credentials of listeners, as the handshakes of QUIC want them."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Callable, Sequence

from dohproxy.errors import DohproxyError
from dohproxy.identity.peers import Bundle, Unverified
from dohproxy.listen.credentials import Credentials
from dohproxy.protocol.quic_tls import Refused, Shown, Tickets, shown


class Unusable(DohproxyError):
    """There is no certificate that could be shown."""


class QuicReception:
    """A Reception. `wall` tells the seconds since 1970."""

    def __init__(self, credentials: Credentials, wall: Callable[[], float] = time.time) -> None:
        self._credentials, self._wall = credentials, wall
        self.tickets = Tickets()

    def use(self, credentials: Credentials) -> None:
        """Take connections with these from now on, and resume nothing of what was."""
        self._credentials = credentials
        self.tickets.clear()

    @property
    def requires(self) -> bool:
        """Whether a client without a certificate is refused."""
        return self._credentials.required

    def certificates(self) -> Sequence[Shown]:
        """What can be shown now. Raises DohproxyError if that is nothing."""
        certificates = []
        for own in self._credentials.certificates:
            pair = own.current()
            if isinstance(pair.key, str):
                raise Unusable("a key in an HSM cannot be used by listeners")
            certificates.append(shown(pair.chain, pair.key))
        if not certificates:
            raise Unusable("there is no certificate to show")
        return certificates

    def bundle(self) -> Bundle | None:
        """Who may vouch for clients now; None if they are not asked for certificates."""
        return self._credentials.bundle()

    def identify(self, bundle: object, chain: Sequence[bytes]) -> str:
        """Who showed this chain. Raises Refused."""
        assert isinstance(bundle, Bundle)
        try:
            return bundle.identify(chain, int(self._wall()))
        except Unverified as error:
            raise Refused(error.alert, str(error)) from error

    def holds(self, chain: Sequence[bytes]) -> float:
        """Whether a client is still who it was when it showed this chain: see `Credentials.holds`."""
        return self._credentials.holds(chain, self._wall())

    def reset_key(self) -> bytes:
        """What the tokens of stateless resets are made from: the same after a restart (RFC 9000 10.3.2), if the key is."""
        try:
            key = self._credentials.certificates[0].current().key
        except (DohproxyError, IndexError):
            return os.urandom(32)
        return hmac.digest(key if isinstance(key, bytes) else key.encode(), b"QUIC stateless reset", "sha256")
