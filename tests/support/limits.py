"""A limit for tests of what asks one."""

from __future__ import annotations


class EveryThird:
    """Of three queries one may be answered, one gets silence, and one is refused: a Limit."""

    era = 0

    def __init__(self) -> None:
        self.charged = 0
        self.silent = 0

    def payer(self, host: str) -> EveryThird:  # noqa: ARG002
        """Everybody pays the same."""
        return self

    def __call__(self, at: int) -> int:
        """One after the other."""
        assert isinstance(at, int)
        self.charged += 1
        return self.charged % 3

    def refusal(self, wire: bytes, charge: int) -> bytes:
        """Longer than the query, or nothing."""
        self.silent += charge == 1
        return b"" if charge == 1 else (b"refused" + 9 * wire)[:4096]
