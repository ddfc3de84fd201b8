"""From the caller's arrays to the engine's: each is converted and checked once."""

from typing import TypeAlias

import numpy as np

from accelnn._shown import shown
from accelnn._typing import Array, ArrayLike, DTypeName
from accelnn._validation import (
    ROWS,
    as_array,
    as_targets,
    as_weights,
    flatten_hint,
    require_range,
    to_dtype,
)
from accelnn.backends import Backend, Engine, Extras, NetSpec
from accelnn.formulas._dropout import Dropout
from accelnn.formulas._loss import LossFormula

__all__ = ["Arguments", "DropoutKey"]

DropoutKey: TypeAlias = tuple[int, int]

# What a dropout key is of.
SEEDS, UPDATES = 1 << 64, 1 << 32


class Arguments:
    """What the methods of a net do with the arrays they are given."""

    backend: Backend
    spec: NetSpec
    _dtype: DTypeName

    def check_targets(
        self, t: ArrayLike, n: int | None, name: str = "t", *, dtype: str | None = None
    ) -> Array:
        """Return targets for `n` samples (None: one sample), or raise ValueError.

        Labels stay integers; other targets are cast to `dtype`, by default the net's.
        """
        shape = self.spec.sizes[-1:] if n is None else (n, self.spec.sizes[-1])
        with self.backend.current():
            return self._targets(t, shape, dtype or self._dtype, name, checks_range=True)

    def unfit_samples(self, shape: tuple[int, ...]) -> ValueError:
        """Return the error that says which shapes of samples fit."""
        n_inputs = self.spec.sizes[0]
        return ValueError(
            f"x has shape {tuple(shape)}, but this net takes (n, {n_inputs}), or ({n_inputs},) for "
            f"one sample{flatten_hint(tuple(shape))}"
        )

    def _samples(self, x: ArrayLike, dtype: str) -> tuple[Array, bool]:
        """Return `x` as rows in `dtype`, and whether it was one sample."""
        array = as_array(self.backend, x)
        if array.ndim not in (1, ROWS) or array.shape[-1] != self.spec.sizes[0]:
            raise self.unfit_samples(array.shape)
        array = to_dtype(self.backend, array, dtype)
        single = array.ndim == 1
        return (array[None, :] if single else array), single

    def _batch(
        self,
        x: ArrayLike,
        t: ArrayLike,
        dtype: str,
        engine: Engine | None = None,
        *,
        smoothed: bool = True,
    ) -> tuple[Array, Array]:
        """Return samples and targets for engines; one that is given may check their range."""
        smoothed = smoothed and self.spec.label_smoothing > 0.0
        here = engine is None or smoothed or not engine.checks_range
        rows, single = self._samples(x, dtype)
        if rows.shape[0] == 0:
            msg = f"x has shape {tuple(rows.shape)}: the mean loss of no samples is undefined"
            raise ValueError(msg)
        outputs = self.spec.sizes[-1:]
        shape = outputs if single else (rows.shape[0], *outputs)
        targets = self._targets(t, shape, dtype, "t", checks_range=here)
        targets = targets[None, ...] if single else targets
        if smoothed:
            targets = self.backend.engine(self.spec, dtype).smoothed(targets)
        return rows, targets

    def _options(
        self, n: int, sample_weight: ArrayLike | None, key: DropoutKey | None, dtype: str
    ) -> Extras:
        """Return what the methods of a net take beside `n` samples."""
        weights, masks = None, ()
        if sample_weight is not None:
            weights = as_weights(self.backend, sample_weight, n, dtype)
        if key is not None:
            seed, update = _dropout_key(key)
            if self.spec.dropout:
                dropout = Dropout(self.spec.dropout, seed)
                masks = self.backend.engine(self.spec, dtype).masks(dropout, update, n)
        return Extras(weights, masks)

    def _targets(
        self, t: ArrayLike, shape: tuple[int, ...], dtype: str, name: str, *, checks_range: bool
    ) -> Array:
        """Return targets for outputs of `shape`: labels as integers, others in `dtype`."""
        loss, spec = self.spec.loss, self.spec
        array = as_array(self.backend, t, name)
        if spec.takes_numbers and tuple(array.shape) == tuple(shape[:-1]):
            array = array[..., None]
        has_classes = shape[-1] > 1 or (loss.classifies and not spec.takes_numbers)
        options = {"labels": has_classes, "checks_range": checks_range}
        targets = as_targets(self.backend, array, shape, dtype, name=name, **options)
        if checks_range and targets.ndim == len(shape) and isinstance(loss, LossFormula):
            require_range(self.backend, targets, loss, name)
        return targets


def _dropout_key(key: object) -> DropoutKey:
    """Return the seed and the update of a dropout key, or raise."""
    limits = SEEDS, UPDATES
    if not isinstance(key, tuple | list) or len(key) != len(limits):
        msg = f"dropout_key must be (seed, update), got {shown(key)}"
        raise TypeError(msg)
    for number, limit in zip(key, limits, strict=True):
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            msg = f"dropout_key must be two integers, (seed, update), got {shown(key)}"
            raise TypeError(msg)
        if not 0 <= number < limit:
            msg = (
                f"dropout_key must be (seed, update) with a seed below 2**64 and an update below "
                f"2**32, got {shown(key)}"
            )
            raise ValueError(msg)
    return int(key[0]), int(key[1])
