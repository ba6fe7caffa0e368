"""Our certificate in a TLS context, without the key ever being written to a disk."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from dohproxy.identity.own import BadCertificate, KeyPair


def show(context: ssl.SSLContext, pair: KeyPair) -> None:
    """New connections of this context show this certificate. Raises BadCertificate if OpenSSL cannot use it.

    A context for which this failed is of no use any more: make another.
    """
    if isinstance(pair.key, str):
        raise BadCertificate("a key in an HSM cannot be used with TLS over TCP")
    try:
        with _in_memory(pair.key + b"\n" + pair.chain) as path:
            context.load_cert_chain(path)
    except (OSError, ssl.SSLError) as error:
        raise BadCertificate(f"our certificate and key cannot be used: {error}") from error


@contextmanager
def _in_memory(octets: bytes) -> Iterator[str]:
    """A path that has these octets, for OpenSSL reads keys from files only."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("key", os.MFD_CLOEXEC), "wb") as file:  # noqa: PTH123 -- there is no Path for it
            file.write(octets)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile() as named:  # for us alone, and gone at once
            named.write(octets)
            named.flush()
            yield named.name
