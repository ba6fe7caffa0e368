"""Questions and answers in JSON, as `application/dns-json` is understood: no standard has it, and many clients ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dohproxy.errors import BadName, MalformedMessage
from dohproxy.model import Question
from dohproxy.wire import constants as c
from dohproxy.wire.names import from_text
from dohproxy.wire.query import build_query
from dohproxy.wire.text import type_from_text

_TRUE = ("1", "true")


def query_untrusted(parameters: Mapping[str, str]) -> bytes:
    """The query of `name`, `type` (a mnemonic or a number; A if there is none), `cd` and `do`. Raises MalformedMessage."""
    try:
        asked = parameters.get("type") or "A"
        qtype = type_from_text(f"TYPE{asked}" if asked.isdecimal() else asked)
        qname = from_text(parameters["name"])
    except (KeyError, BadName, ValueError) as error:
        raise MalformedMessage(f"no question: {error}") from error
    cd, do = parameters.get("cd", "") in _TRUE, parameters.get("do", "") in _TRUE
    query = bytearray(build_query(Question(qname.lower(), qtype), 0, cd=cd, do=do, pad_to=0))
    query[3] |= c.AD
    return bytes(query)


def reply_in_json(reply: bytes) -> bytes:
    """What a reply of ours says."""
    import dns.edns  # noqa: PLC0415
    import dns.flags  # noqa: PLC0415
    import dns.message  # noqa: PLC0415

    message = dns.message.from_wire(reply)
    flags = {name: bool(message.flags & getattr(dns.flags, name)) for name in ("TC", "RD", "RA", "AD", "CD")}
    told: dict[str, Any] = {"Status": int(message.rcode()), **flags}
    told["Question"] = [{"name": str(asked.name), "type": int(asked.rdtype)} for asked in message.question]
    for title, section in (("Answer", message.answer), ("Authority", message.authority)):
        if section:
            told[title] = [
                {"name": str(rrset.name), "type": int(rrset.rdtype), "TTL": rrset.ttl, "data": str(rdata)}
                for rrset in section
                for rdata in rrset
            ]
    if errors := [option for option in message.options if isinstance(option, dns.edns.EDEOption)]:
        told["extended_dns_errors"] = [{"info_code": int(error.code), "extra_text": error.text or ""} for error in errors]
    return msgspec.json.encode(told)
