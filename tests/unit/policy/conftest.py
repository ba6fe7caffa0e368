from __future__ import annotations

from pathlib import Path

import pytest
from policies import Maker


@pytest.fixture
def make(tmp_path: Path) -> Maker:
    """Makes engines out of groups and lists."""
    return Maker(tmp_path)
