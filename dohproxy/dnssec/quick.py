"""What every judgement goes through, compiled where the build could compile it; which it is, `wire.choice` tells."""

from __future__ import annotations

from dohproxy.dnssec.pure import SIGNER
from dohproxy.wire.choice import compiled_part

__all__ = ["SIGNER", "is_subdomain", "label_count", "plain_claim", "plain_nxdomain", "signer_above", "signer_in"]

_compiled = compiled_part("dohproxy.dnssec")

if _compiled is None:
    from dohproxy.dnssec.pure import is_subdomain, label_count, plain_claim, plain_nxdomain, signer_above, signer_in
else:
    is_subdomain, label_count = _compiled.is_subdomain, _compiled.label_count
    plain_claim, plain_nxdomain = _compiled.plain_claim, _compiled.plain_nxdomain
    signer_above, signer_in = _compiled.signer_above, _compiled.signer_in
