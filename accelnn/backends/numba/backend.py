"""The Numba backend: NumPy arrays, with compiled loops where they are faster."""

import functools
import importlib.util
import logging
import os
from collections.abc import Callable, Hashable
from types import ModuleType
from typing import Any

import numpy as np

from accelnn._compilation import compilation
from accelnn._forks import no_forks
from accelnn._optional import install_command
from accelnn._shown import shown
from accelnn._typing import Array
from accelnn.backends._base import Backend
from accelnn.backends._engine import Engine
from accelnn.backends._sparse import SparseRows
from accelnn.backends._spec import NetSpec
from accelnn.backends._training import Dataset
from accelnn.backends.numpy import NumpyBackend
from accelnn.errors import BackendUnavailableError
from accelnn.formulas._table import ACTIVATIONS

__all__ = ["NumbaBackend"]

logger = logging.getLogger("accelnn")

# The widest row for which one compiled pass beats NumPy's several vectorised ones, whose overhead
# is per call; the compiled pass computes a scalar exponential per element.
NARROW = 16
COMPILED_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


class NumbaBackend(NumpyBackend):
    """NumPy arrays, with fused compiled kernels for ops that take NumPy several passes.

    Parameters
    ----------
    threads : int, optional
        The maximum number of threads of its engines; by default one per CPU that this process may
        use. In `accelnn.get_backend`, ``"numba:1"``, ``"numba:2"`` and so on.
    """

    name = "numba"
    inferred = False

    def __init__(self, threads: int | None = None) -> None:
        self.check_available()
        with no_forks():
            from accelnn.backends.numba._jit import is_compiled
            from accelnn.backends.numba.kernels import ops
            from accelnn.backends.numba.team import Team

        self._ops: ModuleType = ops
        # Under NUMBA_DISABLE_JIT kernels are Python functions, and those on vectors cannot run.
        self._compiles = is_compiled(ops.softmax_rows)
        self.team = Team(_thread_count(threads))
        # Other processes find it by this number, whatever their default.
        self.number = None if threads is None else self.team.size

    def __repr__(self) -> str:
        return f"<accelnn backend {self.address!r} on {self.device}>"

    @classmethod
    def check_available(cls) -> None:
        """Raise `BackendUnavailableError` if Numba is missing or does not import."""
        if importlib.util.find_spec("numba") is None:
            msg = (
                f"the numba backend needs the package numba, which is not installed. "
                f"Install it with:\n\n    {install_command('numba')}\n"
            )
            raise BackendUnavailableError(msg, reason="not installed")
        try:
            with no_forks():
                import numba  # noqa: F401 - tests whether it can be imported
        except Exception as error:
            msg = (
                f"numba is installed, but importing it failed with {type(error).__name__}: "
                f"{str(error).removesuffix('.')}. {_remedy(error)}\n"
            )
            raise BackendUnavailableError(msg, reason="import failed") from error

    @classmethod
    def parse_number(cls, number: str, name: str) -> int:
        """Return the number of threads in a name such as ``"numba:1"``."""
        if number.isdecimal() and int(number) > 0:
            return int(number)
        msg = (
            f"unknown number of threads {number!r} of the backend {name!r}; it is at least 1: use "
            f"{name + ':1'!r}, for example, or {name!r} for one for each processor"
        )
        raise ValueError(msg)

    @property
    def threads(self) -> int:
        """The maximum number of threads of its engines."""
        return self.team.size

    def make_engine(self, spec: NetSpec, dtype: str) -> Engine:
        """Return a fused engine, or the portable one if a formula of the net has no kernel."""
        if not self._compiles:
            return super().make_engine(spec, dtype)
        with no_forks():
            from accelnn.backends.numba.engine import NumbaEngine
            from accelnn.backends.numba.user_functions import NoCodeError

        try:
            return NumbaEngine(self, spec, dtype)
        except NoCodeError:
            return super().make_engine(spec, dtype)

    def prepare(self, x: Array, t: Array, dtype: str, *, copy: bool) -> Dataset:
        """See `Backend.prepare`."""
        if not self._compiles:
            return super().prepare(x.astype(dtype, copy=False), t, dtype, copy=copy)
        with no_forks():
            from accelnn.backends.numba.dataset import pack_dataset

        return pack_dataset(self, x, t, dtype, copy=copy)

    # Piece by piece; a subclass with a method of its own is given samples that are cast.
    prepare.casts_samples = True  # type: ignore[attr-defined]

    def prepare_sparse(self, rows: SparseRows, t: Array, dtype: str) -> Dataset:
        """See `Backend.prepare_sparse`."""
        if not self._compiles:
            return super().prepare_sparse(rows, t, dtype)
        with no_forks():
            from accelnn.backends.numba.dataset import pack_rows

        return pack_rows(self, rows, t, dtype)

    def shares_data_with(self, other: Backend) -> bool:
        """See `Backend.shares_data_with`; the number of threads makes no difference."""
        return type(other) is type(self)

    def map(self, f: Callable[..., Any], *arrays: Array, results: int = 1) -> Any:
        """See `Backend.map`; f is compiled on first use if Numba can compile it."""
        compiled = None
        if self._compiles:
            with no_forks():
                from accelnn.backends.numba.user_functions import state_of

            compiled = _elementwise(f, state_of(f), len(arrays), results)
        if compiled is None:
            return super().map(f, *arrays, results=results)
        dtype = np.result_type(arrays[0].dtype, np.float16)
        found = compiled(*(np.asarray(array, np.float64) for array in arrays))
        if results > 1:
            return tuple(array.astype(dtype, copy=False) for array in found)
        return np.asarray(found).astype(dtype, copy=False)

    def sigmoid_delta(self, x: Array, d: Array) -> Array:
        """See `Backend.sigmoid_delta`."""
        if not _compiled(x) or x.dtype != d.dtype:
            return ACTIVATIONS["sigmoid"].change(x, d, backend=self)
        x, d = np.broadcast_arrays(x, d)
        out = np.empty(x.shape, x.dtype)
        self._ops.sigmoid_delta(x.ravel(), d.ravel(), out.reshape(-1))
        return out

    def softmax(self, x: Array) -> Array:
        """See `Backend.softmax`."""
        if not (_compiled(x) and x.shape[-1] <= NARROW):
            return super().softmax(x)
        return _by_row(self._ops.softmax_rows, x)

    def log_softmax(self, x: Array) -> Array:
        """See `Backend.log_softmax`."""
        if not (_compiled(x) and x.shape[-1] <= NARROW):
            return super().log_softmax(x)
        return _by_row(self._ops.log_softmax_rows, x)


@functools.cache
@compilation()
def _elementwise(
    f: Callable[..., Any],
    state: Hashable,  # noqa: ARG001 - what f looks up, which is constant in its code
    arguments: int,
    results: int,
) -> Any:
    """Compile a scalar function to one of arrays, or return None if Numba cannot."""
    import numba

    from accelnn.backends.numba.own import loop_of
    from accelnn.backends.numba.user_functions import NoCodeError, code_of

    vectorize: Any = numba.vectorize
    signature = f"float64({', '.join(['float64'] * arguments)})"
    try:
        if results > 1:
            return loop_of(f, arguments, results)
        compiled: Callable[..., Any] = vectorize([signature])(code_of(f).plain)
    except (numba.errors.NumbaError, NoCodeError, TypeError, ValueError) as error:
        logger.warning("Numba cannot compile %r: %s", f, str(error).partition("\n")[0])
        return None
    return compiled


def _remedy(error: Exception) -> str:
    """Return what helps where Numba cannot be imported."""
    settings = {k: v for k, v in os.environ.items() if k.startswith("NUMBA_")}
    # Settings make it raise others than what is missing or does not fit.
    if not settings or isinstance(error, ImportError | OSError):
        return "Reinstall it with:\n\n    pip install --force-reinstall numba"
    found = ", ".join(f"{name}={shown(value)}" for name, value in settings.items())
    return f"The environment has {found}. Unset that with:\n\n    unset {' '.join(settings)}"


def _thread_count(threads: int | None) -> int:
    from accelnn.backends.numba.team import usable_threads

    if threads is None:
        return usable_threads()
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or threads < 1:
        msg = f"threads must be a positive integer or None, got {shown(threads)}"
        raise ValueError(msg)
    return int(threads)


def _compiled(x: Array) -> bool:
    return x.dtype in COMPILED_DTYPES


def _by_row(kernel: Callable[[Array, Array], None], x: Array) -> Array:
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    kernel(rows, out)
    return out.reshape(x.shape)
