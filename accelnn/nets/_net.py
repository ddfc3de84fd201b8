"""What all nets share: from checked arguments to the engine and back."""

import functools
import os
from collections.abc import Callable
from typing import Any, Self, TypeVar, cast

import numpy as np

from accelnn._differences import DIFFERENCES, find_method
from accelnn._typing import Array, ArrayLike
from accelnn._validation import (
    ROWS,
    as_array,
    as_floating,
    as_targets,
    check_dtype,
    flatten_hint,
)
from accelnn.backends import (
    Backend,
    BackendLike,
    Dataset,
    Loss,
    MemoryFor,
    NetSpec,
    get_backend,
    pass_bytes,
)
from accelnn.formulas._loss import LossFormula
from accelnn.formulas._table import ACTIVATIONS, LOSSES, describe
from accelnn.gradient import GradientReport, check_gradient, numerical_gradient
from accelnn.gradient._steps import require_usable_step
from accelnn.nets._parameters import Parameters

__all__ = ["FORMAT", "KEY", "SAVED", "Net", "rebuild"]

AnyNet = TypeVar("AnyNet", bound="Net")
Method = TypeVar("Method", bound=Callable[..., Any])

# How a net is described in a file.
KEY = "accelnn_net"
FORMAT = 1
SAVED = ("MLP", "TwoLayerNet", "SimpleNet")


def _computing(method: Method) -> Method:
    """Let a method compute on the device of the net, whichever is current."""

    @functools.wraps(method)
    def on_device(net: "Net", *args: Any, **options: Any) -> Any:
        with net.backend.current():
            return method(net, *args, **options)

    return cast("Method", on_device)


class Net:
    """A feed-forward net. Use `accelnn.MLP`, `accelnn.TwoLayerNet` or `accelnn.SimpleNet`.

    Attributes
    ----------
    backend : Backend
        Where the net computes; captured when it was made.
    spec : NetSpec
        Its architecture.
    engine : Engine
        What computes; `fit` trains through it.
    """

    _predicts_scores = False

    def __init__(self, spec: NetSpec, flat: np.ndarray, dtype: Any, backend: Backend) -> None:
        self.backend = backend
        self.spec = spec
        self._dtype = check_dtype(dtype)
        with backend.current(), MemoryFor(backend, self._needs, "Make the net smaller"):
            self._flat = backend.zeros(spec.size, self.dtype)
            self.flat[...] = backend.asarray(flat, dtype=self.dtype)
        self._params = Parameters(spec.views(self.flat, backend.xp), backend)
        self.engine = backend.engine(spec, self.dtype)

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.spec.sizes))
        return (
            f"<{type(self).__name__} {sizes}, {self.spec.activation}, {self.spec.loss.name}, "
            f"{self.dtype}, {self.spec.size:,} parameters on {self.backend.address}>"
        )

    def __copy__(self) -> Self:
        return self.to(self.backend)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.to(self.backend)

    def __reduce__(self) -> tuple[Callable[..., "Net"], tuple[Any, ...], dict[str, Any]]:
        # Without the engine, which may hold compiled code: it is made again where the net arrives.
        flat = self.backend.to_numpy(self.flat)
        arguments = (type(self), self.spec, flat, self.dtype, self.backend)
        return rebuild, arguments, self._extras()

    @property
    def params(self) -> Parameters:
        """The parameters by name, mutable arrays of the net's backend.

        Edit them in place, or assign, to a key or all: values are copied into the live arrays.
        CuPy edits an array in place only where its device is current: where that is another one,
        ``net.params[k] -= step`` stands inside ``with net.backend.current():``.
        """
        return self._params

    @params.setter
    def params(self, values: dict[str, ArrayLike]) -> None:
        # Also what `net.params |= {...}` ends in.
        self._params.update(values)

    @property
    def dtype(self) -> str:
        """``"float32"`` or ``"float64"``."""
        return self._dtype

    @property
    def flat(self) -> Array:
        """The buffer, of shape (size,), that all of `params` are views into."""
        return self._flat

    @property
    def size(self) -> int:
        """Number of parameters, counted as scalars."""
        return self.spec.size

    @_computing
    def predict(self, x: ArrayLike) -> Array:
        """Return the output layer.

        Parameters
        ----------
        x : array_like of shape (n, inputs) or (inputs,)
            Samples, or one sample. Other real dtypes, float16 and float64 too, are cast to the
            net's; bfloat16 is refused.

        Returns
        -------
        array of shape (n, outputs) or (outputs,)
            Probabilities under cross entropy (`SimpleNet`: scores), outputs otherwise.

        Raises
        ------
        ValueError
            If the shape does not fit the net.
        accelnn.errors.BackendMismatchError
            If `x` is an array of another backend.
        accelnn.errors.OutOfMemoryError
            If there is no memory for so many samples.
        """
        engine = self.engine
        with self._memory_for(x):
            rows, single = self._samples(x)
            outputs = (engine.scores if self._predicts_scores else engine.predict)(self.flat, rows)
        return outputs[0, ...] if single else outputs

    @_computing
    def loss(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the mean loss over the samples.

        Parameters
        ----------
        x : array_like of shape (n, inputs) or (inputs,)
            Samples, or one sample.
        t : array_like
            Integer class labels of shape (n,) or (), or targets, one-hot or soft, of the shape of
            the outputs.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If a shape does not fit, a label is out of range, or there are no samples.
        accelnn.errors.OutOfMemoryError
            If there is no memory for so many samples.
        """
        with self._memory_for(x):
            return float(self.backend.to_numpy(self.engine.loss(self.flat, *self._batch(x, t))))

    @_computing
    def accuracy(self, x: ArrayLike, t: ArrayLike) -> float:
        """Return the fraction of samples whose largest output is that of their class.

        Parameters and errors are those of `loss`.

        Raises
        ------
        TypeError
            If the net's loss does not classify.
        """
        if not self.spec.loss.classifies:
            msg = (
                f"accuracy is defined for classifiers, and this net's loss is "
                f"{self.spec.loss.name!r}; use loss(x, t), or loss='cross_entropy'"
            )
            raise TypeError(msg)
        with self._memory_for(x):
            data = Dataset(*self._batch(x, t), self.backend, self.dtype)
            _, accuracy = self.engine.evaluate(self.flat, data)
        return cast("float", accuracy)

    @_computing
    def gradient(self, x: ArrayLike, t: ArrayLike) -> dict[str, Array]:
        """Return the gradient of the mean loss by backpropagation.

        Parameters and errors are those of `loss`.

        Returns
        -------
        dict of str to array
            With the keys, shapes and dtype of `params`; new arrays at every call.
        """
        with self._memory_for(x):
            out = self.backend.zeros(self.size, self.dtype)
            self.engine.loss_and_gradient(self.flat, *self._batch(x, t), out)
        return self.spec.views(out, self.backend.xp)

    @_computing
    def numerical_gradient(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        method: str = "central",
        step: float = 1e-4,
        structured: bool = True,
    ) -> dict[str, Array]:
        """Return the gradient of the mean loss by finite differences, computed in float64.

        Parameters
        ----------
        x, t : array_like
            As in `loss`.
        method : {"central", "forward", "backward"}, default "central"
            Which difference.
        step : float, default 1e-4
            How far each parameter is moved.
        structured : bool, default True
            Evaluate again only what a moved weight feeds. False runs the whole forward pass for
            every parameter: the same numbers to rounding, much more slowly.

        Returns
        -------
        dict of str to array of float64
            With the keys and shapes of `params`.

        Raises
        ------
        ValueError
            As in `loss`, or if the step is too small to move some parameter.
        """
        with self._memory_for(x, "float64"):
            out = self._differences(x, t, method, step, structured=structured)
        return self.spec.views(out, self.backend.xp)

    def _differences(
        self, x: ArrayLike, t: ArrayLike, method: str, step: float, *, structured: bool
    ) -> Array:
        backend, xp = self.backend, self.backend.xp
        flat = xp.astype(self.flat, backend.dtype("float64"), copy=False)
        rows, t = self._batch(x, t, dtype="float64")
        require_usable_step(backend, flat, find_method(method, DIFFERENCES), step)
        engine = backend.engine(self.spec, "float64")
        if structured:
            return engine.numerical_gradient(flat, rows, t, method=method, step=step)
        # Its own and writable, because it is moved.
        point = backend.zeros(self.size, "float64")
        point[...] = flat
        gradient: Array = numerical_gradient(
            lambda moved: engine.loss(moved, rows, t),
            point,
            method=method,
            step=step,
            backend=backend,
        )
        return gradient

    @_computing
    def check_gradient(self, x: ArrayLike, t: ArrayLike, **options: Any) -> GradientReport:
        """Compare `gradient` with finite differences of `loss`, parameter by parameter.

        Parameters
        ----------
        x, t : array_like
            As in `loss`.
        **options
            Of `accelnn.check_gradient`: ``mode``, ``directions``, ``samples``, ``rtol``, ``rng``.

        Returns
        -------
        GradientReport
            The worst comparison.

        Raises
        ------
        accelnn.errors.GradientCheckError
            If the gradient is wrong; names the parameter and its worst coordinate.
        """
        gradient = self.gradient(x, t)
        return check_gradient(
            lambda _: self.loss(x, t), gradient, self.params, backend=self.backend, **options
        )

    def to(self, backend: BackendLike) -> Self:
        """Return a new net with the same parameters on another backend.

        Parameters
        ----------
        backend : str, Backend or subclass
            Where to; see `accelnn.get_backend`.
        """
        flat = self.backend.to_numpy(self.flat)
        clone = rebuild(type(self), self.spec, flat, self.dtype, backend)
        clone.__dict__.update(self._extras())
        return clone

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write architecture and parameters to a ``.safetensors`` file; see `accelnn.load`.

        Parameters
        ----------
        path : path-like
            Written beside itself first and then renamed, so that an interruption leaves an
            existing file as it was.

        Raises
        ------
        TypeError
            If the net's class or its loss is not one of accelnn's own.
        accelnn.errors.MissingDependencyError
            If safetensors is not installed.
        """
        # Here, because json and what it brings would slow down every import of accelnn.
        from accelnn import checkpoint

        arrays = {k: np.ascontiguousarray(self.backend.to_numpy(v)) for k, v in self.params.items()}
        checkpoint.write(path, arrays, KEY, self._architecture())

    @_computing
    def check_targets(
        self, t: ArrayLike, n: int | None, name: str = "t", *, dtype: str | None = None
    ) -> Array:
        """Return targets for `n` samples (None: one sample), or raise ValueError.

        Labels stay integers; other targets are cast to `dtype`, by default the net's.
        """
        n_outputs = self.spec.sizes[-1]
        shape = (n_outputs,) if n is None else (n, n_outputs)
        # A single output has no classes: integers of shape (n,) are a forgotten column axis.
        if not takes_bits(self.spec.loss):
            labels = self.spec.loss.classifies or n_outputs > 1
            return as_targets(self.backend, t, shape, dtype or self.dtype, name=name, labels=labels)
        if n_outputs == 1:
            t = as_column(self.backend, t, shape)
        labels = n_outputs > 1
        found = as_targets(self.backend, t, shape, dtype or self.dtype, name=name, labels=labels)
        require_fractions(self.backend, found, name)
        return found

    def _extras(self) -> dict[str, Any]:
        """Return what a subclass has added."""
        own = ("backend", "spec", "_dtype", "_flat", "_params", "engine")
        return {name: value for name, value in vars(self).items() if name not in own}

    def _architecture(self) -> dict[str, Any]:
        kind = type(self).__name__
        if kind not in SAVED:
            msg = f"only the nets {', '.join(SAVED)} can be saved; this is a {kind}"
            raise TypeError(msg)
        described = [describe(formula, ACTIVATIONS) for formula in self.spec.activations]
        is_plain = all(a == described[0] and isinstance(a, str) for a in described)
        return {
            "format": FORMAT,
            "net": kind,
            "sizes": list(self.spec.sizes),
            "activation": self.spec.activation if is_plain else described,
            "loss": describe(self.spec.loss, LOSSES),
            "dtype": self.dtype,
        }

    def _needs(self) -> str:
        size = pass_bytes(self.spec, self.dtype, 0)
        return f"{self.size:,} parameters take {size:,} bytes in {self.dtype}"

    def _memory_for(self, x: ArrayLike, dtype: str | None = None) -> MemoryFor:
        """Return the context of a pass over samples."""

        def needs() -> str:
            shape = tuple(getattr(x, "shape", None) or np.shape(x))
            n = shape[0] if len(shape) == ROWS else 1
            size = pass_bytes(self.spec, dtype or self.dtype, n)
            net = f"a net of {self.size:,} parameters"
            return f"{n:,} samples and {net} take {size:,} bytes or more"

        return MemoryFor(self.backend, needs, "Pass fewer samples at a time")

    # From the caller's arrays to the engine's ------------------------------------------------

    def _samples(self, x: ArrayLike, dtype: str | None = None) -> tuple[Array, bool]:
        """Return `x` as rows in the net's dtype, and whether it was one sample."""
        array = as_array(self.backend, x)
        n_inputs = self.spec.sizes[0]
        if array.ndim not in (1, ROWS) or array.shape[-1] != n_inputs:
            msg = (
                f"x has shape {tuple(array.shape)}, but this net takes (n, {n_inputs}), or "
                f"({n_inputs},) for one sample"
            )
            msg += flatten_hint(tuple(array.shape))
            raise ValueError(msg)
        array = as_floating(self.backend, array, "x", dtype or self.dtype)
        single = array.ndim == 1
        return (array[None, :] if single else array), single

    def _batch(self, x: ArrayLike, t: ArrayLike, dtype: str | None = None) -> tuple[Array, Array]:
        """Return samples and targets as the engine wants them."""
        rows, single = self._samples(x, dtype)
        if rows.shape[0] == 0:
            msg = f"x has shape {tuple(rows.shape)}: the mean loss of no samples is undefined"
            raise ValueError(msg)
        targets = self.check_targets(t, None if single else rows.shape[0], dtype=dtype)
        return rows, (targets[None, ...] if single else targets)


def rebuild(
    cls: type[AnyNet], spec: NetSpec, flat: np.ndarray, dtype: str, backend: BackendLike
) -> AnyNet:
    """Return a net with these parameters, without drawing any."""
    net = object.__new__(cls)
    Net.__init__(net, spec, flat, dtype, get_backend(backend))
    return net


def takes_bits(loss: Loss) -> bool:
    """Return whether targets of a single output may be of shape (n,)."""
    return isinstance(loss, LossFormula) and loss.takes_bits


def as_column(backend: Backend, t: ArrayLike, shape: tuple[int, ...]) -> ArrayLike:
    """Return targets of shape (n,), or one number, as those of a single output."""
    array = as_array(backend, t, "t")
    return array[..., None] if tuple(array.shape) == tuple(shape[:-1]) else t


def require_fractions(backend: Backend, t: Array, name: str) -> None:
    """Raise ValueError where targets are not in [0, 1]; labels are those of classes."""
    if backend.xp.isdtype(t.dtype, "integral") or 0 in t.shape:
        return
    low, high = (float(backend.to_numpy(end(t))) for end in (backend.xp.min, backend.xp.max))
    # Probabilities that were computed may be rounded beyond their ends.
    rounding = 4.0 * float(backend.xp.finfo(t.dtype).eps)
    if not (low >= -rounding and high <= 1.0 + rounding):
        msg = (
            f"{name} holds {low if not low >= -rounding else high:g}, and binary cross entropy "
            f"takes targets from 0 to 1; for other numbers take loss='sum_squared_error'"
        )
        raise ValueError(msg)
