"""The server's part of TLS 1.3 within QUIC, where aioquic leaves it to its user.

aioquic shows one certificate to all, asks for clients' certificates but does not judge them, and takes early data with any
ticket. A Handshake stands between a connection and its `tls.Context` and settles all three. It rests on `handle_message`,
through which all handshake messages come, on `pull_client_hello`, and on attributes of the context; the tests of the
listeners fail if any of them ceases to be what it is.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache
from math import inf
from typing import Any, Protocol

from aioquic import tls
from aioquic._buffer import Buffer, BufferReadError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from msgspec import Struct

from dohproxy.errors import DohproxyError

LIFETIME = timedelta(hours=2)
"""How long a session may be resumed."""
TICKETS = 2048
"""Sessions kept at most; the oldest go."""


class Refused(tls.Alert):
    """A handshake ends with this alert (RFC 8446 6.2), and why."""

    def __init__(self, alert: int, reason: str) -> None:
        super().__init__(reason)
        self.description = tls.AlertDescription(alert)


class Shown(Struct, frozen=True):
    """A certificate that we show, with its chain, its key and the DNS names that it is for."""

    chain: tuple[x509.Certificate, ...]
    key: Any
    names: frozenset[str]


@lru_cache(maxsize=64)
def shown(chain: bytes, key: bytes) -> Shown:
    """From PEM; raises ValueError."""
    certificates = tuple(x509.load_pem_x509_certificates(chain))
    return Shown(certificates, load_pem_private_key(key, None), _names(certificates[0]))


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def choose(certificates: Sequence[Shown], name: str | None) -> Shown:
    """The certificate for a client that asks for this name (RFC 6066 3, RFC 9525 6.3); the first if none is for it."""
    if name:
        wanted = name.lower().rstrip(".")
        for candidate in (wanted, "*." + wanted.partition(".")[2]):
            for one in certificates:
                if candidate in one.names:
                    return one
    return certificates[0]


class Kept(Struct, frozen=True):
    """A session that may be resumed once, and all that it stands for: the name, the client's chain, and who vouched for it."""

    session: tls.SessionTicket
    server_name: str | None
    chain: tuple[bytes, ...]
    bundle: object | None


class Tickets:
    """Sessions to resume. A ticket counts once (RFC 8446 C.4)."""

    def __init__(self, limit: int = TICKETS) -> None:
        self._kept: OrderedDict[bytes, Kept] = OrderedDict()
        self._limit = limit

    def __len__(self) -> int:
        return len(self._kept)

    def put(self, kept: Kept) -> None:
        """Keep it, for LIFETIME at most."""
        kept.session.not_valid_after = kept.session.not_valid_before + LIFETIME
        self._kept[kept.session.ticket] = kept
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)

    def take(self, ticket: bytes) -> Kept | None:
        """The session of this ticket, if it still counts."""
        kept = self._kept.pop(ticket, None)
        return kept if kept is not None and kept.session.is_valid else None

    def clear(self) -> None:
        """Resume nothing of what was."""
        self._kept.clear()


class Reception(Protocol):
    """What all handshakes of a listener go by."""

    tickets: Tickets

    @property
    def requires(self) -> bool:
        """Whether a client without a certificate is refused."""
        ...

    def certificates(self) -> Sequence[Shown]:
        """What can be shown now, never nothing. Raises DohproxyError."""
        ...

    def bundle(self) -> object | None:
        """Who may vouch for clients now, the same object while nothing changed; None if they are not asked for certificates."""
        ...

    def identify(self, bundle: object, chain: Sequence[bytes]) -> str:
        """Who showed this chain (DER, the client's own first). Raises Refused."""
        ...

    def holds(self, chain: Sequence[bytes]) -> float:
        """After how many seconds to ask again whether whoever showed this chain is who it was; 0 if it is not."""
        ...


def refuse_unreadable(context: tls.Context) -> None:
    """A peer's certificate that cannot be read ends its handshake, also where cryptography does not say so by a ValueError."""
    read = context._set_peer_certificate

    def read_or_refuse(certificate: tls.Certificate) -> None:
        try:
            read(certificate)
        except x509.InvalidVersion as error:
            raise Refused(tls.AlertDescription.bad_certificate, str(error)) from error

    context._set_peer_certificate = read_or_refuse  # type: ignore[method-assign]


class Handshake:
    """One connection's handshake: ends in `identity`, "" for a client that showed nothing, or in a Refused for good.

    The client is judged in the same call that takes its Finished message: before that call returns there is no key to read
    anything that it asks, and after a refusal nothing goes on.
    """

    def __init__(self, context: tls.Context, reception: Reception) -> None:
        self.identity = ""
        self.done = False
        self._context, self._reception = context, reception
        self._bundle: object | None = None
        self._chain: tuple[bytes, ...] = ()
        self._server_name: str | None = None
        self._hello = b""
        self._resumed: Kept | None = None
        self._fresh: tls.SessionTicket | None = None
        self._refused: tls.Alert | None = None
        self._proceed = context.handle_message
        context.handle_message = self._receive  # type: ignore[method-assign]
        refuse_unreadable(context)
        context.new_session_ticket_cb = self._hold
        context._max_early_data = None

    def holds(self) -> float:
        """After how many seconds to ask again whether `identity` is still true; 0 if it is not. Never of a client without."""
        return self._reception.holds(self._chain) if self.identity else inf

    def _receive(self, input_data: bytes, output_buf: dict[tls.Epoch, Buffer]) -> None:
        """What the connection takes for `handle_message`."""
        if self._refused is not None:
            raise self._refused
        try:
            if self._context.state is tls.State.SERVER_EXPECT_CLIENT_HELLO:
                self._look_at_hello(input_data)
            self._proceed(input_data, output_buf)
            if self._context.state is tls.State.SERVER_POST_HANDSHAKE and not self.done:
                self._judge()
        except tls.Alert as alert:
            self._refused = alert
            raise
        except DohproxyError as error:
            self._refused = Refused(tls.AlertDescription.internal_error, str(error))
            raise self._refused from error

    def _look_at_hello(self, data: bytes) -> None:
        """Once the ClientHello is complete: show what it asks for, and look for its session."""
        self._hello += data
        size = 4 + int.from_bytes(self._hello[1:4])
        if len(self._hello) < max(4, size):
            return
        try:
            hello = tls.pull_client_hello(Buffer(data=self._hello[:size]))
        except (BufferReadError, ValueError) as error:
            raise Refused(tls.AlertDescription.decode_error, "no ClientHello") from error
        self._hello = b""
        self._server_name, self._bundle = hello.server_name, self._reception.bundle()
        certificate = choose(self._reception.certificates(), hello.server_name)
        context = self._context
        context.certificate, *context.certificate_chain = certificate.chain
        context.certificate_private_key = certificate.key
        context._request_client_certificate = self._bundle is not None
        if not hello.early_data:  # it is not taken: the client asks again once the handshake is done (RFC 8446 4.2.10)
            context.get_session_ticket_cb = self._find

    def _find(self, ticket: bytes) -> tls.SessionTicket | None:
        """The session of a ticket, under the same name and authorities; who resumes is not asked for a certificate again."""
        kept = self._reception.tickets.take(ticket)
        if kept is None or kept.server_name != self._server_name or kept.bundle is not self._bundle:
            return None
        try:
            self.identity = self._name(kept.chain)
        except Refused:  # it does not count any more, for its dates: let the client show another
            return None
        self._resumed, self._chain = kept, kept.chain
        self._context._request_client_certificate = False
        return kept.session

    def _hold(self, session: tls.SessionTicket) -> None:
        """Keep a new session back until its client is judged."""
        self._fresh = session

    def _judge(self) -> None:
        if self._resumed is None:
            self.identity = self._identify()
        elif not self._context.session_resumed:
            raise Refused(tls.AlertDescription.handshake_failure, "the session cannot be resumed")
        self.done = True
        if self._fresh is not None:
            self._reception.tickets.put(Kept(self._fresh, self._server_name, self._chain, self._bundle))

    def _identify(self) -> str:
        leaf, others = self._context._peer_certificate, self._context._peer_certificate_chain
        if self._bundle is not None and leaf is not None:
            self._chain = tuple(one.public_bytes(Encoding.DER) for one in (leaf, *others))
        elif self._reception.requires:
            raise Refused(tls.AlertDescription.certificate_required, "a client certificate is required")
        return self._name(self._chain)

    def _name(self, chain: tuple[bytes, ...]) -> str:
        """Who showed this chain; "" for who showed none."""
        return self._reception.identify(self._bundle, chain) if self._bundle is not None and chain else ""
