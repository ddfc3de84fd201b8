"""Imports run downwards only, those inside functions too."""

import ast
from pathlib import Path

import accelnn

PACKAGE = Path(accelnn.__file__).parent
# From below: what stands in one row may import rows before it, and each part itself.
ROWS = (
    {"_shown"},
    {
        "_forks",
        "errors",
        "_version",
        "_typing",
        "_processors",
        "_cached",
        "_differences",
        "_atomic",
        "_remedies",
        "_underflow",
        "_warn",
    },
    {"_compilation", "_optional", "_tables"},
    {"_progress"},
    {"formulas"},
    {"backends"},
    {"_validation"},
    {"functions", "losses", "optimizers", "schedules", "activations", "checkpoint", "datasets"},
    {"gradient"},
    {"descent", "nets"},
    {"training"},
    {"callbacks"},
    {"plotting", "testing", "estimator"},
    {"__init__"},
    {"bench"},
    {"cli"},
    {"__main__"},
)
ROW = {part: number for number, parts in enumerate(ROWS) for part in parts}
# The top of the package has what users call, which reports and pictures of examples use as they do.
FACADE = ("bench", "cli", "testing", "plotting", "__main__")


def _imported(tree):
    """Yield the parts of accelnn that a module imports, but for types alone."""
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(child) for child in ast.walk(node)}
        if id(node) in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "accelnn":
            names = [alias.name for alias in node.names]
            parts = node.module.split(".")
            yield from (
                [parts[1]] if len(parts) > 1 else [n if n in ROW else "__init__" for n in names]
            )
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "accelnn":
                    yield parts[1] if len(parts) > 1 else "__init__"


def test_imports_run_downwards():
    upwards = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for part in _imported(ast.parse(path.read_text("utf-8"))):
            is_facade = part == "__init__" and name in FACADE
            if part != name and ROW[part] >= ROW[name] and not is_facade and name != "__init__":
                upwards.append(f"{path.relative_to(PACKAGE)} imports {part}")
    assert upwards == []
