"""The contract of a backend, with a portable body for every op.

A body is written against the array-API names of ``self.xp``, so a subclass that sets `name` and
`xp` is correct; it overrides only what it makes faster.
"""

import functools
import logging
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import numpy as np

from accelnn._typing import Array, ArrayLike
from accelnn.backends._engine import Dataset, Engine
from accelnn.backends._memory import Memory
from accelnn.backends._spec import NetSpec
from accelnn.errors import BackendMismatchError
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._table import ACTIVATIONS

logger = logging.getLogger("accelnn")

__all__ = ["ActivationOps", "Backend", "dtype_name", "from_dlpack", "is_floating", "speaks_dlpack"]

# The ops of each activation of the table: `gelu`, `gelu_grad` and `gelu_delta`.
SUFFIXES = ("", "_grad", "_delta")
# It holds nothing, so that all may share it.
_NO_CHANGE = nullcontext()


class ActivationOps(NamedTuple):
    """An activation between layers: ``value(x)``, ``slope(x)`` and ``change(x, d)``."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    change: Callable[[Array, Array], Array]


class Backend:
    """Whose arrays and whose kernels compute.

    Subclass it, set `name` and `xp`, and every function, net and training loop of accelnn runs on
    the new backend. Override an op to make it faster; call ``super()`` for the cases that the
    fast version leaves out.

    Attributes
    ----------
    name : str
        What `accelnn.get_backend` knows it by.
    xp : module
        A namespace that follows the Python array API standard, 2024.12 or later.
    device : object
        Where new arrays live, in the namespace's own terms.
    inferred : bool
        Whether an array of this backend's type selects it when nothing else does. False for a
        backend that shares its array type with another.
    number : int or None
        Which of several devices, each of which has a backend of its own; None without a choice.
    """

    name: ClassVar[str]
    inferred: ClassVar[bool] = True
    xp: Any
    device: Any = None
    number: int | None = None

    def __repr__(self) -> str:
        return f"<accelnn backend {self.name!r} on {self.device}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # A backend holds a device and compiled code: it is found again where it arrives.
        from accelnn.backends._resolve import get_backend, reference

        return get_backend, (reference(self),)

    # Identity -------------------------------------------------------------------------------

    @classmethod
    def check_available(cls) -> None:
        """Raise `accelnn.errors.BackendUnavailableError` if the backend cannot be used here."""

    @classmethod
    def owns(cls, x: object) -> bool:
        """Return whether `x` is an array of this backend; must not import anything."""
        raise NotImplementedError

    # Devices --------------------------------------------------------------------------------
    #
    # A class with several devices says how many, takes the number of one when it is made, and has
    # one instance for each.

    @classmethod
    def device_count(cls) -> int:
        """Return how many devices a name such as ``"cupy:1"`` chooses from; 0 without a choice."""
        return 0

    @classmethod
    def number_of(cls, x: Array) -> int | None:  # noqa: ARG003 - subclasses ask
        """Return the number of the device that an array of this backend's library is on."""
        return None

    @property
    def address(self) -> str:
        """What `accelnn.get_backend` finds this very backend by: its name, and its number."""
        return self.name if self.number is None else f"{self.name}:{self.number}"

    def current(self) -> AbstractContextManager[object]:
        """Return a context in which arrays of this backend can be computed with.

        Functions, nets, `fit`, `prepare` and numerical gradients enter it themselves, and leave
        the caller's device and stream as they were. Ops, engines and loss objects, which they are
        made of, do not: a direct call of one, and arithmetic with the arrays themselves, needs the
        backend's device to be current where that is not the only one.
        """
        return _NO_CHANGE

    # Movement -------------------------------------------------------------------------------

    def dtype(self, dtype: Any) -> Any:
        """Return the namespace's own dtype for a name or a dtype of any array library."""
        return getattr(self.xp, dtype_name(dtype))

    def asarray(self, x: ArrayLike, dtype: Any = None) -> Array:
        """Return `x` as an array of this backend, copied from the host if need be.

        The one way from another library's arrays to a backend's, because nothing else converts
        them. The way back is the library's own, as ``torch.from_dlpack(y)``, or `to_numpy`.

        Parameters
        ----------
        x : array_like
            A NumPy array, an array of this backend, Python numbers, or an array in host memory of
            any library with ``__dlpack__``, whose memory is shared where the result may be there.
        dtype : dtype or str, optional
            The dtype of the result; by default that of `x`.

        Raises
        ------
        TypeError
            If the other library cannot hand over `x`: because of its device, or of a dtype such as
            bfloat16.
        """
        if dtype is not None:
            dtype = self.dtype(dtype)
        if speaks_dlpack(x) and not self.owns(x):
            x = from_dlpack(np, x)
        return self.xp.asarray(x, dtype=dtype, device=self.device)

    def zeros(self, shape: int | tuple[int, ...], dtype: Any) -> Array:
        """Return a new writable array of zeros."""
        return self.xp.zeros(shape, dtype=self.dtype(dtype), device=self.device)

    def to_numpy(self, x: Array) -> np.ndarray:
        """Return `x` as a NumPy array, copied to the host if need be."""
        return np.asarray(x)

    def synchronize(self) -> None:
        """Wait until the device has done everything asked of it."""

    def memory(self) -> Memory | None:
        """Return how much memory the device has, or None where arrays are in host memory.

        A backend whose memory runs out raises MemoryError, or a subclass of it.
        """
        return None

    def release_memory(self) -> None:
        """Give back memory that no array is in, but that is kept for later ones."""

    def check_owned(self, x: object, name: str = "x") -> None:
        """Raise `BackendMismatchError` if `x` is an array of another library or device."""
        if self.owns(x) or isinstance(x, np.generic) or not _is_array(x):
            return
        msg = (
            f"{name} is a {_kind(x)}, but the backend is {self.name!r} (device {self.device}) and "
            f"nothing is converted implicitly. Move it with "
            f"accelnn.get_backend({self.address!r}).asarray(...), which takes NumPy arrays and, "
            f"through DLPack or __cuda_array_interface__, those of other libraries where the "
            f"backend can reach them; or choose the backend that the array belongs to."
        )
        raise BackendMismatchError(msg)

    # Engines --------------------------------------------------------------------------------

    def engine(self, spec: NetSpec, dtype: Any) -> Engine:
        """Return the engine for one kind of architecture, made once and then kept.

        Parameters
        ----------
        spec : NetSpec
            The architecture.
        dtype : dtype or str
            ``"float32"`` or ``"float64"``.
        """
        key = (spec, dtype_name(dtype))
        if key not in self._engines:
            with self.current():
                # Two threads may both make one; the first to be kept is everyone's.
                self._engines.setdefault(key, self.make_engine(*key))
        return self._engines[key]

    @functools.cached_property
    def _engines(self) -> dict[tuple[NetSpec, str], Engine]:
        return {}

    def make_engine(self, spec: NetSpec, dtype: str) -> Engine:
        """Make an engine; a backend with fused kernels overrides this."""
        return Engine(self, spec, dtype)

    def prepare(self, x: Array, t: Array, dtype: str, *, copy: bool) -> Dataset:
        """Bring a checked data set into the form that this backend's engines train on fastest.

        Parameters
        ----------
        x, t : array
            Samples in `dtype`, and targets or labels, of this backend.
        dtype : str
            ``"float32"`` or ``"float64"``.
        copy : bool
            Whether `x` is memory that the caller may change, which the data set must not share.
        """
        return Dataset(self.xp.asarray(x, copy=True) if copy else x, t, self, dtype)

    def map(self, f: Callable[..., Any], *arrays: Array) -> Array:
        """Return f of each element, or of each together with those of other arrays.

        Here f is called for one after another, by plain numbers, which is said once.
        """
        if self.memory() is not None:
            msg = (
                f"{_name_of(f)} is a function of plain numbers, and the arrays of {self.name!r} "
                f"are on {self.device}: take a formula of accelnn.activations or accelnn.losses, "
                f"or the backend 'numpy' or 'numba'"
            )
            raise TypeError(msg)
        _say_once(_name_of(f), self.name)
        dtype = np.result_type(self.to_numpy(arrays[0]).dtype, np.float16)
        called = np.frompyfunc(f, len(arrays), 1)
        found = called(*(self.to_numpy(array).astype(object) for array in arrays))
        return self.asarray(np.asarray(found, dtype))

    # Along the last axis --------------------------------------------------------------------

    def softmax(self, x: Array) -> Array:
        """exp(x) / sum(exp(x))."""
        xp = self.xp
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)

    def log_softmax(self, x: Array) -> Array:
        """x - log(sum(exp(x)))."""  # noqa: D403 - a formula
        xp = self.xp
        shifted = x - xp.max(x, axis=-1, keepdims=True)
        return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))

    def logsumexp(self, x: Array) -> Array:
        """log(sum(exp(x))), which drops the last axis."""
        xp = self.xp
        top = xp.max(x, axis=-1, keepdims=True)
        total = xp.log(xp.sum(xp.exp(x - top), axis=-1))
        return total + top[..., 0]

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

        A backend may have ops of its own for what is in the table with default parameters.
        """
        if ACTIVATIONS.get(formula.name) != formula:
            return ActivationOps(
                *(
                    functools.partial(part, backend=self)
                    for part in (formula.value, formula.slope, formula.change)
                )
            )
        return ActivationOps(*(getattr(self, formula.name + suffix) for suffix in SUFFIXES))


@functools.cache
def _say_once(function: str, backend: str) -> None:
    logger.warning(
        "accelnn calls %s for one number after another on the backend %r, which is slow; on "
        "'numba' it is compiled",
        function,
        backend,
    )


def _name_of(function: object) -> str:
    return getattr(function, "__qualname__", repr(function))


def _add_ops(formula: ActivationFormula) -> None:
    """Give `Backend` the ops of an activation, which a subclass may have faster ones of."""

    def value(self: Backend, x: Array) -> Array:
        return formula.value(x, backend=self)

    def slope(self: Backend, x: Array) -> Array:
        return formula.slope(x, backend=self)

    def change(self: Backend, x: Array, d: Array) -> Array:
        return formula.change(x, d, backend=self)

    told = ("f(x)", "f'(x)", "f(x + d) - f(x), without cancellation")
    for suffix, op, what in zip(SUFFIXES, (value, slope, change), told, strict=True):
        op.__name__ = formula.name + suffix
        op.__qualname__ = f"Backend.{op.__name__}"
        op.__doc__ = f"{what}, f being {formula.name}; x is the pre-activation."
        setattr(Backend, op.__name__, op)


for _formula in ACTIVATIONS.values():
    _add_ops(_formula)


def dtype_name(dtype: Any) -> str:
    """Return the plain name ("float32") of a dtype of any array library."""
    if isinstance(dtype, str):
        return dtype
    if isinstance(dtype, np.dtype):
        return _numpy_name(dtype)
    try:
        return str(np.dtype(dtype).name)
    except TypeError:
        return str(dtype).rpartition(".")[2]


# NumPy takes microseconds to name a dtype, and there are a handful of them.
@functools.cache
def _numpy_name(dtype: np.dtype[Any]) -> str:
    return str(dtype.name)


def is_floating(dtype: Any) -> bool:
    """Return whether a dtype of any array library is real and floating."""
    name = _numpy_name(dtype) if isinstance(dtype, np.dtype) else dtype_name(dtype)
    return name.startswith("float")


def speaks_dlpack(x: object) -> bool:
    """Return whether `x` is an array, not NumPy's, that can be handed over through DLPack."""
    return hasattr(type(x), "__dlpack__") and not isinstance(x, np.ndarray | np.generic)


def from_dlpack(xp: Any, x: Any) -> Array:
    """Return an array of another library as one of `xp`, in the same memory."""
    try:
        return xp.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        msg = (
            f"the {_kind(x)}, of dtype {getattr(x, 'dtype', '?')}, cannot be handed over to "
            f"{xp.__name__}: {error}. Let its own library move it, or cast it to float32, first"
        )
        raise TypeError(msg) from error


def _kind(x: object) -> str:
    return f"{type(x).__module__.partition('.')[0]}.{type(x).__name__}"


def _is_array(x: object) -> bool:
    protocols = ("__array_namespace__", "__dlpack__", "__cuda_array_interface__")
    return any(hasattr(type(x), protocol) for protocol in protocols)
