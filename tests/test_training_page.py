"""What the page on training shows of other libraries works as it stands; doctest runs the rest."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "training.md"
FENCED = re.compile(r"^```python\n(import .*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("block", "package"),
    [*zip(FENCED.findall(PAGE.read_text("utf-8")), ["tensorboardX", "mlflow"], strict=True)],
    ids=["tensorboard", "mlflow"],
)
def test_a_block_runs(block, package, tmp_path, monkeypatch):
    pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, PAGE, "exec"), {})  # noqa: S102 - our own page
    assert len([*tmp_path.iterdir()]) > 0
