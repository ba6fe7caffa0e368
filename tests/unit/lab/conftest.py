"""A tree that is signed once, and running labs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dohproxy.lab.lab import Lab, open_lab
from dohproxy.lab.signer import Tree


@pytest.fixture(scope="session")
def tree() -> Tree:
    return Tree(int(time.time()))


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with open_lab(tmp_path) as opened:
        yield opened
