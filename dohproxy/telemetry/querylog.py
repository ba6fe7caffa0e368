"""The query log: one line a query, with as much of the client's address as the operator wants to keep.

What a certificate attests is told in any case: it names a workload, and is what the policy went by.
"""

from __future__ import annotations

import time
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec

from dohproxy.config.settings import Log
from dohproxy.model import Action, Outcome, Security
from dohproxy.telemetry.logs import one_line, timestamp
from dohproxy.telemetry.sink import LineSink
from dohproxy.wire import names, text

KEPT_IPV4, KEPT_IPV6 = 24, 48
"""Bits of an address that the short form keeps."""

_type_text = lru_cache(256)(text.type_to_text)
_rcode_text = lru_cache(32)(text.rcode_to_text)

_encode = msgspec.json.Encoder().encode


@lru_cache(4096)
def shortened(address: str) -> str:
    """The address with the last octet of IPv4, or all but the /48 of IPv6, cleared; "" stays."""
    if not address:
        return ""
    host = ip_address(address)
    kept = KEPT_IPV4 if host.version == 4 else KEPT_IPV6
    return str(ip_network((host, kept), strict=False).network_address)


def told_address(address: str, clients: str) -> str:
    """As much of a client's address as `log.clients` lets be told."""
    if clients == "full":
        return address
    return shortened(address) if clients == "short" else ""


class QueryLog:
    """An observer that writes a line for every query; without `log.queries` only for those that are to be told anyway."""

    def __init__(self, log: Log, sink: LineSink) -> None:
        self._sink = sink
        self._clients = log.clients
        self._all = log.queries
        self._line = self._json if log.format == "json" else self._text

    def observe(self, outcome: Outcome) -> None:
        """Write the line."""
        if self._all or _is_told_anyway(outcome):
            self._sink.put(self._line(fields_of(outcome, told_address(outcome.client.address, self._clients))))

    @staticmethod
    def _json(fields: dict[str, Any]) -> bytes:
        return _encode({"time": timestamp(time.time()), "event": "query"} | fields) + b"\n"

    @staticmethod
    def _text(fields: dict[str, Any]) -> bytes:
        told = " ".join(f"{name}={_quoted(str(value))}" for name, value in fields.items())
        return f"{timestamp(time.time())} query {told}\n".encode(errors="backslashreplace")


_FAILED = (Security.BOGUS, Security.INDETERMINATE)


def _is_told_anyway(outcome: Outcome) -> bool:
    """Whether a list's action `log` or the DNSSEC mode `log-only` let it through: telling is what they are for."""
    failed = outcome.security in _FAILED and outcome.source is not None
    return failed or (outcome.verdict is not None and outcome.verdict.action is Action.LOG)


def fields_of(outcome: Outcome, address: str) -> dict[str, Any]:
    """What is told of a query, by name; what is empty is left out. `ms` are milliseconds, `size` octets."""
    question, verdict = outcome.question, outcome.verdict
    fields = {
        "client": address,
        "identity": outcome.client.identity,
        "assurance": outcome.client.assurance.value,
        "group": outcome.client.group,
        "transport": outcome.client.transport.value,
        "name": names.to_text(question.qname) if question else "",
        "type": _type_text(question.qtype) if question else "",
        "rcode": _rcode_text(outcome.rcode) if outcome.rcode >= 0 else "dropped",
        "security": outcome.security.value,
        "source": outcome.source.value if outcome.source else "error",
        "upstream": outcome.upstream,
        "action": verdict.action.value if verdict else "",
        "rule": f"{verdict.rule.where}: {verdict.rule.text}" if verdict else "",
        "ede": "; ".join(f"{ede.code} {ede.text}".rstrip() for ede in outcome.ede),
        "ms": round(outcome.duration * 1000, 3),
        "size": outcome.size,
    }
    return {name: value for name, value in fields.items() if value != ""}


def _quoted(text: str) -> str:
    plain = one_line(text)
    if plain and not any(char in plain for char in ' "='):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
