"""TLS for listeners: which certificate is shown, whom clients' are verified with, and when all of that is renewed."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from cryptography import x509
from msgspec import Struct

from dohproxy.errors import DohproxyError
from dohproxy.identity.own import HSM, KeyPair
from dohproxy.identity.peers import Bundle
from dohproxy.listen.credentials import Credentials

TICKET_LIFE = 12 * 3600.0
"""Seconds after which the keys of session tickets are others; the sessions before that begin anew."""


class Unusable(DohproxyError):
    """No connection can be taken, for want of a certificate that could be shown."""


class Terms(Struct):
    """On what terms connections are taken now. Sessions are resumed within the same terms alone."""

    context: ssl.SSLContext
    pairs: tuple[KeyPair, ...]
    bundle: Bundle | None
    """Who may vouch for clients; None if they are not asked."""
    until: float

    def end(self) -> None:
        """Take no more connections on these, so that no session of theirs is resumed."""
        self.until = 0.0

    def identify(self, chain_der: list[bytes]) -> str:
        """Who the client is that has shown these certificates; "" for one that has none. Raises Unverified."""
        return self.bundle.identify(chain_der, int(time.time())) if self.bundle is not None and chain_der else ""


class TlsServer:
    """The server's side of TLS for one protocol. `alpn` are its names, the best first (RFC 7301)."""

    def __init__(self, credentials: Credentials, alpn: tuple[str, ...], now: Callable[[], float] = time.monotonic) -> None:
        self._credentials, self._alpn, self._now = credentials, alpn, now
        self._terms: Terms | None = None

    def use(self, credentials: Credentials) -> None:
        """Take connections with these from now on."""
        self._credentials = credentials
        self._terms = None

    def terms(self) -> Terms:
        """Those for a connection that comes now. Raises DohproxyError where none can be taken.

        Made anew when a certificate or an authority is another one, so that no session is resumed that was begun by others.
        """
        pairs = tuple(certificate.current() for certificate in self._credentials.certificates)
        bundle = self._credentials.bundle()
        terms, now = self._terms, self._now()
        if terms is None or now >= terms.until or bundle is not terms.bundle or any(map(_differ, pairs, terms.pairs)):
            terms = self._terms = Terms(self._context(pairs, bundle), pairs, bundle, now + TICKET_LIFE)
        return terms

    def holds(self, chain_der: Sequence[bytes]) -> float:
        """Whether a client is still who it was when it showed these certificates: see `Credentials.holds`."""
        return self._credentials.holds(chain_der, time.time())

    def _context(self, pairs: tuple[KeyPair, ...], bundle: Bundle | None) -> ssl.SSLContext:
        if not pairs:
            raise Unusable("there is no certificate to show")
        contexts = [self._context_of(pair, bundle) for pair in pairs]
        first = contexts[0]
        if len(contexts) > 1:
            by_name: dict[str, ssl.SSLContext] = {}
            for pair, context in zip(pairs, contexts, strict=True):
                for name in names_of(pair.chain):
                    by_name.setdefault(name, context)
            first.sni_callback = _choose(by_name)
        return first

    def _context_of(self, pair: KeyPair, bundle: Bundle | None) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2 if self._credentials.allow_tls12 else ssl.TLSVersion.TLSv1_3
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.set_alpn_protocols(list(self._alpn))
        _show(context, pair)
        if bundle is not None:
            context.verify_mode = ssl.CERT_REQUIRED if self._credentials.required else ssl.CERT_OPTIONAL
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority counts, whoever signed it in turn
            if bundle.pem:
                context.load_verify_locations(cadata=bundle.pem.decode("ascii"))
        return context


def _differ(one: KeyPair, other: KeyPair) -> bool:
    return one is not other


def _show(context: ssl.SSLContext, pair: KeyPair) -> None:
    """Have the context show this pair, which reaches OpenSSL by a file in memory. Raises Unusable."""
    if isinstance(pair.key, str):
        raise Unusable(f"a key in an HSM ({HSM}…) cannot be used by listeners")
    file = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(file), "wb") as out:
            out.write(pair.chain + b"\n" + pair.key)
        context.load_cert_chain(f"/proc/self/fd/{file}")
    except (OSError, ssl.SSLError) as error:
        raise Unusable(f"the certificate cannot be used: {error}") from error
    finally:
        os.close(file)


def names_of(chain: bytes) -> list[str]:
    """The DNS names in lower case that the first certificate of a chain in PEM is for (RFC 6125 6.4)."""
    leaf = x509.load_pem_x509_certificates(chain)[0]
    with suppress(x509.ExtensionNotFound):
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return [name.lower() for name in names.get_values_for_type(x509.DNSName)]
    return []


def named(by_name: Mapping[str, ssl.SSLContext], name: str) -> ssl.SSLContext | None:
    """What has this name, by itself or by a wildcard for its first label (RFC 6125 6.4.3)."""
    name = name.lower().removesuffix(".")
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])


def _choose(by_name: Mapping[str, ssl.SSLContext]) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], None]:
    def choose(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is not None and (context := named(by_name, name)) is not None:
            connection.context = context

    return choose
