"""Where queries come in: in clear by UDP and TCP, encrypted by TLS, HTTPS and QUIC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from dohproxy.core.pure import Recall
from dohproxy.courses import Courses
from dohproxy.model import Peer, Transport


class Front(Protocol):
    """Who answers."""

    @property
    def recall(self) -> Recall:
        """Knows the finished replies that are at hand."""
        ...

    def begin(self, wire: bytes, peer: Peer, transport: Transport, courses: Courses, done: Callable[[bytes], None]) -> None:
        """Have `done` told the reply, at once or from one of the courses; b"" where silence is the answer."""
        ...
