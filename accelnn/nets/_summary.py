"""A net as a table of its layers."""

from __future__ import annotations

import dataclasses
import math
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from accelnn.nets._net import Net

__all__ = ["summary", "summary_html"]

TITLES = ("layer", "shape", "activation", "parameters")
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def summary(net: Net) -> str:
    """Return the table as plain text; see `Net.summary`."""
    table = [TITLES, *_rows(net)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for *names, count in table:
        cells = [name.ljust(width) for name, width in zip(names, widths, strict=False)]
        lines.append("  ".join([*cells, count.rjust(widths[-1])]))
    rule = "-" * len(lines[0])
    return "\n".join([_caption(net), rule, lines[0], rule, *lines[1:-1], rule, lines[-1]])


def summary_html(net: Net) -> str:
    """Return the table for notebooks: text that is escaped, and headers that say of what."""
    head = "".join(_cell(title, "col") for title in TITLES)
    *layers, total = [
        f"<tr>{_cell(name, 'row')}{''.join(map(_cell, others))}</tr>"
        for name, *others in _rows(net)
    ]
    return (
        f"<table><caption>{escape(_caption(net))}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(layers)}</tbody><tfoot>{total}</tfoot></table>"
    )


def _cell(text: str, scope: str = "") -> str:
    """Return a cell, which is a header if it has a scope."""
    kind, attribute = ("th", f' scope="{scope}"') if scope else ("td", "")
    return f"<{kind}{attribute}>{escape(text)}</{kind}>"


def _caption(net: Net) -> str:
    kind, loss = type(net).__name__, _named(net.spec.loss)
    return f"{kind}, {loss}{net.spec.regularization}, {net.dtype} on {net.backend.address}"


def _rows(net: Net) -> list[tuple[str, str, str, str]]:
    """Return a row for each layer, and one for all of them."""
    sizes = net.spec.sizes
    names = [*map(_named, net.spec.activations), net._output]  # noqa: SLF001 - a part of it
    rows = []
    for i, name in enumerate(names):
        count = sizes[i + 1] * (sizes[i] + net.spec.bias)
        rows.append((f"{i + 1}", f"{sizes[i]:,} -> {sizes[i + 1]:,}", name, f"{count:,}"))
    memory = net.size * np.dtype(net.dtype).itemsize
    return [*rows, ("total", _size(memory), "", f"{net.size:,}")]


def _named(formula: Any) -> str:
    """Return a formula's name, and its parameters."""
    name = str(formula.name)
    if not dataclasses.is_dataclass(formula):
        return name
    values = [f"{getattr(formula, field.name)}" for field in dataclasses.fields(formula)]
    return f"{name}({', '.join(values)})" if values else name


def _size(count: int) -> str:
    """Return a number of bytes in words."""
    power = min(int(math.log2(count)) // 10, len(UNITS) - 1)
    return f"{count / 1024**power:.4g} {UNITS[power]}"
