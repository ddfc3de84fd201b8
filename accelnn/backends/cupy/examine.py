"""What a call cannot take is found by a kernel, so that the host waits once for all answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from accelnn._typing import Array
from accelnn.backends._training import Dataset
from accelnn.backends.cupy.dataset import NULL, Rows
from accelnn.backends.cupy.launch import FLAGS, UNFIT, Kernels

if TYPE_CHECKING:
    from accelnn.backends.cupy.engine import CupyEngine

__all__ = ["Examination", "Examined", "limit_of"]

CHECK_THREADS = 256
# Digits of float64, besides the first.
MANTISSA = 52
UNBOUNDED = (-math.inf, math.inf)


class Examined(NamedTuple):
    """A data set as kernel arguments, the kernels that read it, and what is found about a call."""

    rows: Rows
    kernels: Kernels
    flags: Array

    def is_unfit(self) -> bool:
        """Wait for the examination, but for nothing that is launched later."""
        return bool(self.kernels.backend.to_numpy(self.flags)[UNFIT])


class Examination:
    """Looks at the parameters and targets of the calls of an engine.

    Parameters
    ----------
    engine : CupyEngine
        The engine.
    """

    def __init__(self, engine: CupyEngine) -> None:
        self._engine = engine
        spec = engine.spec
        least, most = getattr(spec.loss, "target_range", UNBOUNDED)
        # As `accelnn._validation.require_range` allows for rounding.
        rounding = 4.0 * float(np.finfo(engine.dtype).eps)
        self._range = np.float64(least - rounding), np.float64(most + rounding)
        self._classes = np.float64(0.0), np.float64(spec.sizes[-1] - 1.0)

    def __call__(self, params: Array, data: Dataset, limit: float = math.nan) -> Examined:
        """Launch an examination, which finds targets out of range and parameters not below a limit.

        Labels are integers of any type; the kernels that follow get them as int32.
        """
        engine, t = self._engine, data.t
        xp, labels, kind, ends = engine.backend.xp, NULL, 0, self._range
        if t.dtype.kind in "iu" and not engine.has_bits:
            t, ends = xp.ascontiguousarray(t), self._classes
            if not t.dtype.isnative:
                t = t.astype(t.dtype.newbyteorder("="))
            kind = t.dtype.itemsize if t.dtype.kind == "u" else -t.dtype.itemsize
            if t.dtype != np.int32:
                labels = xp.empty(t.shape, np.int32)
            rows = Rows.of(data, t=t if labels is NULL else labels)
        else:
            rows = engine.rows(data)
            t = rows.t
        kernels, flags = engine.kernels(rows), xp.zeros(FLAGS, np.uint32)
        threads = kernels.whole_warps("check_call", CHECK_THREADS)
        # A loss without a range takes anything, NaN too.
        count = t.size if np.isfinite(ends).any() else 0
        told = (t, np.int32(kind), np.int64(count), *ends, labels, flags)
        arguments = (params, engine.size, np.float64(limit), *told)
        kernels.launch("check_call", kernels.processors, threads, arguments)
        return Examined(rows, kernels, flags)


def limit_of(step: float) -> float:
    """Return the power of two below which neighbouring numbers are less than a step apart."""
    return math.ldexp(1.0, math.frexp(math.nextafter(step, 0.0))[1] + MANTISSA)
