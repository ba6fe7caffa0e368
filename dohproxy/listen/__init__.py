"""Where queries come in: UDP and TCP."""

from __future__ import annotations

from typing import Protocol

from dohproxy.core.pure import Recall
from dohproxy.model import Transport


class Front(Protocol):
    """Who answers. `host` is the client's IP address as text."""

    @property
    def recall(self) -> Recall:
        """Knows the finished replies that are at hand."""
        ...

    async def answer(self, wire: bytes, host: str, transport: Transport) -> bytes:
        """The reply; b"" where silence is the answer. Raises nothing but cancellation."""
        ...
