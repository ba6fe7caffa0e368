"""The anchors that validation starts from now: replaced whole when a key rolls or a negative anchor ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from dohproxy.dnssec.anchors import AnchorSet


class Trusted:
    """Holds the `anchors` in force.

    `forget` has what clears everything that was judged by them: answers, proofs, keys and replies. `patience` is how long
    (seconds) a query may be under way that began by the old ones.
    """

    def __init__(self, anchors: AnchorSet, forget: Sequence[Callable[[], None]], patience: float) -> None:
        self.anchors = anchors
        self._forget, self._patience = tuple(forget), patience

    async def replace(self, anchors: AnchorSet) -> None:
        """Judge by these from now on, and forget what was judged before; comes back once nothing is left of it."""
        self.anchors = anchors
        await self.forget()

    async def forget(self) -> None:
        """Forget all verdicts now, and then those of queries that were under way."""
        self._clear()
        await trio.sleep(self._patience)
        self._clear()

    def _clear(self) -> None:
        for forget in self._forget:
            forget()
