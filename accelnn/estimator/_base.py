"""What the classifier and the regressor share: one call of `accelnn.fit` from checked data."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from accelnn._shown import shown
from accelnn._typing import DTypeLike
from accelnn._validation import positive_int
from accelnn._warn import warn
from accelnn.backends import BackendLike, Dataset, Optimizer
from accelnn.callbacks import EarlyStopping
from accelnn.datasets import train_validation_split
from accelnn.estimator._plateau import Plateau
from accelnn.estimator._state import packed, unpacked
from accelnn.estimator._weighted_stop import WeightedStop
from accelnn.estimator._weights import mean_one
from accelnn.formulas._checks import not_negative
from accelnn.nets import MLP
from accelnn.nets._mlp import Hidden
from accelnn.optimizers import Adam
from accelnn.training import History, fit, prepare
from accelnn.training._plan import Generator
from accelnn.training._resume import OF_THE_DATA, Ending

__all__ = ["BaseMLP"]

# Names of scikit-learn for what has another name here.
ACTIVATIONS = {"logistic": "sigmoid"}
# The largest batch that batch_size="auto" takes.
AUTO_BATCH = 200


class BaseMLP(BaseEstimator):  # type: ignore[misc]
    """The common part of `MLPClassifier` and `MLPRegressor`."""

    _ending: Ending | None

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int],
        activation: Hidden | Sequence[Hidden],
        optimizer: Optimizer | None,
        batch_size: int | str,
        max_iter: int,
        shuffle: bool,  # noqa: FBT001 - as its name in the subclass
        tol: float,
        n_iter_no_change: int,
        early_stopping: bool,  # noqa: FBT001 - as above
        validation_fraction: float,
        warm_start: bool,  # noqa: FBT001 - as above
        random_state: Any,
        verbose: bool,  # noqa: FBT001 - as above
        dropout: float,
        backend: BackendLike | None,
        dtype: DTypeLike | None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.dropout = dropout
        self.backend = backend
        self.dtype = dtype

    def __sklearn_tags__(self) -> Any:
        """Return what scikit-learn may pass."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        return packed(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(unpacked(state))

    def _checked(self, X: Any, y: Any, *, reset: bool, **options: Any) -> Any:
        dtype = [np.float64, np.float32] if self.dtype is None else np.dtype(self.dtype)
        return validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=dtype,
            reset=reset,
            ensure_min_features=1,
            **options,
        )

    @contextmanager
    def _kept_if_refused(self) -> Iterator[None]:
        """Leave the estimator with the attributes it had, and no untrained net, if a fit fails."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException as error:
            # Where warnings are errors, it may be of a fit that has ended.
            has_ended = self.__dict__.get("loss_curve_") is not before.get("loss_curve_")
            if not (isinstance(error, Warning) and has_ended):
                self.__dict__.clear()
                self.__dict__.update(before)
            raise

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the net's outputs on the host."""
        check_is_fitted(self)
        rows, net = self._checked(X, "no_validation", reset=False), self.net_
        with net.backend.current():
            # Sparse rows are taken as they are.
            rows = net.backend.asarray(rows) if isinstance(rows, np.ndarray) else rows
            outputs: np.ndarray = net.backend.to_numpy(net.predict(rows))
        return outputs

    def _new_net(self, sizes: tuple[int, int], loss: Any, dtype: Any, draw: Any) -> MLP:
        hidden: Any = self.hidden_layer_sizes
        is_many = isinstance(hidden, Iterable) and not isinstance(hidden, str)
        # Once, because it may be an iterator.
        widths = tuple(hidden) if is_many else (hidden,)
        if not all(isinstance(n, int | np.integer) and n > 0 for n in widths):
            msg = (
                f"hidden_layer_sizes must be a positive integer, or a sequence of them such as "
                f"(100, 50), got {shown(hidden)}"
            )
            raise TypeError(msg)
        activation = self.activation
        if isinstance(activation, str):
            activation = ACTIVATIONS.get(activation, activation)  # type: ignore[assignment]
        return MLP(
            [sizes[0], *widths, sizes[1]],
            activation=activation,
            loss=loss,
            dropout=self.dropout,
            label_smoothing=getattr(self, "label_smoothing", 0.0),
            # As scikit-learn draws them, whatever the activation.
            init="xavier",
            dtype=dtype,
            rng=draw,
            backend=self.backend,
        )

    def _train(
        self,
        X: Any,
        targets: np.ndarray,
        weights: np.ndarray | None,
        loss: Any,
        *,
        told: dict[str, Any],
        outputs: int,
        strata: np.ndarray | None,
        partial: bool,
    ) -> Self:
        """Train a net on checked data, a new one unless there is one to go on with.

        `told` are the attributes that say what its outputs are.
        """
        goes_on = hasattr(self, "net_") and (partial or self.warm_start)
        if not goes_on:
            self._draw = self._generator()
        dtype = self.dtype or X.dtype
        net = self._new_net((X.shape[1], outputs), loss, dtype, None if goes_on else self._draw)
        if goes_on:
            self._check_same(net)
        else:
            self.net_, self._ending = net, None
        # Only now: a call that is refused leaves the net with the classes it was trained for.
        self.__dict__.update(told)
        self._run(X, targets, weights, strata, partial=partial)
        return self

    def _generator(self) -> np.random.Generator:
        """Return the generator that a random state of scikit-learn stands for."""
        seed = check_random_state(self.random_state).randint(np.iinfo(np.int32).max)
        return np.random.default_rng(seed)

    def _check_same(self, net: MLP) -> None:
        """Raise ValueError unless a net of the current options is like the one trained before."""
        before = self.net_
        for name, was, now in (
            ("layers", before.spec.sizes, net.spec.sizes),
            ("activation", before.spec.activation, net.spec.activation),
            ("loss", before.spec.loss.name, net.spec.loss.name),
            ("dtype", before.dtype, net.dtype),
            ("dropout", before.spec.dropout, net.spec.dropout),
            ("label_smoothing", before.spec.label_smoothing, net.spec.label_smoothing),
            ("backend", before.backend.address, net.backend.address),
        ):
            if was != now:
                msg = (
                    f"the net trained before has {name} {was}, and this call asks for {now}: keep "
                    f"them as they were, or fit anew with warm_start=False"
                )
                raise ValueError(msg)

    def _run(
        self,
        X: Any,
        targets: np.ndarray,
        weights: np.ndarray | None,
        strata: np.ndarray | None,
        *,
        partial: bool,
    ) -> None:
        patience = positive_int(self.n_iter_no_change, "n_iter_no_change")
        tol = not_negative(self.tol, "tol")
        epochs = 1 if partial else positive_int(self.max_iter, "max_iter")
        stop = validation = None
        train = np.arange(len(targets))
        if self.early_stopping and not partial:
            train, aside = self._split(len(targets), strata)
            held = X[aside], targets[aside]
            validation = self._prepared(*held)
            stop = EarlyStopping(patience, min_delta=tol)
            if weights is not None:
                stop = WeightedStop(patience, tol, *held, mean_one(weights, aside, "set aside"))
            X, targets = X[train], targets[train]
        batch = self._batch(len(targets))
        plateau = Plateau(math.inf if partial or stop else patience, tol, len(targets), batch)
        is_resumed = partial and self._ending is not None
        draw = self._draw if self.shuffle else _InOrder(self._draw.bit_generator)
        history, is_interrupted = self._history_of(
            self._prepared(X, targets),
            validation=validation,
            optimizer=Adam() if self.optimizer is None else self.optimizer,
            batch_size=batch,
            epochs=epochs,
            sample_weight=None if weights is None else mean_one(weights, train),
            callbacks=[plateau, stop] if stop else [plateau],
            progress=bool(self.verbose),
            **({"resume": self._resumed()} if is_resumed else {"rng": draw}),
        )
        self._note(history, plateau.curve, stop, partial=partial)
        if is_interrupted:
            msg = f"Training interrupted by user after {history.steps} updates, which are kept"
            warn(msg)
        elif not (partial or plateau.stopped or (stop and stop.stopped) or _diverged(history)):
            msg = (
                f"Training stops at max_iter={epochs} epochs, before the loss has stopped falling: "
                f"raise max_iter, or take another optimizer"
            )
            warn(msg, ConvergenceWarning)

    def _history_of(self, data: Dataset, **options: Any) -> tuple[History, bool]:
        """Return the history of a run, and whether Ctrl-C ended it."""
        try:
            history = fit(self.net_, data, **options)
        except KeyboardInterrupt as error:
            interrupted: History | None = getattr(error, "history", None)
            if interrupted is None or not interrupted.steps:
                raise
            return interrupted, True
        # Early stopping has restored parameters from before.
        if not math.isfinite(history.loss[-1]) and options["validation"] is None:
            msg = (
                f"the loss of update {history.steps} is {history.loss[-1]}: scale X (and, for a "
                f"regression, y), or take an optimizer with a smaller learning rate"
            )
            raise ValueError(msg)
        return history, False

    def _note(
        self, history: History, curve: list[float], stop: EarlyStopping | None, *, partial: bool
    ) -> None:
        """Set the attributes that tell of the run."""
        self.loss_curve_ = [*getattr(self, "loss_curve_", []), *curve] if partial else curve
        self.n_iter_ = len(self.loss_curve_)
        self.loss_ = curve[-1] if curve else history.loss[-1]
        self.best_loss_ = min(self.loss_curve_, default=self.loss_)
        self.n_layers_ = len(self.net_.spec.sizes)
        self.n_outputs_ = self.net_.spec.sizes[-1]
        # The best parameters that early stopping restores are from before the optimiser's state.
        self._ending = None if stop else history.ending
        if self._ending is not None and not self._ending.position:
            # A resumed run has drawn from a generator of its own.
            self._draw.bit_generator.state = self._ending.generator.state
        # Without the evaluation of the start, so that all curves have a number for each epoch.
        losses = stop.losses if isinstance(stop, WeightedStop) else history.test_loss
        self.validation_losses_ = losses[1:] if stop else None
        self.validation_scores_ = history.test_accuracy[1:] or None
        self.best_validation_loss_ = stop.best if stop else None

    def _split(self, n: int, strata: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples to train on and those set aside."""
        labels = np.zeros(n, np.intp) if strata is None else strata
        draw = np.random.default_rng(self._draw.integers(2**63))
        try:
            (train, _), (aside, _) = train_validation_split(
                np.arange(n), labels, self.validation_fraction, draw
            )
        except ValueError as error:
            # It is about its `fraction`.
            msg = f"validation_{error}"
            raise ValueError(msg) from None
        if not self.shuffle:
            train.sort()
        return train, aside

    def _prepared(self, X: Any, targets: np.ndarray) -> Dataset:
        backend = self.net_.backend
        return prepare(X, targets, backend=backend, dtype=self.net_.dtype)

    def _batch(self, samples: int) -> int:
        if isinstance(self.batch_size, str) and self.batch_size == "auto":
            return min(AUTO_BATCH, samples)
        return min(positive_int(self.batch_size, "batch_size"), samples)

    def _resumed(self) -> History:
        """Return a history that a run on other samples may go on from."""
        ending = cast("Ending", self._ending)
        same = {name: value for name, value in ending.same.items() if name not in OF_THE_DATA}
        draw = ending.generator if self.shuffle else _BeforeInOrder(*ending.generator)
        # From the start of an epoch: after Ctrl-C the rest of the last one was of other samples.
        return History(1, ending=replace(ending, same=same, generator=draw, position=0))


def _diverged(history: History) -> bool:
    """Return whether the last losses are not finite, of which `fit` has warned."""
    last = (curve[-1] for curve in (history.loss, history.train_loss, history.test_loss) if curve)
    return not all(map(math.isfinite, last))


class _InOrder(np.random.Generator):
    """A generator by which samples come in the order they are given in."""

    def permutation(self, n: int) -> np.ndarray:  # type: ignore[override]
        return np.arange(n)


class _BeforeInOrder(Generator):
    """Such a generator at one moment."""

    def revive(self) -> np.random.Generator:
        return _InOrder(super().revive().bit_generator)
