"""Whether clients will believe what `[ddr]` tells them, by the certificate that we show."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from dohproxy.config.settings import Settings
from dohproxy.wire import names


def doubts(settings: Settings) -> Iterator[str]:
    """What is missing in our certificates, in words; nothing where they cannot be read, which others tell of."""
    if settings.ddr is None or not settings.tls.certificates:
        return
    from cryptography import x509  # noqa: PLC0415 -- heavy, and for those alone who have this table

    shown, addressed = set[str](), False
    for pair in settings.tls.certificates:
        with suppress(OSError, ValueError, IndexError, x509.ExtensionNotFound, x509.InvalidVersion):
            leaf = x509.load_pem_x509_certificates(pair.certificate.read_bytes())[0]
            san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            shown |= {name.lower() for name in san.get_values_for_type(x509.DNSName)}
            addressed = addressed or bool(san.get_values_for_type(x509.IPAddress))
    own = names.to_text(settings.ddr.name).removesuffix(".")
    if own not in shown and f"*.{own.partition('.')[2]}" not in shown:
        yield f"no certificate has the name {own}: no client will believe it"
    if not addressed:
        yield "no certificate has an IP address: clients that know us by ours will not believe it (RFC 9462 4.2)"
