"""`pkcs11:` URIs (RFC 7512): which key of which token of which module, and where its PIN is."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from msgspec import Struct

SCHEME = "pkcs11:"
PROXY_MODULE = "p11-kit-proxy.so"
"""The module of p11-kit, which has those of all modules that the system knows."""
_PATH = ("token", "object", "id", "serial", "type")
_QUERY = ("module-path", "pin-source", "pin-value")


class Pkcs11Uri(Struct, frozen=True):
    """What a URI says; "" and b"" where it says nothing."""

    token: str = ""
    object: str = ""
    id: bytes = b""
    serial: str = ""
    module_path: str = PROXY_MODULE
    pin_source: str = ""
    """The path of a file that has the PIN."""
    pin_value: str = ""

    def pin(self) -> str | None:
        """The PIN, where there is one; raises OSError."""
        if self.pin_source:
            return Path(self.pin_source).read_text().strip()
        return self.pin_value or None


def parse_pkcs11_uri(text: str) -> Pkcs11Uri:
    """Raises ValueError, in words that have no PIN, for what is no such URI or leaves open which key it means."""
    if not text.startswith(SCHEME):
        raise ValueError("no pkcs11: URI")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    said = _attributes(path.split(";"), _PATH) | _attributes(query.split("&"), _QUERY)
    if said.get("type", "private") != "private":
        raise ValueError("the URI names something else than a private key")
    if "object" not in said and "id" not in said:
        raise ValueError("the URI names no key: object or id is missing")
    return Pkcs11Uri(
        token=unquote(said.get("token", "")),
        object=unquote(said.get("object", "")),
        id=unquote_to_bytes(said.get("id", "")),
        serial=unquote(said.get("serial", "")),
        module_path=unquote(said.get("module-path", PROXY_MODULE)),
        pin_source=unquote(said.get("pin-source", "")).removeprefix("file://").removeprefix("file:"),
        pin_value=unquote(said.get("pin-value", "")),
    )


def _attributes(parts: list[str], known: tuple[str, ...]) -> dict[str, str]:
    """RFC 7512 2.3: what is not known is refused, for it would narrow down which key is meant."""
    said: dict[str, str] = {}
    for part in filter(None, parts):
        name, equals, value = part.partition("=")
        if name not in known or not equals:
            raise ValueError(f'"{part}" means nothing here; known are {", ".join(known)}')
        if name in said:
            raise ValueError(f"{name} is there twice")
        said[name] = value
    return said
