"""The training loop."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np

from accelnn._progress import Advance, progress_bar
from accelnn._typing import ArrayLike, Rng
from accelnn._validation import generator, positive_int
from accelnn.backends import Dataset, MemoryFor, Optimizer, TrainingState, pass_bytes
from accelnn.errors import DivergenceWarning
from accelnn.formulas._checks import positive
from accelnn.formulas._dropout import Dropout
from accelnn.nets import Net
from accelnn.optimizers import SGD
from accelnn.training._history import History
from accelnn.training._hooks import Hooks
from accelnn.training._interrupt import interrupts_wait
from accelnn.training._plan import Plan, Sampling
from accelnn.training._prepare import dataset_for, validation_for, weights_for
from accelnn.training._resume import Ending, ending_of

__all__ = ["GradientKind", "fit"]

AnyNet = TypeVar("AnyNet", bound=Net)
Callback: TypeAlias = Callable[[AnyNet, History], object]
GradientKind: TypeAlias = Literal["analytic", "numerical"]

# Seconds between updates of the progress bar, and for which Ctrl-C may wait for the engine.
REFRESH, PATIENCE = 0.1, 0.5
# Samples times parameters of the first call of the engine, which take some hundredths of a second.
CALL_WORK = 1_000_000_000
# How many seeds of dropout there are.
SEEDS = 1 << 64


def fit(
    net: AnyNet,
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
    sample_weight: ArrayLike | None = None,
    clip_norm: float | None = None,
    callbacks: Sequence[Callback[AnyNet]] = (),
    progress: bool = False,
    resume: History | None = None,
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
        Integer class labels of shape (n,), or targets of shape (n, outputs); for a single output
        and a loss of numbers, of shape (n,) too.
    validation : tuple (x, t) or Dataset, optional
        Test data. With it, loss and accuracy on training and test data are computed at the start,
        after each epoch, and after a last partial one.
    optimizer : optimizer, default SGD(0.1)
        See `accelnn.optimizers`; its learning rate may be a schedule, see `accelnn.schedules`.
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
    sample_weight : array_like of shape (n,), optional
        The weight wₛ of each training sample, not negative. The loss of a batch of n samples is
        Σ wₛ lₛ / n, so that weights of 1 change nothing. Evaluations are without weights.
    clip_norm : float, optional
        The largest norm of a batch's gradient, over all parameters and before weight decay. A
        larger gradient is scaled down to it, as by ``torch.nn.utils.clip_grad_norm_``.
    callbacks : sequence of callables
        Called as ``callback(net, history)`` at the end of every epoch, or after every k updates if
        the callable has an attribute ``every = k``. Returning True stops the training. Ready-made
        ones, and methods that a callback may have, are in `accelnn.callbacks`.
    progress : bool, default False
        Show a progress bar; needs rich.
    resume : History, optional
        What `fit` returned before for this net: go on with the state of the optimiser and the
        order of batches where that run ended. `epochs` or `iters` are in addition, and the history
        returned is of the new part. Net, data, optimizer and options are passed as before, without
        `rng`; then several calls do to the bit what one would, unless something has changed the
        parameters meanwhile, as a callback that restores the best ones does.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If an option is wrong, the data does not fit the net, or holds values that are not finite,
        or if this is another run than the one to `resume`.
    TypeError
        If both or none of `epochs` and `iters` are given.
    accelnn.errors.OutOfMemoryError
        If there is no memory for the data, or for a batch.

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

    Two more epochs, as if there had been 22 at once:

    >>> more = accelnn.fit(net, x, t, epochs=2, resume=history)
    >>> more.steps
    80
    """
    _check_net(net)
    _check_optimizer(optimizer)
    callbacks = _check_callbacks(callbacks)
    ending = ending_of(resume, rng)
    with net.backend.current():
        data = dataset_for(net, x, t, "x", "t")
        test = None if validation is None else validation_for(net, validation)
        plan = Plan.of(data.size, batch_size, epochs, iters, sampling)
        if gradient not in ("analytic", "numerical"):
            msg = f"gradient must be 'analytic' or 'numerical', got {gradient!r:.80}"
            raise ValueError(msg)
        options: dict[str, Any] = {}
        if sample_weight is not None:
            options["weights"] = weights_for(net, sample_weight, data.size)
        if clip_norm is not None:
            options["clip"] = positive(clip_norm, "clip_norm")
        run = _Run(net, data, test, optimizer, gradient, plan, callbacks, options)
        run.begin(rng, ending)
        with progress_bar("Training", plan.steps, enabled=progress, unit="steps") as advance:
            run.train(advance, timed=progress)
    if run.divergence:
        msg = (
            f"{run.divergence}; training stops. The optimizer was {optimizer}: try a smaller "
            f"learning rate"
        )
        warnings.warn(msg, DivergenceWarning, stacklevel=2)
    return run.history


class _Run:
    """One call of `fit` under way."""

    def __init__(
        self,
        net: Net,
        data: Dataset,
        test: Dataset | None,
        optimizer: Optimizer,
        gradient: GradientKind,
        plan: Plan,
        callbacks: Sequence[Callback[Any]],
        options: dict[str, Any],
    ) -> None:
        self.net, self.data, self.test, self.plan = net, data, test, plan
        remedy = "Use a smaller batch_size, or a smaller net"
        # No method of its own: in a cycle of references the data would outlive the run.
        self.memory = MemoryFor(net.backend, lambda: _needs(net, plan.batch), remedy)
        with self.memory:
            self.state = TrainingState(net.flat, optimizer, gradient, net.backend)
            # What the net learns, of which evaluations are without smoothing.
            self.learnt = data
            if net.spec.label_smoothing:
                self.learnt = data.with_targets(net.engine.smoothed(data.t))
        # Of `Engine.train`, without what is left out: engines of other packages may not know it.
        self.options = options
        self.history = History(plan.batches_per_epoch)
        self.hooks = Hooks(callbacks, net, self.history)
        # The first call of the engine may compile, which says nothing of the next.
        self.is_warm, self.chunk = False, 1
        if gradient == "analytic":
            self.chunk = max(1, CALL_WORK // (plan.batch * net.size))
        self.divergence = ""
        self.at_epoch_end = [c for c in callbacks if not hasattr(c, "every")]
        self.every = [(positive_int(c.every, "every"), c) for c in callbacks if hasattr(c, "every")]

    def begin(self, rng: Rng, ending: Ending | None) -> None:
        """Draw the first batches, or go on where a run has ended."""
        # Updates done before this run, and how many of them in the first epoch.
        self.done = self.offset = 0
        p = self.net.spec.dropout
        if ending is None:
            draw, seed = generator(rng), None
            if p:
                seed = int(draw.integers(SEEDS, dtype=np.uint64))
        else:
            ending.restore(self.net, self.plan, self.state)
            self.done, self.offset = ending.updates, ending.position
            draw, seed = ending.generator.revive(), ending.dropout_seed
        self.orders = self.plan.epochs(draw, self.offset)
        if seed is not None:
            self.history.dropout_seed = seed
            self.options["dropout"] = Dropout(p, seed)

    def train(self, advance: Advance, *, timed: bool) -> None:
        """Train to the end of the run, or until something stops it."""
        if not self.at_epoch_end and not self.every:
            # A callback may draw from the same generator, whose order of draws must not change.
            self.state.meanwhile = self.orders.draw_ahead
        try:
            self.evaluate()
            self.hooks.start()
            for order in self.orders:
                if self.divergence:
                    break
                stop = self.epoch(order, advance, timed=timed)
                self.evaluate()
                if self.finish_epoch() or stop:
                    break
        except BaseException as error:
            # Also of Ctrl-C, which comes between two updates; but not every exception can have it.
            with contextlib.suppress(AttributeError, TypeError):
                error.history = self.history  # type: ignore[attr-defined]
            raise
        finally:
            self.orders.put_back()
            place = self.orders.place(self.state.step - self.done)
            seed = self.history.dropout_seed
            self.history.ending = Ending.of(self.net, self.plan, self.state, *place, seed)
            self.hooks.end()

    def epoch(self, order: np.ndarray, advance: Advance, *, timed: bool) -> bool:
        """Train on one epoch's order; return whether to stop."""
        batch = self.plan.batch
        while order.size:
            until = min((k - self.history.steps % k for k, _ in self.every), default=order.size)
            steps = min(until, self.chunk)
            piece = order[: steps * batch]
            rates = self.state.scheduled_rates(-(-piece.size // batch))
            options = self.options if rates is None else self.options | {"rates": rates}
            started = time.perf_counter()
            with self.memory, interrupts_wait():
                losses = self.net.engine.train(self.state, self.learnt, piece, batch, **options)
                self._record(losses)
            if self.is_warm:
                # As many updates as fit between two refreshes of the bar, or until Ctrl-C is heard.
                seconds = max(time.perf_counter() - started, 1e-9)
                self.chunk = max(1, int((REFRESH if timed else PATIENCE) * losses.size / seconds))
            self.is_warm = True
            order = order[losses.size * batch :]
            if self.divergence:
                return True
            advance(losses.size, f"loss {losses[-1]:.4f}")
            if self._call([c for k, c in self.every if self.history.steps % k == 0]):
                return True
        return False

    def finish_epoch(self) -> bool:
        """Call the callbacks of a whole epoch; return whether to stop."""
        is_whole = (self.offset + self.history.steps) % self.plan.batches_per_epoch == 0
        return is_whole and not self.divergence and self._call(self.at_epoch_end)

    def evaluate(self) -> None:
        """Append the net's losses and accuracies, if there is test data."""
        if self.test is None or self.divergence:
            return
        history, evaluate = self.history, self.net.engine.evaluate
        with self.memory:
            found = [evaluate(self.net.flat, data) for data in (self.data, self.test)]
        # What interrupts an evaluation leaves no half of it.
        history.evaluated_at.append(history.steps)
        for (loss, accuracy), losses, accuracies in zip(
            found,
            (history.train_loss, history.test_loss),
            (history.train_accuracy, history.test_accuracy),
            strict=True,
        ):
            losses.append(loss)
            if accuracy is not None:
                accuracies.append(accuracy)
            if not math.isfinite(loss):
                self.divergence = f"the loss after step {history.steps} is {loss}"
        self.hooks.evaluated()

    def _record(self, losses: np.ndarray) -> None:
        """Append losses; if the last one is not finite, the engine stopped there."""
        self.history.loss.extend(losses.tolist())
        if not math.isfinite(losses[-1]):
            self.divergence = f"the loss of step {self.history.steps} is {losses[-1]}"

    def _call(self, callbacks: Sequence[Callback[Any]]) -> bool:
        answers = [callback(self.net, self.history) for callback in callbacks]
        # A comparison of NumPy's numbers gives NumPy's own True.
        return any(isinstance(answer, bool | np.bool_) and answer for answer in answers)


def _needs(net: Net, batch: int) -> str:
    size = pass_bytes(net.spec, net.dtype, batch)
    return (
        f"a batch of {batch:,} samples and a net of {net.spec.size:,} parameters take {size:,} "
        f"bytes or more"
    )


def _check_net(net: object) -> None:
    if not isinstance(net, Net):
        msg = (
            f"net must be a net such as accelnn.MLP([784, 50, 10]), got {type(net).__name__}: the "
            f"call is fit(net, x, t)"
        )
        raise TypeError(msg)


def _check_optimizer(optimizer: object) -> None:
    complete = hasattr(optimizer, "update") and hasattr(optimizer, "slots")
    if isinstance(optimizer, type) or not complete:
        msg = f"optimizer must be an object such as accelnn.SGD(0.1), got {optimizer!r:.80}"
        raise TypeError(msg)


def _check_callbacks(callbacks: object) -> tuple[Callback[Any], ...]:
    listed = tuple(callbacks) if isinstance(callbacks, Iterable) else (None,)
    if not all(callable(callback) for callback in listed):
        name = type(callbacks).__name__
        msg = f"callbacks must be a sequence of callables, such as [callback], got {name}"
        raise TypeError(msg)
    for callback in listed:
        if isinstance(callback, type):
            name = callback.__name__
            msg = f"a callback is an object, and {name} is a class: pass callbacks=[{name}(...)]"
            raise TypeError(msg)
    return listed
