from __future__ import annotations

import pytest
from stages import Canned


@pytest.fixture
def canned() -> Canned:
    """A stage that answers what the test tells it to."""
    return Canned()
