"""What all nets share: checking of arguments, and calls of the engine."""

import math
from collections.abc import Callable
from typing import Any, Self, TypeVar, cast

import numpy as np

from accelnn._differences import DIFFERENCES, find_method
from accelnn._typing import Array, ArrayLike, DTypeName, NetMethodName
from accelnn._validation import (
    as_weights,
    check_dtype,
    is_finite,
    to_dtype,
)
from accelnn.backends import (
    Backend,
    BackendLike,
    Dataset,
    MemoryFor,
    NetSpec,
    get_backend,
    pass_bytes,
)
from accelnn.gradient import GradientReport, check_gradient, numerical_gradient
from accelnn.gradient._steps import require_step, require_usable_step
from accelnn.nets._arguments import Arguments, DropoutKey
from accelnn.nets._computing import computing
from accelnn.nets._exchange import Exchange
from accelnn.nets._overridden import refuse_overridden
from accelnn.nets._parameters import Parameters

__all__ = ["Net", "rebuild"]

AnyNet = TypeVar("AnyNet", bound="Net")

# Up to where engines may look at the step of a difference themselves.
LEAST_STEP, MOST_STEP = 1e-150, 1.0
# How the loss of a subclass is differentiated.
BY_FUNCTION = "accelnn.numerical_gradient(lambda _: net.loss(x, t), net.params) does"
# Numbers after the end of the buffer, so that vectors of compiled code may be read there.
ROOM = 32


class Net(Arguments, Exchange):
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
            self._flat = backend.zeros(spec.size + ROOM, self.dtype)[: spec.size]
            self.flat[...] = backend.asarray(flat, dtype=self.dtype)
        self._params = Parameters(spec.views(self.flat, backend.xp), backend)
        self.engine = backend.engine(spec, self.dtype)

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.spec.sizes))
        return (
            f"<{type(self).__name__} {sizes}, {self.spec.activation}, {self.spec.loss.name}"
            f"{self.spec.regularization}, {self.dtype}, {self.spec.size:,} parameters on "
            f"{self.backend.address}>"
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
    def dtype(self) -> DTypeName:
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

    @computing
    def predict(self, x: ArrayLike) -> Array:
        """Return the output layer.

        Parameters
        ----------
        x : array_like of shape (n, inputs) or (inputs,)
            Samples, or one sample. Other real dtypes, float16 and float64 too, are cast to the
            net's; bfloat16 is refused. A matrix of scipy.sparse is made dense block by block.

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
        compute = self.engine.scores if self._predicts_scores else self.engine.predict
        rows, single = self._samples(x, self._dtype)
        outputs = compute(self._flat, rows)
        return outputs[0, ...] if single else outputs

    @computing
    def loss(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        dropout_key: DropoutKey | None = None,
    ) -> float:
        """Return the mean loss over the samples, with the net's label smoothing.

        Parameters
        ----------
        x : array_like of shape (n, inputs) or (inputs,)
            Samples, or one sample.
        t : array_like
            Integer class labels of shape (n,) or (), or targets, one-hot or soft, of the shape of
            the outputs; for a single output and a loss of numbers, of shape (n,) too.
        sample_weight : array_like of shape (n,), optional
            The weight wₛ of each sample, not negative: the loss is Σ wₛ lₛ / n. That of one sample
            may be a number.
        dropout_key : tuple (seed, update) of int, optional
            Drop the hidden units that `fit` drops in that update, counted from 0, of a run with
            that seed, which is `History.dropout_seed`. By default none is dropped.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            If a shape does not fit, a label is out of range, there are no samples, or targets are
            outside the range of the loss: negative under cross entropy, outside [0, 1] under
            binary cross entropy.
        accelnn.errors.OutOfMemoryError
            If there is no memory for so many samples.
        """
        engine = self.engine
        if sample_weight is not None or dropout_key is not None:
            rows, targets = self._batch(x, t, self._dtype)
            options = self._options(rows.shape[0], sample_weight, dropout_key, self._dtype)
            return float(
                self.backend.to_numpy(engine.loss_with(self._flat, rows, targets, options))
            )
        rows, targets = self._batch(x, t, self._dtype, engine)
        if engine.checks_range:
            return engine.mean_loss(self._flat, rows, targets)
        return float(self.backend.to_numpy(engine.loss(self._flat, rows, targets)))

    @computing
    def accuracy(
        self, x: ArrayLike, t: ArrayLike, *, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the fraction of samples whose largest output is that of their class.

        Parameters and errors are those of `loss`; with weights, it is Σ wₛ hₛ / Σ wₛ, where hₛ is 1
        for a sample that is right, and 0 for others. There is neither dropout nor smoothing.

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
        if sample_weight is not None:
            rows, targets = self._batch(x, t, self._dtype, smoothed=False)
            weights = as_weights(self.backend, sample_weight, rows.shape[0], self._dtype)
            return self.engine.weighted_accuracy(self._flat, rows, targets, weights)
        rows, targets = self._batch(x, t, self._dtype, self.engine, smoothed=False)
        data = Dataset(rows, targets, self.backend, self._dtype)
        _, accuracy = self.engine.evaluate(self._flat, data)
        return cast("float", accuracy)

    @computing
    def gradient(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        dropout_key: DropoutKey | None = None,
    ) -> dict[str, Array]:
        """Return the gradient of the mean loss by backpropagation.

        Parameters and errors are those of `loss`.

        Returns
        -------
        dict of str to array
            With the keys, shapes and dtype of `params`; new arrays at every call.
        """
        out = self.backend.empty(self.spec.size, self._dtype)
        if sample_weight is not None or dropout_key is not None:
            rows, targets = self._batch(x, t, self._dtype)
            options = self._options(rows.shape[0], sample_weight, dropout_key, self._dtype)
            self.engine.gradient_with(self._flat, rows, targets, options, out)
        else:
            rows, targets = self._batch(x, t, self._dtype, self.engine)
            self.engine.gradient(self._flat, rows, targets, out)
        return self.spec.views(out, self.backend.xp)

    @computing
    def numerical_gradient(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        method: NetMethodName = "central",
        step: float = 1e-4,
        structured: bool = True,
        sample_weight: ArrayLike | None = None,
        dropout_key: DropoutKey | None = None,
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
        sample_weight, dropout_key
            As in `loss`.

        Returns
        -------
        dict of str to array of float64
            With the keys and shapes of `params`.

        Raises
        ------
        ValueError
            As in `loss`, or if the step is too small to move some parameter.
        TypeError
            If a subclass overrides `loss`.
        """
        refuse_overridden(self, Net, "numerical_gradient", {"loss": BY_FUNCTION})
        given = sample_weight, dropout_key
        out = self._differences(x, t, method, step, given, structured=structured)
        return self.spec.views(out, self.backend.xp)

    def _differences(
        self,
        x: ArrayLike,
        t: ArrayLike,
        method: NetMethodName,
        step: float,
        given: tuple[ArrayLike | None, DropoutKey | None],
        *,
        structured: bool,
    ) -> Array:
        backend = self.backend
        flat = to_dtype(backend, self._flat, "float64")
        is_double = self._dtype == "float64"
        engine = self.engine if is_double else backend.engine(self.spec, "float64")
        is_usual = isinstance(step, float) and LEAST_STEP < step < MOST_STEP
        is_plain = structured and all(one is None for one in given)
        if engine.checks_range and is_plain and is_usual and method in DIFFERENCES:
            rows, targets = self._batch(x, t, "float64", engine)
            found = engine.checked_differences(flat, rows, targets, method=method, step=step)
            if found is not None:
                least, _ = getattr(self.spec.loss, "target_range", (-math.inf, math.inf))
                if targets.ndim == 1 or least > -math.inf:
                    # Labels, or targets that were refused if they are NaN.
                    return found
                # NaN where targets are not finite, as below, without waiting for the device.
                return found + 0.0 * backend.xp.sum(targets)
        rows, targets = self._batch(x, t, "float64")
        options = self._options(rows.shape[0], *given, "float64")
        require_usable_step(backend, flat, find_method(method, DIFFERENCES), step)
        if targets.ndim > 1 and not is_finite(backend, targets):
            # No loss is finite then, and no difference of two, that of a unit too on which the
            # outputs do not depend.
            return flat * math.nan
        if structured:
            how: Any = {} if options.is_empty else {"extras": options}
            return engine.numerical_gradient(flat, rows, targets, method=method, step=step, **how)
        # Its own and writable, because it is moved.
        point = backend.zeros(self.size, "float64")
        point[...] = flat
        gradient: Array = numerical_gradient(
            lambda moved: engine.loss_with(moved, rows, targets, options),
            point,
            method=method,
            step=step,
            backend=backend,
        )
        return gradient

    @computing
    def check_gradient(
        self,
        x: ArrayLike,
        t: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        dropout_key: DropoutKey | None = None,
        **options: Any,
    ) -> GradientReport:
        """Compare `gradient` with finite differences of `loss`, parameter by parameter.

        Parameters
        ----------
        x, t : array_like
            As in `loss`.
        sample_weight, dropout_key
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
        options_of_both = {"sample_weight": sample_weight, "dropout_key": dropout_key}
        # A subclass may have a loss and a gradient without them.
        given: Any = {name: value for name, value in options_of_both.items() if value is not None}
        if options.get("step") is not None:
            # Before anything is compiled or computed.
            require_step(options["step"])
        gradient = self.gradient(x, t, **given)
        return check_gradient(
            lambda _: self.loss(x, t, **given),
            gradient,
            self.params,
            backend=self.backend,
            **options,
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

    @property
    def _output(self) -> str:
        """The op that computes what `predict` returns from the last layer."""
        return "identity" if self._predicts_scores else self.spec.loss.output

    def _extras(self) -> dict[str, Any]:
        """Return what a subclass has added."""
        own = ("backend", "spec", "_dtype", "_flat", "_params", "engine")
        return {name: value for name, value in vars(self).items() if name not in own}

    def _needs(self) -> str:
        size = pass_bytes(self.spec, self.dtype, 0)
        return f"{self.size:,} parameters take {size:,} bytes in {self.dtype}"


def rebuild(
    cls: type[AnyNet], spec: NetSpec, flat: np.ndarray, dtype: str, backend: BackendLike
) -> AnyNet:
    """Return a net with these parameters, without drawing any."""
    net = object.__new__(cls)
    Net.__init__(net, spec, flat, dtype, get_backend(backend))
    return net
