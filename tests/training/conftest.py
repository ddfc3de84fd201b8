"""What tests of training share."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "helpers"))


@pytest.fixture
def path(tmp_path):
    """Return where a run is kept."""
    return tmp_path / "run.safetensors"
