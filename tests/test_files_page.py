"""What the page on files shows of other libraries works as it stands; doctest runs the rest."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "files.md"
FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [block for block in FENCED.findall(PAGE.read_text("utf-8")) if ">>>" not in block]
NEEDS = [["torch"], ["onnx", "onnxruntime"]]


@pytest.mark.parametrize(
    ("block", "packages"), [*zip(BLOCKS, NEEDS, strict=True)], ids=["torch", "onnx"]
)
def test_a_block_runs(block, packages, tmp_path, monkeypatch):
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, PAGE, "exec"), {})  # noqa: S102 - our own page
