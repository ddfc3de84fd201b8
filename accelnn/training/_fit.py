"""The training loop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np

from accelnn._progress import progress_bar
from accelnn._shown import shown
from accelnn._typing import ArrayLike, Rng
from accelnn._validation import generator, positive_int
from accelnn._warn import warn
from accelnn.backends import Dataset, Optimizer
from accelnn.formulas._checks import positive
from accelnn.nets import Net
from accelnn.optimizers import SGD
from accelnn.training._batches import Batches, BatchRun, Passes, is_batches
from accelnn.training._checkpoint import Checkpoint, PathLike, Saver, check_path
from accelnn.training._history import History
from accelnn.training._plan import Generator, Plan, Sampling
from accelnn.training._prepare import dataset_for, validation_for, weights_for
from accelnn.training._refusals import (
    refuse_own_methods,
    refuse_several_labels,
    refuse_shared_file,
    refuse_vanishing_eps,
)
from accelnn.training._resume import ending_of
from accelnn.training._run import Run

__all__ = ["GradientKind", "fit"]

AnyNet = TypeVar("AnyNet", bound=Net)
Callback: TypeAlias = Callable[[AnyNet, History], object]
GradientKind: TypeAlias = Literal["analytic", "numerical"]

# How batches are drawn by default: their size, and `sampling`.
DRAWN: tuple[int, Sampling] = 100, "shuffle"


def fit(
    net: AnyNet,
    x: ArrayLike | Dataset | Batches,
    t: ArrayLike | None = None,
    *,
    validation: tuple[ArrayLike, ArrayLike] | Dataset | None = None,
    optimizer: Optimizer = SGD(0.1),  # noqa: B008 - frozen, it holds nothing
    batch_size: int = DRAWN[0],
    epochs: int | None = None,
    iters: int | None = None,
    sampling: Sampling = DRAWN[1],
    gradient: GradientKind = "analytic",
    rng: Rng = None,
    sample_weight: ArrayLike | None = None,
    clip_norm: float | None = None,
    callbacks: Sequence[Callback[AnyNet]] = (),
    progress: bool = False,
    checkpoint: PathLike | None = None,
    checkpoint_every: int | None = None,
    resume: History | PathLike | None = None,
) -> History:
    """Train a net on minibatches, in place.

    The data is moved to the net's backend once, at the start.

    Parameters
    ----------
    net : Net
        Its parameters are updated in place.
    x : array_like of shape (n, inputs), Dataset, callable or iterator
        Samples, as in `prepare`; or, and then `t` is left out, what it returned; or batches, tuples
        (x, t) or (x, t, sample_weight): a function that returns an iterator over those of an epoch,
        or an iterator, which is read once, with `iters`. Batches are taken as they come, each
        checked, in the memory of one; training data are not evaluated then, and a run cannot be
        resumed.
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
    checkpoint : path-like, optional
        Keep the run in this file, from which `resume` goes on although the process has ended. It is
        written at the end of every epoch, and when the training ends, however it does; the file
        before is kept until the new one is whole.
    checkpoint_every : int, optional
        Write it after so many updates instead of an epoch's.
    resume : History or path-like, optional
        Go on where a run has ended, with the state of the optimiser and the order of its batches.
        Net, data, optimizer and options are passed as before; then several calls do to the bit what
        one would.

        - What `fit` returned before for this net: `epochs` or `iters` are in addition, the history
          returned is of the new part, and `rng` is left out. If something has changed the
          parameters meanwhile, such as a callback that restores the best ones, it goes on from
          there.
        - The path of a checkpoint: `epochs` or `iters` are in total, parameters and curves are
          those of the file, and `rng` is left out or as before. So one and the same call, with one
          path as `checkpoint` and as `resume`, begins where there is no file, goes on where it was
          ended, and returns at once what it has returned if it was finished. A longer one goes on
          from the last update, also if a callback has restored other parameters; callbacks that
          have stopped the run are asked again. Those with ``state_dict`` go on too; see
          `accelnn.callbacks`.

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If an option is wrong, the data does not fit the net, or holds values that are not finite,
        if the targets of a softmax have several ones in a row and are ones and zeros alone, if this
        is another run than the one to `resume`, or if two of `checkpoint` and `callbacks` would
        write the same file.
    TypeError
        If both or none of `epochs` and `iters` are given, if an option has no meaning where batches
        come one by one, or if a subclass of a net overrides
        `loss`, `gradient`, `predict` or, with `validation`, `accuracy`, which `fit` does not call.
    accelnn.errors.OutOfMemoryError
        If there is no memory for the data, or for a batch.

    Warns
    -----
    accelnn.errors.DivergenceWarning
        At the first loss that is not finite, where the training stops; and at the end of a run
        whose losses became several times those of the start and of a net that knows nothing.
    RuntimeWarning
        If an iterator ends before all updates are done.
    accelnn.errors.ScalingWarning
        After the first epoch with 100 updates behind it, or the last one, if the net has learned
        nothing and its features are large or of very different sizes.

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
    if not isinstance(gradient, str) or gradient not in ("analytic", "numerical"):
        msg = f"gradient must be 'analytic' or 'numerical', got {shown(gradient)}"
        raise ValueError(msg)
    refuse_own_methods(net, gradient, validated=validation is not None)
    refuse_vanishing_eps(optimizer, net.dtype)
    callbacks = _check_callbacks(callbacks)
    saver = _saver(checkpoint, checkpoint_every)
    refuse_shared_file(checkpoint, callbacks)
    saved = ending = None
    if isinstance(resume, str | os.PathLike):
        saved = _saved(resume, checkpoint, rng)
    else:
        ending = ending_of(resume, rng)
    with net.backend.current():
        test = None if validation is None else validation_for(net, validation)
        refuse_several_labels(net, test, "validation t")
        options: dict[str, Any] = {}
        if clip_norm is not None:
            options["clip"] = positive(clip_norm, "clip_norm")
        common = test, optimizer, gradient, callbacks, options, saver
        run: Run
        if is_batches(x):
            _check_batches(t, sample_weight, (batch_size, sampling), resume, checkpoint)
            run = BatchRun(net, None, Passes.of(cast("Batches", x), epochs, iters), *common)
        else:
            data = dataset_for(net, cast("ArrayLike | Dataset", x), t, "x", "t")
            refuse_several_labels(net, data, "t")
            plan = Plan.of(data.size, batch_size, epochs, iters, sampling)
            if sample_weight is not None:
                options["weights"] = weights_for(net, sample_weight, data.size)
            run = Run(net, data, plan, *common)
        is_left = True
        if saved is not None:
            saved.require_fit(cast("PathLike", resume), run)
            is_left = run.take_up(saved, rng if isinstance(rng, np.random.Generator) else None)
        elif ending is not None:
            run.go_on(ending)
        else:
            run.begin(generator(rng))
        if is_left:
            steps = run.plan.steps
            with progress_bar("Training", steps, enabled=progress, unit="steps") as advance:
                run.train(advance, timed=progress)
        complaints = list(run.complaints())
    for message, category in complaints:
        warn(message, category)
    return run.history


def _check_net(net: object) -> None:
    if not isinstance(net, Net):
        msg = (
            f"net must be a net such as accelnn.MLP([784, 50, 10]), got {type(net).__name__}: the "
            f"call is fit(net, x, t)"
        )
        raise TypeError(msg)


def _check_optimizer(optimizer: object) -> None:
    missing = [name for name in ("slots", "update") if not hasattr(optimizer, name)]
    if isinstance(optimizer, type) or missing:
        msg = f"optimizer must be an object such as accelnn.SGD(0.1), got {shown(optimizer)}"
        if missing == ["slots"]:
            msg += (
                ", which has update but no slots: a rule of your own says how many arrays it keeps "
                "in slots, and has update(params, grads, state, step, xp)"
            )
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


def _saver(path: PathLike | None, every: int | None) -> Saver | None:
    """Return what writes checkpoints, or raise before the run begins."""
    if path is not None:
        return Saver(
            check_path(path), None if every is None else positive_int(every, "checkpoint_every")
        )
    if every is not None:
        msg = "checkpoint_every is how often a checkpoint is written: pass checkpoint=path too"
        raise TypeError(msg)
    return None


def _saved(path: PathLike, target: PathLike | None, rng: Rng) -> Checkpoint | None:
    """Return the run to go on with, or None where the same call is to begin it."""
    is_same = target is not None and Path(path).resolve() == Path(target).resolve()
    if is_same and not Path(path).exists():
        return None
    if not Path(path).exists():
        name = os.fspath(path)
        msg = (
            f"there is no checkpoint {name!r} to go on from: leave resume out and pass "
            f"checkpoint={name!r}, which makes one; with both, a run begins or goes on"
        )
        raise FileNotFoundError(msg)
    saved = Checkpoint.read(path)
    if rng is not None:
        saved.require_first(Generator.of(generator(rng)))
    return saved


def _check_batches(t: object, sample_weight: object, drawn: object, *kept: object) -> None:
    """Raise TypeError for options that say nothing where batches come one by one."""
    if drawn != DRAWN:
        msg = (
            "batch_size and sampling are left out where x is an iterator of batches, or a function "
            "that returns one: batches are taken as they come"
        )
        raise TypeError(msg)
    if t is not None or sample_weight is not None:
        msg = (
            "t and sample_weight are left out where x is an iterator of batches, or a function "
            "that returns one: each batch is a tuple (x, t) or (x, t, sample_weight)"
        )
        raise TypeError(msg)
    if any(one is not None for one in kept):
        msg = (
            "a run on batches that come one by one cannot be resumed, because nobody knows where "
            "they would go on; prepare(x, t, stream=True) reads from a file and can"
        )
        raise TypeError(msg)
