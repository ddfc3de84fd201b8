"""Methods of a net on sparse samples: of one block of rows after another, each made dense."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._typing import Array
from accelnn._validation import as_array, as_weights, on_host
from accelnn.backends import SparseRows
from accelnn.backends._arrays import slices

if TYPE_CHECKING:
    from accelnn.nets._net import Net

__all__ = ["in_blocks"]


def in_blocks(
    method: Callable[..., Any], net: Net, x: Any, args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Return what a method of a net returns for a matrix of scipy.sparse."""
    rows = SparseRows.of(x)
    if rows.inputs != net.spec.sizes[0]:
        raise net.unfit_samples(rows.shape)
    n, most = rows.shape[0], rows.rows_of_piece
    if options.get("dropout_key") is not None:
        # Which units are dropped depends on the place of a sample in its batch.
        most = n
    if n <= most:
        return method(net, _dense(net, rows, slice(0, n)), *args, **options)
    given = dict(inspect.signature(method).bind(net, x, *args, **options).arguments)
    del given["self"], given["x"]
    own: dict[str, Array] = {}
    if "t" in given:
        net.check_targets(given["t"], n)
        own["t"] = as_array(net.backend, given.pop("t"), "t")
    if given.get("sample_weight") is not None:
        weights = given.pop("sample_weight")
        own["sample_weight"] = as_weights(net.backend, weights, n, "float64")

    def part(block: slice) -> Any:
        here = {name: array[block, ...] for name, array in own.items()}
        return method(net, _dense(net, rows, block), **here, **given)

    blocks = list(slices(n, most))
    if method.__name__ == "predict":
        out = net.backend.empty((n, net.spec.sizes[-1]), net.dtype)
        for block in blocks:
            out[block, ...] = part(block)
        return out
    sizes = [float(block.stop - block.start) for block in blocks]
    if method.__name__ == "accuracy" and "sample_weight" in own:
        weights = on_host(net.backend, own["sample_weight"])
        sizes = [float(weights[block].sum()) for block in blocks]
    # Where all weights are 0, the first block says so.
    counted = [(block, size) for block, size in zip(blocks, sizes, strict=True) if size]
    return _mean((part(block), size / sum(sizes)) for block, size in counted or [(blocks[0], 1.0)])


def _dense(net: Net, rows: SparseRows, block: slice) -> Array:
    return net.backend.asarray(rows.dense(np.arange(block.start, block.stop)))


def _mean(parts: Iterable[tuple[Any, float]]) -> Any:
    """Return the sum of numbers, or of dicts of arrays, which are changed, times their shares."""
    total: Any = None
    for found, share in parts:
        if not isinstance(found, dict):
            total = found * share + (0.0 if total is None else total)
            continue
        for name in found:
            found[name] *= share
            if total is not None:
                total[name] += found[name]
        total = found if total is None else total
    return total
