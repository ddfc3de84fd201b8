"""The base class of backends, with a portable implementation of every op.

Ops use only array-API functions of ``self.xp``, so a subclass that sets `name` and `xp` and defines
`owns` is correct; it overrides only the ops that it makes faster.
"""

import functools
import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from accelnn._cached import cached_property
from accelnn._typing import Array, ArrayLike
from accelnn.backends._arrays import dtype_name, from_dlpack, is_array, kind_of, speaks_dlpack
from accelnn.backends._engine import Engine
from accelnn.backends._memory import Memory
from accelnn.backends._sparse import SparseDataset, SparseRows
from accelnn.backends._spec import Loss, NetSpec
from accelnn.backends._training import Dataset
from accelnn.errors import BackendMismatchError
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._loss import LossFormula
from accelnn.formulas._ops import inner
from accelnn.formulas._table import ACTIVATIONS

logger = logging.getLogger("accelnn")

__all__ = ["ActivationOps", "Backend"]

# How many engines are kept for nets to come.
MOST_ENGINES = 64
# An activation of the table has three ops, such as `gelu`, `gelu_grad` and `gelu_delta`.
SUFFIXES = ("", "_grad", "_delta")
# Stateless, so one instance serves all.
_NO_CHANGE = nullcontext()


class LossOps(NamedTuple):
    """The loss of each sample: ``value(a, t)``, ``grad(a, t)`` and ``delta(a, d, t)``.

    ``both(a, t)`` returns value and gradient. With `takes_labels`, all but `delta` take `Labels`.
    """

    value: Callable[[Array, Any], Array]
    grad: Callable[[Array, Any], Array]
    delta: Callable[[Array, Array, Array], Array]
    both: Callable[[Array, Any], tuple[Array, Array]]
    takes_labels: bool


class ActivationOps(NamedTuple):
    """An activation between layers: ``value(x)``, ``slope(x)`` and ``change(x, d)``.

    ``value(x, memory)`` may use an array like `x`, or `x` itself, or None for the result.
    ``times_slope(error, x)`` returns ``error * slope(x)`` and may overwrite both; with
    `slope_from_value` it takes f(x) in the place of x.
    """

    value: Callable[[Array, Array | None], Array]
    slope: Callable[[Array], Array]
    change: Callable[[Array, Array], Array]
    times_slope: Callable[[Array, Array], Array]
    slope_from_value: bool


class _ChecksArrays(type):
    """Checks, when a backend is instantiated, that its arrays are writable and have views."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        # A class that overrides `zeros` is trusted, so that CuPy's need not wait for its device.
        is_ours = getattr(made.zeros, "__func__", None) is Backend.zeros
        if is_ours and getattr(made, "xp", None) is not None:
            _require_writable_views(made)
        return made


def _require_writable_views(backend: "Backend") -> None:
    with backend.current():
        x = backend.zeros(2, "float32")
        why = "writing to x[1:] does not change x"
        try:
            x[1:][...] = backend.asarray(np.ones(1, np.float32))
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            first_line, _, _ = str(error).partition("\n")
            why = f"{type(error).__name__}: {first_line}"
        if backend.to_numpy(x)[1] == 1.0:
            return
    msg = (
        f"{type(backend).__qualname__} cannot be a backend: accelnn needs arrays that can be "
        f"written, with views, and {kind_of(x)} is none ({why})"
    )
    raise TypeError(msg)


class Backend(metaclass=_ChecksArrays):
    """An array library and the kernels that compute on its arrays.

    Subclass it, set `name` and `xp` and define `owns`, and every function, net and training loop of
    accelnn runs on the new backend. Override an op to make it faster; call ``super()`` for the
    cases that the fast version does not cover.

    Attributes
    ----------
    name : str
        The name that `accelnn.get_backend` takes.
    xp : module
        A namespace that follows the Python array API standard, 2024.12 or later, with writable
        arrays and views: ``x[1:][...] = 1.0`` changes x. Instantiating a backend of immutable
        arrays, such as JAX's, raises TypeError.
    device : object
        The device of new arrays, as the namespace names it.
    inferred : bool
        Whether arrays of its type select this backend when nothing else does. False for a
        backend that shares its array type with another.
    number : int or None
        The number after the colon of a name such as ``"cupy:1"``, usually that of a device; each
        has its own instance. None for a backend without numbers.
    """

    name: ClassVar[str]
    inferred: ClassVar[bool] = True
    xp: Any
    device: Any = None
    number: int | None = None

    def __repr__(self) -> str:
        return f"<accelnn backend {self.name!r} on {self.device}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # A device and compiled code cannot be pickled: unpickling looks the backend up.
        from accelnn.backends._registry import found_again, reference

        return found_again, reference(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    # Identity -------------------------------------------------------------------------------

    @classmethod
    def check_available(cls) -> None:
        """Raise `accelnn.errors.BackendUnavailableError` if the backend cannot be used here.

        It is called before the class is first instantiated by `accelnn.get_backend`.
        """

    @classmethod
    def owns(cls, x: object) -> bool:
        """Return whether `x` is an array of this backend; must not import anything."""
        raise NotImplementedError

    # Devices --------------------------------------------------------------------------------
    #
    # A class for several devices overrides `device_count`, takes the number of one in its
    # constructor, and has one instance per device.

    @classmethod
    def device_count(cls) -> int:
        """Return how many devices names such as ``"cupy:1"`` choose from; 0 without a choice."""
        return 0

    @classmethod
    def parse_number(cls, number: str, name: str) -> int:
        """Parse the number after the colon of a backend's name, by default that of a device.

        Parameters
        ----------
        number : str
            The part after the colon.
        name : str
            The part before the colon.

        Raises
        ------
        ValueError
            If there is no such device.
        """
        count = cls.device_count()
        if number.isdecimal() and int(number) < count:
            return int(number)
        known = ", ".join(repr(f"{name}:{i}") for i in range(count))
        msg = f"unknown device {number!r} of the backend {name!r}; "
        msg += (
            f"known devices are {known}" if known else f"it has no numbered devices: use {name!r}"
        )
        raise ValueError(msg)

    @classmethod
    def number_of(cls, x: Array) -> int | None:  # noqa: ARG003 - subclasses ask
        """Return the number of the device that holds an array of this backend's library."""
        return None

    @property
    def address(self) -> str:
        """The name, with the number if any, that `accelnn.get_backend` takes for this instance."""
        return self.name if self.number is None else f"{self.name}:{self.number}"

    def current(self) -> AbstractContextManager[object]:
        """Return a context manager in which this backend's device is current.

        Functions, nets, `fit`, `prepare` and numerical gradients enter it themselves and restore
        the caller's device and stream. Ops, engines and loss objects do not: where there are
        several devices, make the backend's own current before you call them directly or compute
        with its arrays.
        """
        return _NO_CHANGE

    # Movement -------------------------------------------------------------------------------

    def dtype(self, dtype: Any) -> Any:
        """Return the namespace's dtype for a name or a dtype of any array library."""
        return getattr(self.xp, dtype if isinstance(dtype, str) else dtype_name(dtype))

    def asarray(self, x: ArrayLike, dtype: Any = None) -> Array:
        """Return `x` as an array of this backend, copied from the host if need be.

        Nothing else converts arrays of another library to those of a backend. To convert back,
        use the other library's own function, such as ``torch.from_dlpack(y)``, or `to_numpy`.

        Parameters
        ----------
        x : array_like
            A NumPy array, an array of this backend, Python numbers, or an array in host memory of
            any library with ``__dlpack__``, which shares memory with the result if it is writable
            and the backend computes on the host.
        dtype : dtype or str, optional
            The dtype of the result; by default that of `x`, or for Python numbers the one that
            NumPy gives them.

        Raises
        ------
        TypeError
            If the other library cannot export `x`, because of its device or of a dtype such as
            bfloat16.
        """
        if dtype is not None:
            dtype = self.dtype(dtype)
        if not isinstance(x, np.ndarray) and not self.owns(x):
            # Libraries disagree on the dtype of a Python float: float64 or float32.
            x = from_dlpack(np, x) if speaks_dlpack(x) else np.asarray(x)
        if isinstance(x, np.ndarray) and not (x.dtype.isnative and x.flags.writeable):
            # A copy, because few libraries support read-only memory.
            x = x.astype(x.dtype.newbyteorder("="))
        return self.xp.asarray(x, dtype=dtype, device=self.device)

    def empty(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return a new writable array of any numbers."""
        return self.zeros(shape, dtype)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return a new writable array of zeros."""
        return self.xp.zeros(shape, dtype=self.dtype(dtype), device=self.device)

    def memory_for(self, shape: tuple[int, ...], dtype: Any) -> Array | None:  # noqa: ARG002
        """Return an array for ops to write to, or None if those of `xp` only make new arrays."""
        return None

    def take(self, x: Array, index: Array, memory: Array | None = None) -> Array:  # noqa: ARG002
        """Return rows of `x`, in `memory`, for which they must exist, if possible."""
        return self.xp.take(x, index, axis=0)

    def matmul(self, a: Array, b: Array, memory: Array | None = None) -> Array:  # noqa: ARG002
        """Return the matrix product of `a` and `b`, in `memory` if possible."""
        return a @ b

    def matmul_into(self, out: Array, a: Array, b: Array) -> None:
        """Write the matrix product of `a` and `b` to `out`."""
        out[...] = a @ b

    def sum_into(self, out: Array, x: Array, axis: int) -> None:
        """Write the sum of `x` along one axis to `out`."""
        out[...] = self.sum(x, axis)

    def to_numpy(self, x: Array) -> np.ndarray:
        """Return `x` as a NumPy array, copied to the host if need be."""
        return np.asarray(x)

    def synchronize(self) -> None:
        """Wait until the device has finished all pending work."""

    def memory(self) -> Memory | None:
        """Return how much memory the device has, or None where arrays are in host memory.

        A backend that runs out of memory must raise MemoryError or a subclass of it.
        """
        return None

    def release_memory(self) -> None:
        """Free cached memory that no array occupies."""

    def check_owned(self, x: object, name: str = "x") -> None:
        """Raise `BackendMismatchError` if `x` is an array of another library or device."""
        if self.owns(x) or isinstance(x, np.generic) or not is_array(x):
            return
        msg = (
            f"{name} is a {kind_of(x)}, but the backend is {self.name!r} (device {self.device}) "
            f"and nothing is converted implicitly. Move it with "
            f"accelnn.get_backend({self.address!r}).asarray(...), which takes NumPy arrays and, "
            f"through DLPack or __cuda_array_interface__, those of other libraries where the "
            f"backend can reach them; or choose the backend that the array belongs to."
        )
        raise BackendMismatchError(msg)

    # Engines --------------------------------------------------------------------------------

    def engine(self, spec: NetSpec, dtype: Any) -> Engine:
        """Return the engine for an architecture and a dtype; the last ones are kept.

        Parameters
        ----------
        spec : NetSpec
            The architecture.
        dtype : dtype or str
            ``"float32"`` or ``"float64"``.
        """
        key = (spec, dtype_name(dtype))
        found = self._engines.get(key)
        if found is None:
            with self.current():
                # Two threads may both make one; all use the one that is stored first.
                found = self._engines.setdefault(key, self.make_engine(*key))
            # Nets keep theirs. A search over many architectures would otherwise keep all of them.
            for oldest in list(self._engines)[:-MOST_ENGINES]:
                self._engines.pop(oldest, None)
        return found

    @cached_property
    def _engines(self) -> dict[tuple[NetSpec, str], Engine]:
        return {}

    def make_engine(self, spec: NetSpec, dtype: str) -> Engine:
        """Make an engine; a backend with fused kernels overrides this."""
        return Engine(self, spec, dtype)

    def prepare(self, x: Array, t: Array, dtype: str, *, copy: bool) -> Dataset:
        """Convert a validated data set to the form that this backend's engines train on fastest.

        Parameters
        ----------
        x, t : array
            Samples in `dtype` and targets or labels, as arrays of this backend. A method with an
            attribute ``casts_samples = True`` is given samples of any real dtype.
        dtype : str
            ``"float32"`` or ``"float64"``.
        copy : bool
            Whether the caller may still change `x`, so that the data set must not share it.
        """
        x = self.xp.asarray(x, copy=True) if copy else x
        return Dataset(x, self._indexable(t), self, dtype)

    def prepare_sparse(self, rows: SparseRows, t: Array, dtype: str) -> Dataset:
        """Convert a validated data set of which only the non-zeros are stored, on the host.

        By default they stay there, and each batch is made dense.

        Parameters
        ----------
        rows : SparseRows
            Samples in `dtype`, which nobody else can change.
        t : array
            Targets or labels, as an array of this backend.
        dtype : str
            ``"float32"`` or ``"float64"``.
        """
        return SparseDataset(rows, self._indexable(t), self, dtype)

    def _indexable(self, t: Array) -> Array:
        if self.xp.isdtype(t.dtype, "unsigned integer"):
            # torch cannot index rows of them: https://github.com/pytorch/pytorch/issues/58734
            return self.xp.astype(t, self.dtype("int64"))
        return t

    def shares_data_with(self, other: "Backend") -> bool:
        """Return whether this backend can train on a data set that `other` prepared."""
        same_device = self.number is not None and self.number == other.number
        return other is self or (type(other) is type(self) and same_device)

    def map(self, f: Callable[..., Any], *arrays: Array, results: int = 1) -> Any:
        """Return f applied elementwise to one or more arrays.

        An f that returns a tuple of that many `results` gives a tuple of arrays. By default f, a
        function of Python numbers, is called in a loop; a warning is logged once.
        """
        if self.memory() is not None:
            msg = (
                f"{_name_of(f)} is a function of plain numbers, and the arrays of {self.name!r} "
                f"are on {self.device}: take a formula of accelnn.activations or accelnn.losses, "
                f"or the backend 'numpy' or 'numba'"
            )
            raise TypeError(msg)
        _say_once(_name_of(f), self.name, getattr(f, "__code__", None))
        dtype = np.result_type(self.to_numpy(arrays[0]).dtype, np.float16)
        called = np.frompyfunc(f, len(arrays), results)
        # An error that f catches, as of math.sqrt, leaves the processor's flags set.
        with np.errstate(all="ignore"):
            found = called(*(self.to_numpy(array).astype(object) for array in arrays))
        if results > 1:
            return tuple(self.asarray(np.asarray(array, dtype)) for array in found)
        return self.asarray(np.asarray(found, dtype))

    # Along one axis -------------------------------------------------------------------------

    def sum(self, x: Array, axis: int, *, keepdims: bool = False) -> Array:
        """Sum of x along one axis."""
        return self.xp.sum(x, axis=axis, keepdims=keepdims)

    def max(self, x: Array, axis: int, *, keepdims: bool = False) -> Array:
        """Largest of x along one axis; NaN where there is one."""
        return self.xp.max(x, axis=axis, keepdims=keepdims)

    # Along the last axis --------------------------------------------------------------------

    def softmax(self, x: Array) -> Array:
        """exp(x) / sum(exp(x))."""
        e = self.xp.exp(x - self.max(x, -1, keepdims=True))
        return e / self.sum(e, -1, keepdims=True)

    def log_softmax(self, x: Array) -> Array:
        """x - log(sum(exp(x)))."""  # noqa: D403 - a formula
        xp = self.xp
        shifted = x - self.max(x, -1, keepdims=True)
        return shifted - xp.log(self.sum(xp.exp(shifted), -1, keepdims=True))

    def logsumexp(self, x: Array) -> Array:
        """log(sum(exp(x))), which drops the last axis."""
        xp = self.xp
        top = self.max(x, -1, keepdims=True)
        total = xp.log(self.sum(xp.exp(x - top), -1))
        return total + top[..., 0]

    def exponentials(self, x: Array) -> tuple[Array, Array, Array]:
        """exp(x - top), its sum, and top, the largest x; the last two drop the last axis.

        The first is a new array, which the caller may overwrite.
        """
        top = self.max(x, -1, keepdims=True)
        e = self.xp.exp(x - top)
        return e, self.sum(e, -1), top[..., 0]

    def pick(self, x: Array, labels: Array) -> Array:
        """Element labels[s] of every row s."""
        xp = self.xp
        is_picked = self.one_hot(labels, x.shape[-1], x.dtype) > 0
        return self.sum(xp.where(is_picked, x, xp.zeros_like(x)), -1)

    def less_one_hot(self, x: Array, labels: Array) -> Array:
        """x - one_hot(labels); may overwrite `x`."""  # noqa: D403 - a formula
        return x - self.one_hot(labels, x.shape[-1], x.dtype)

    def one_hot(self, labels: Array, n: int, dtype: Any) -> Array:
        """Rows of zeros with a one at the label; appends an axis of length `n`."""
        # In int64, because a narrow label type may not hold every class.
        labels = self.xp.astype(labels, self.dtype("int64"))
        classes = self.asarray(np.arange(n, dtype=np.int64))
        return self.xp.astype(labels[..., None] == classes, self.dtype(dtype))

    # Losses on outputs ----------------------------------------------------------------------

    def sum_squared_error(self, y: Array, t: Array) -> Array:
        """½ Σ (y - t)²."""
        return 0.5 * self.xp.sum((y - t) ** 2)

    def cross_entropy_error(self, y: Array, t: Array, eps: float) -> Array:
        """-Σ t log(y + eps) / N over rows of probabilities y and of targets t."""
        n = math.prod(y.shape[:-1])
        return -self.xp.sum(t * self.xp.log(y + eps)) / n

    # Activations ----------------------------------------------------------------------------

    def activation_ops(self, formula: ActivationFormula) -> ActivationOps:
        """Return value, slope and exact change of an activation, as this backend computes them.

        For an activation of the table with default parameters, overridden ops take precedence.
        """
        parts = ("value", "slope", "change")
        value, slope, change = (inner(formula, ActivationFormula, part, self) for part in parts)
        into, has_own_slope = _ignoring_memory(value), False
        if ACTIVATIONS.get(formula.name) == formula:
            into, has_own_slope = (
                self.with_memory(formula.name),
                self._overrides(f"{formula.name}_grad"),
            )
            slope, change = (getattr(self, formula.name + suffix) for suffix in SUFFIXES[1:])
        times_slope: Callable[[Array, Array], Array]
        if type(formula).slope is ActivationFormula.slope and not has_own_slope:
            times_slope = inner(formula, ActivationFormula, "times_slope", self)
            return ActivationOps(into, slope, change, times_slope, formula.slope_from_value)

        def times_other_slope(error: Array, x: Array) -> Array:
            error *= slope(x)
            return error

        return ActivationOps(into, slope, change, times_other_slope, slope_from_value=False)

    def with_memory(self, op: str) -> Callable[[Array, Array | None], Array]:
        """Return an op of one array that takes an array for its result, if only to ignore it.

        A class that overrides the op has one that does not ignore it in ``_<op>_into(x, memory)``,
        where None asks for a new array.
        """
        for cls in type(self).__mro__:
            if f"_{op}_into" in vars(cls):
                into: Callable[[Array, Array | None], Array] = getattr(self, f"_{op}_into")
                return into
            if op in vars(cls):
                break
        return _ignoring_memory(getattr(self, op))

    def _overrides(self, op: str) -> bool:
        return getattr(type(self), op) is not getattr(Backend, op)

    def loss_ops(self, loss: Loss) -> LossOps:
        """Return value, gradient and exact change of a loss on arrays of this backend."""
        value, grad, delta = (
            inner(loss, LossFormula, part, self) for part in ("value", "grad", "delta")
        )
        kind = type(loss)
        if isinstance(loss, LossFormula) and (kind.value, kind.grad) == _LOSS_DOORS:
            both = inner(loss, LossFormula, "both", self)
            return LossOps(value, grad, delta, both, loss.takes_labels)
        return LossOps(
            value, grad, delta, lambda a, t: (value(a, t), grad(a, t)), takes_labels=False
        )


_LOSS_DOORS = LossFormula.value, LossFormula.grad


def _ignoring_memory(op: Callable[[Array], Array]) -> Callable[[Array, Array | None], Array]:
    return lambda x, _memory: op(x)


@functools.cache
def _say_once(function: str, backend: str, code: object) -> None:  # noqa: ARG001 - functions may share a name
    logger.warning(
        "accelnn calls %s for one number after another on the backend %r, which is slow%s",
        function,
        backend,
        "" if backend == "numba" else "; on 'numba' it is compiled",
    )


def _name_of(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))


def _add_ops(formula: ActivationFormula) -> None:
    """Define the ops of an activation on `Backend`, where subclasses may override them."""
    # The private methods skip conversion and the choice of a backend: ops take its own arrays.
    f, f_slope, f_change = (getattr(formula, part) for part in ("_value", "_slope", "_change"))

    def value(self: Backend, x: Array) -> Array:
        return f(self, x)

    def slope(self: Backend, x: Array) -> Array:
        return f_slope(self, x)

    def change(self: Backend, x: Array, d: Array) -> Array:
        return f_change(self, x, d)

    told = ("f(x)", "f'(x)", "f(x + d) - f(x), without cancellation")
    for suffix, op, what in zip(SUFFIXES, (value, slope, change), told, strict=True):
        op.__name__ = formula.name + suffix
        op.__qualname__ = f"Backend.{op.__name__}"
        op.__doc__ = f"{what}, f being {formula.name}; x is the pre-activation."
        setattr(Backend, op.__name__, op)


for _formula in ACTIVATIONS.values():
    _add_ops(_formula)
