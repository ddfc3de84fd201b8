"""The minibatch training loop, the same on every backend."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from accelnn._progress import Advance, progress_bar
from accelnn._typing import Array, ArrayLike, Rng
from accelnn._validation import as_array, as_floating, check_finite, generator, positive_int
from accelnn.backends import Backend, Dataset, TrainingState, resolve
from accelnn.backends._engine import Optimizer
from accelnn.backends._resolve import BackendLike
from accelnn.errors import BackendMismatchError, DivergenceWarning
from accelnn.nets import Net
from accelnn.nets._net import check_dtype
from accelnn.optimizers import SGD

__all__ = ["History", "fit", "prepare"]

logger = logging.getLogger("accelnn")

Callback: TypeAlias = Callable[[Net, "History"], object]
Sampling: TypeAlias = Literal["shuffle", "replacement"]
GradientKind: TypeAlias = Literal["analytic", "numerical"]

ROWS = 2  # axes of a batch of samples
# Seconds between two moves of the progress bar.
REFRESH = 0.1


@dataclass
class History:
    """The curves of a training run.

    Attributes
    ----------
    loss : list of float
        ``loss[i]`` is the loss of batch i before its update.
    batches_per_epoch : int
        Number of batches in one pass over the data.
    evaluated_at : list of int
        Numbers of updates done when the lists below got a value: 0, every epoch's end, and the end
        of a last partial epoch. Empty without ``validation``.
    train_accuracy, test_accuracy : list of float
        On the training data and on ``validation``; empty for a loss that does not classify.
    train_loss, test_loss : list of float
        Mean loss over the whole training data and over ``validation``.
    """

    batches_per_epoch: int
    loss: list[float] = field(default_factory=list)
    evaluated_at: list[int] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Number of updates done."""
        return len(self.loss)

    @property
    def epochs(self) -> float:
        """Passes over the data done, a partial one as a fraction."""
        return self.steps / self.batches_per_epoch

    def __repr__(self) -> str:
        last = f", last loss {self.loss[-1]:.4g}" if self.loss else ""
        accuracy = f", test accuracy {self.test_accuracy[-1]:.4f}" if self.test_accuracy else ""
        return f"<History of {self.steps:,} steps, {self.epochs:.4g} epochs{last}{accuracy}>"


def prepare(
    x: ArrayLike, t: ArrayLike, *, backend: BackendLike | None = None, dtype: Any = "float32"
) -> Dataset:
    """Check a data set and bring it to where and how a backend trains on it fastest.

    `fit` does this itself; do it once beforehand to train several nets on the same data. This
    moves host data to the backend's device, the one place besides `fit` where that happens.

    Parameters
    ----------
    x : array_like of shape (n, inputs)
        Samples.
    t : array_like
        Integer class labels of shape (n,), or targets of shape (n, outputs).
    backend : str, Backend or subclass, optional
        Where to; see `accelnn.get_backend`.
    dtype : {"float32", "float64"}, default "float32"
        That of the nets to be trained.

    Returns
    -------
    Dataset
        For `fit`, in the place of `x`.

    Raises
    ------
    ValueError
        If the shapes do not fit, there are no samples, or a value is not finite.

    Examples
    --------
    >>> import accelnn
    >>> (x, t), _ = accelnn.load_mnist(subset="5k")
    >>> data = accelnn.prepare(x, t)
    >>> data.size, data.dtype
    (4000, 'float32')
    """
    return _prepared(resolve(backend, x, t), x, t, check_dtype(dtype), "x", "t")


def fit(
    net: Net,
    x: ArrayLike | Dataset,
    t: ArrayLike | None = None,
    *,
    validation: tuple[ArrayLike, ArrayLike] | Dataset | None = None,
    optimizer: Optimizer = SGD(0.1),  # noqa: B008 - frozen, it holds nothing
    batch_size: int = 100,
    epochs: int | None = None,
    iters: int | None = None,
    sampling: Sampling = "shuffle",
    gradient: GradientKind = "analytic",
    rng: Rng = None,
    callbacks: Sequence[Callback] = (),
    progress: bool = False,
) -> History:
    """Train a net on minibatches, in place.

    The data is moved to the net's backend once, at the start.

    Parameters
    ----------
    net : Net
        Its parameters are updated in place.
    x : array_like of shape (n, inputs), or Dataset
        Samples, or what `prepare` returned; then `t` is left out.
    t : array_like
        Integer class labels of shape (n,), or targets of shape (n, outputs).
    validation : tuple (x, t) or Dataset, optional
        Test data. With it, loss and accuracy on training and test data are computed at the start,
        after each epoch, and after a last partial one.
    optimizer : optimizer, default SGD(0.1)
        See `accelnn.optimizers`.
    batch_size : int, default 100
        Samples per update.
    epochs, iters : int
        Passes over the data, or updates. Exactly one of them is given.
    sampling : {"shuffle", "replacement"}, default "shuffle"
        A new permutation each epoch, whose last short batch is kept; or every batch drawn
        independently, as in the textbook.
    gradient : {"analytic", "numerical"}, default "analytic"
        Backpropagation, or central differences alone with a step of 1e-4.
    rng : int, Generator or None
        Where the batch order comes from. The same seed gives the same order on every backend.
    callbacks : sequence of callables
        Called as ``callback(net, history)`` at the end of every epoch, or after every k updates if
        the callable has an attribute ``every = k``. Returning True stops the training.
    progress : bool, default False
        Show a progress bar; needs rich.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If an option is wrong, the data does not fit the net, or holds values that are not finite.
    TypeError
        If both or none of `epochs` and `iters` are given.

    Warns
    -----
    accelnn.errors.DivergenceWarning
        At the first loss that is not finite; the training stops there.

    Examples
    --------
    >>> import accelnn
    >>> (x, t), test = accelnn.load_mnist(subset="5k")
    >>> net = accelnn.TwoLayerNet(784, 50, 10, rng=0)
    >>> history = accelnn.fit(net, x, t, validation=test, epochs=20, rng=0)
    >>> history.steps
    800
    >>> history.test_accuracy[-1] > 0.75
    True
    """
    _check_optimizer(optimizer)
    data = _dataset_for(net, x, t, "x", "t")
    test = None if validation is None else _validation_for(net, validation)
    plan = _Plan.of(data.size, batch_size, epochs, iters, sampling)
    if gradient not in ("analytic", "numerical"):
        msg = f"gradient must be 'analytic' or 'numerical', got {gradient!r}"
        raise ValueError(msg)
    run = _Run(net, data, test, optimizer, gradient, plan, callbacks)
    with progress_bar("Training", plan.steps, enabled=progress, unit="steps") as advance:
        run.evaluate()
        for order in plan.epochs(generator(rng)):
            stop = run.epoch(order, advance, timed=progress)
            run.evaluate()
            if run.finish_epoch() or stop:
                break
    return run.history


@dataclass(frozen=True)
class _Plan:
    """How many updates, on how many samples, drawn how."""

    samples: int
    batch: int
    steps: int
    sampling: Sampling

    @classmethod
    def of(
        cls,
        samples: int,
        batch_size: int,
        epochs: int | None,
        iters: int | None,
        sampling: Sampling,
    ) -> _Plan:
        batch = positive_int(batch_size, "batch_size")
        if sampling not in ("shuffle", "replacement"):
            msg = f"sampling must be 'shuffle' or 'replacement', got {sampling!r}"
            raise ValueError(msg)
        if (epochs is None) == (iters is None):
            msg = f"pass exactly one of epochs and iters; got epochs={epochs}, iters={iters}"
            raise TypeError(msg)
        per_epoch = math.ceil(samples / batch)
        if epochs is not None:
            steps = positive_int(epochs, "epochs") * per_epoch
        else:
            steps = positive_int(iters, "iters")
        return cls(samples, batch, steps, sampling)

    @property
    def batches_per_epoch(self) -> int:
        return math.ceil(self.samples / self.batch)

    def epochs(self, draw: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield each epoch's sample indices.

        A whole epoch is always drawn, so that the order does not depend on where the run ends.
        """
        for start in range(0, self.steps, self.batches_per_epoch):
            if self.sampling == "shuffle":
                order = draw.permutation(self.samples)
            else:
                order = draw.integers(0, self.samples, size=self.batches_per_epoch * self.batch)
            steps = min(self.batches_per_epoch, self.steps - start)
            yield order[: steps * self.batch]


class _Run:
    """One call of `fit` under way."""

    def __init__(
        self,
        net: Net,
        data: Dataset,
        test: Dataset | None,
        optimizer: Optimizer,
        gradient: GradientKind,
        plan: _Plan,
        callbacks: Sequence[Callback],
    ) -> None:
        self.net, self.data, self.test, self.plan = net, data, test, plan
        self.state = TrainingState(net.flat, optimizer, gradient, net.backend)
        self.history = History(plan.batches_per_epoch)
        self.chunk = 1
        self.diverged = False
        self.at_epoch_end = [c for c in callbacks if not hasattr(c, "every")]
        self.every = [(positive_int(c.every, "every"), c) for c in callbacks if hasattr(c, "every")]

    def epoch(self, order: np.ndarray, advance: Advance, *, timed: bool) -> bool:
        """Train on one epoch's order; return whether to stop."""
        batch = self.plan.batch
        while order.size:
            until = min((k - self.history.steps % k for k, _ in self.every), default=order.size)
            steps = min(until, self.chunk) if timed else until
            started = time.perf_counter()
            losses = self.net.engine.train(self.state, self.data, order[: steps * batch], batch)
            if timed:
                # As many steps as one refresh of the bar lasts, whatever a step takes here.
                seconds = max(time.perf_counter() - started, 1e-9)
                self.chunk = max(1, int(REFRESH * losses.size / seconds))
            order = order[losses.size * batch :]
            if self._record(losses):
                return True
            advance(losses.size, f"loss {losses[-1]:.4f}")
            if self._call([c for k, c in self.every if self.history.steps % k == 0]):
                return True
        return False

    def finish_epoch(self) -> bool:
        """Call the callbacks of a whole epoch; return whether to stop."""
        is_whole = self.history.steps % self.plan.batches_per_epoch == 0
        return is_whole and not self.diverged and self._call(self.at_epoch_end)

    def evaluate(self) -> None:
        """Append the net's losses and accuracies, if there is test data."""
        if self.test is None or self.diverged:
            return
        history = self.history
        history.evaluated_at.append(history.steps)
        for data, losses, accuracies in (
            (self.data, history.train_loss, history.train_accuracy),
            (self.test, history.test_loss, history.test_accuracy),
        ):
            loss, accuracy = self.net.engine.evaluate(self.net.flat, data)
            losses.append(loss)
            if accuracy is not None:
                accuracies.append(accuracy)

    def _record(self, losses: np.ndarray) -> bool:
        """Append losses; warn and return True at the first that is not finite."""
        finite = np.isfinite(losses)
        good = losses.size if finite.all() else int(np.argmin(finite)) + 1
        self.history.loss.extend(losses[:good].tolist())
        if finite.all():
            return False
        self.diverged = True
        msg = (
            f"the loss of step {self.history.steps} is {losses[good - 1]}; training stops. "
            f"The optimizer was {self.state.optimizer}: try a smaller learning rate"
        )
        warnings.warn(msg, DivergenceWarning, stacklevel=4)
        return True

    def _call(self, callbacks: Sequence[Callback]) -> bool:
        answers = [callback(self.net, self.history) for callback in callbacks]
        # A comparison of NumPy's numbers gives NumPy's own True.
        return any(isinstance(answer, bool | np.bool_) and answer for answer in answers)


def _validation_for(net: Net, validation: tuple[ArrayLike, ArrayLike] | Dataset) -> Dataset:
    if isinstance(validation, Dataset):
        return _dataset_for(net, validation, None, "validation x", "validation t")
    if not isinstance(validation, tuple | list) or len(validation) != 2:  # noqa: PLR2004 - x and t
        msg = f"validation must be a tuple (x, t), got {type(validation).__name__}"
        raise TypeError(msg)
    return _dataset_for(net, *validation, "validation x", "validation t")


def _dataset_for(
    net: Net, x: ArrayLike | Dataset, t: ArrayLike | None, x_name: str, t_name: str
) -> Dataset:
    """Return a data set that fits the net, prepared here unless it already is."""
    if not isinstance(x, Dataset):
        if t is None:
            msg = "t is missing; only a data set made by prepare() comes without it"
            raise TypeError(msg)
        x = _prepared(net.backend, x, t, net.dtype, x_name, t_name)
    elif t is not None:
        msg = "t must be left out when x is a data set made by prepare(), which holds it"
        raise TypeError(msg)
    _check_fits(net, x, x_name, t_name)
    return x


def _prepared(
    backend: Backend, x: ArrayLike, t: ArrayLike, dtype: str, x_name: str, t_name: str
) -> Dataset:
    """Check a data set and prepare it, under the names that the caller knows it by."""
    x, t = _moved(backend, x, x_name), _moved(backend, t, t_name)
    if x.ndim != ROWS or x.shape[0] == 0:
        msg = f"{x_name} has shape {tuple(x.shape)}; expected (n, inputs) with n > 0"
        if x.ndim > ROWS:
            msg += f". Flatten it with x.reshape({x.shape[0]}, {math.prod(x.shape[1:])})"
        raise ValueError(msg)
    labels = backend.xp.isdtype(t.dtype, "integral") and t.ndim == 1
    if t.shape[:1] != x.shape[:1] or not (labels or t.ndim == ROWS):
        msg = (
            f"{t_name} has shape {tuple(t.shape)} and dtype {t.dtype}, which does not fit {x_name} "
            f"of shape {tuple(x.shape)}: pass integer class labels of shape ({x.shape[0]},), or "
            f"targets of shape ({x.shape[0]}, outputs)"
        )
        raise ValueError(msg)
    x = as_floating(backend, x, x_name, dtype)
    check_finite(backend, x, x_name)
    if not labels:
        t = as_floating(backend, t, t_name, dtype)
        check_finite(backend, t, t_name)
    return backend.prepare(x, t, dtype)


def _check_optimizer(optimizer: object) -> None:
    if isinstance(optimizer, type) or not hasattr(optimizer, "update"):
        msg = f"optimizer must be an object such as accelnn.SGD(0.1), got {optimizer!r}"
        raise TypeError(msg)


def _check_fits(net: Net, data: Dataset, x_name: str, t_name: str) -> None:
    n_in = net.spec.sizes[0]
    if data.backend is not net.backend or data.dtype != net.dtype:
        msg = (
            f"the data set was prepared for {data.backend.name!r} in {data.dtype}, and the net is "
            f"on {net.backend.name!r} in {net.dtype}: call prepare(x, t, "
            f"backend={net.backend.name!r}, dtype={net.dtype!r})"
        )
        raise BackendMismatchError(msg)
    if data.inputs != n_in:
        msg = f"{x_name} has {data.inputs} inputs per sample, and this net takes {n_in}"
        raise ValueError(msg)
    net.check_targets(data.t, data.size, t_name)


def _moved(backend: Backend, a: ArrayLike, name: str) -> Array:
    """Return `a` on the backend; from host memory, that is the one copy that `fit` makes."""
    if isinstance(a, np.ndarray) and not backend.owns(a):
        logger.info("moving %s, %d bytes, to %s", name, a.nbytes, backend.device)
        a = backend.asarray(a)
    return as_array(backend, a, name)
