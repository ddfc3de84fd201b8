"""Callbacks of `accelnn.fit`: early stopping, the best parameters, a log.

A callback is any ``callback(net, history)``. `fit` calls it at the end of every epoch, or after
every k updates if it has an attribute ``every = k``, and stops if it returns True. It may also have
methods, each called as ``method(net, history)``:

- ``on_start``: before the first update, once the start has been evaluated;
- ``on_evaluation``: after every later evaluation, that of a last partial epoch too;
- ``on_end``: when the run ends, also by an exception or Ctrl-C.

With ``fit(checkpoint=path)``, what ``callback.state_dict()`` returns is kept too: a dictionary of
numbers, text and NumPy arrays, given to ``callback.load_state_dict(state)`` after ``on_start`` of
the run that goes on from there, or without ``on_start`` if the run was finished. States are found
by the class of the callback.

An attribute ``writes`` is the path of a file that a callback writes, or None: no two of them, nor
one and the checkpoint, may write the same.

The objects here may be passed to one run after another, and start afresh in each.
"""

import math
import os
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from accelnn._atomic import require_folder
from accelnn._shown import shown
from accelnn._typing import Array
from accelnn._validation import positive_int
from accelnn.backends import Backend
from accelnn.formulas._checks import not_negative
from accelnn.nets import Net
from accelnn.training import History
from accelnn.training._history import CURVES, Curve, csv_line, table

__all__ = ["BestWeights", "CSVLog", "EarlyStopping"]

PathLike = str | os.PathLike[str]


class _Monitor:
    """Follows one curve, and keeps the parameters of its best evaluation."""

    best: float | None
    best_step: int | None
    _history: History | None
    _batches_per_epoch: int
    _seen: int | None
    _weights: Array | None
    _backend: Backend | None = None
    # What a checkpoint keeps, beside the parameters.
    _state: tuple[str, ...] = ("best", "best_step", "_seen", "_batches_per_epoch")

    def __init__(self, monitor: Curve, *, keeps: bool) -> None:
        if not isinstance(monitor, str) or monitor not in CURVES:
            msg = f"monitor must be one of {', '.join(map(repr, CURVES))}; got {shown(monitor)}"
            raise ValueError(msg)
        self.monitor = monitor
        self._sign = 1.0 if monitor.endswith("accuracy") else -1.0
        self._keeps = keeps
        self._reset(None)

    @property
    def best_epoch(self) -> float | None:
        """Passes over the data done at the best evaluation; None before the first."""
        return None if self.best_step is None else self.best_step / self._batches_per_epoch

    def on_start(self, net: Net, history: History) -> None:
        """Start afresh, with the parameters as they are."""
        self._reset(history)
        self._backend = net.backend
        self.on_evaluation(net, history)

    def on_evaluation(self, net: Net, history: History) -> None:
        """Look at the last evaluation, unless that has been done."""
        if history is not self._history:
            # Inside a callback of the user's, which `fit` tells of no start.
            self.on_start(net, history)
            return
        self._batches_per_epoch = history.batches_per_epoch
        value = self._curve(net)[-1]
        step = history.evaluated_at[-1]
        # Later the parameters are others.
        if step == history.steps and step != self._seen:
            self._seen = step
            self._judge(net, value)

    def on_end(self, net: Net, history: History) -> None:  # noqa: ARG002 - the signature of all
        """Restore the best parameters, if they are kept."""
        if self._weights is not None:
            net.flat[...] = self._weights
        self._history = self._weights = None

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this object, arrays on the host."""
        state = {name: getattr(self, name) for name in self._state}
        if self._backend is not None and self._weights is not None:
            state["_weights"] = self._backend.to_numpy(self._weights)
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned, in a run that goes on."""
        for name in self._state:
            setattr(self, name, state[name])
        # Not where the run was finished, and no end comes at which they would be let go.
        if self._backend is not None and self._history is not None and "_weights" in state:
            self._weights = self._backend.asarray(state["_weights"])

    def _reset(self, history: History | None) -> None:
        self._history = history
        self._batches_per_epoch = history.batches_per_epoch if history else 1
        self._weights = self._seen = self.best = self.best_step = None

    def _curve(self, net: Net) -> list[float]:
        curve: list[float] = getattr(self._history, self.monitor)
        if not curve:
            name, other = type(self).__name__, self.monitor.replace("accuracy", "loss")
            history = self._history
            evaluates = history is not None and history.evaluated_at
            if history is not None and evaluates and not history.train_loss:
                other = self.monitor.replace("train", "test")
                msg = (
                    f"{name} monitors {self.monitor!r}, and where batches come one by one, only "
                    f"test data are evaluated: use {name}(monitor={other!r})"
                )
                raise ValueError(msg)
            reason = (
                f"which no net with the loss {net.spec.loss.name!r} has, because it does not "
                f"classify: use {name}(monitor={other!r})"
                if evaluates
                else "and this run evaluates nothing: call fit with validation=(x_test, t_test)"
            )
            msg = f"{name} monitors {self.monitor!r}, {reason}"
            raise ValueError(msg)
        return curve

    def _judge(self, net: Net, value: float) -> None:
        """Keep a value that is the best so far, and its parameters."""
        if self._exceeds(value, self.best):
            self.best, self.best_step = value, self._seen
            if self._keeps:
                self._weights = net.backend.xp.asarray(net.flat, copy=True)

    def _exceeds(self, value: float, other: float | None, by: float = 0.0) -> bool:
        """Return whether a value is better than another, which NaN never is."""
        return math.isfinite(value) and (other is None or self._sign * (value - other) > by)


class EarlyStopping(_Monitor):
    """Stop a run that no longer gets better, and restore its best parameters.

    Parameters
    ----------
    patience : int, default 10
        The run stops after so many evaluations in a row, one an epoch, without improvement.
    monitor : {"test_loss", "test_accuracy", "train_loss", "train_accuracy"}, default "test_loss"
        The curve of `History` to follow: lower losses are better, and higher accuracies. The run
        must be given ``validation=``.
    restore_best : bool, default True
        Whether the net has the parameters of the best evaluation when the run ends, however it
        ends: by stopping, after its last epoch, by divergence, an exception or Ctrl-C. The
        parameters at the start are among those evaluated. They are copied on the net's own device.
    min_delta : float, default 0.0
        Only a change by more than this is an improvement for which the run goes on. Which
        parameters are the best does not depend on it.

    Attributes
    ----------
    best : float or None
        The best value of the monitored curve.
    best_step : int or None
        Updates done then.
    best_epoch : float or None
        Passes over the data done then.
    stopped : bool
        Whether this object stopped the run.

    Raises
    ------
    ValueError
        If `patience`, `monitor` or `min_delta` is wrong; and at the start of a run that has no
        such curve.

    Examples
    --------
    >>> import accelnn
    >>> (x, t), test = accelnn.load_mnist(subset="5k")
    >>> net = accelnn.MLP([784, 50, 10], rng=0)
    >>> stop = accelnn.callbacks.EarlyStopping(patience=2)
    >>> rule = accelnn.Adam(0.01)
    >>> history = accelnn.fit(
    ...     net, x, t, validation=test, optimizer=rule, epochs=100, rng=0, callbacks=[stop]
    ... )
    >>> stop.stopped, history.epochs == stop.best_epoch + 2, stop.best == min(history.test_loss)
    (True, True, True)
    >>> abs(net.loss(*test) - stop.best) < 1e-5
    True
    """

    stopped: bool
    _to_beat: float | None
    _waited: int
    _state = ("best", "best_step", "_seen", "_batches_per_epoch", "stopped", "_to_beat", "_waited")

    def __init__(
        self,
        patience: int = 10,
        monitor: Curve = "test_loss",
        *,
        restore_best: bool = True,
        min_delta: float = 0.0,
    ) -> None:
        self.patience = positive_int(patience, "patience")
        self.min_delta = not_negative(min_delta, "min_delta")
        super().__init__(monitor, keeps=restore_best)

    def __call__(self, net: Net, history: History) -> bool:
        """Return whether to stop."""
        self.on_evaluation(net, history)
        self.stopped = self._waited >= self.patience
        return self.stopped

    def _reset(self, history: History | None) -> None:
        super()._reset(history)
        self.stopped = False
        self._to_beat, self._waited = None, 0

    def _judge(self, net: Net, value: float) -> None:
        super()._judge(net, value)
        if self._exceeds(value, self._to_beat, self.min_delta):
            self._to_beat, self._waited = value, 0
        else:
            self._waited += 1


class BestWeights(_Monitor):
    """Restore the best parameters of a run when it ends, and save them when they are found.

    Parameters
    ----------
    monitor : {"test_loss", "test_accuracy", "train_loss", "train_accuracy"}, default "test_loss"
        The curve of `History` by which parameters are compared: lower losses are better, and higher
        accuracies. The run must be given ``validation=``.
    path : path-like, optional
        A ``.safetensors`` file, to which the net is saved whenever it is better than before, at the
        start too; see `accelnn.load`.

    Attributes
    ----------
    best : float or None
        The best value of the monitored curve.
    best_step : int or None
        Updates done then.
    best_epoch : float or None
        Passes over the data done then.

    Raises
    ------
    ValueError
        If `monitor` is wrong; and at the start of a run that has no such curve.
    OSError
        At the start of a run, if there is a `path` that cannot be written.

    Examples
    --------
    >>> import accelnn
    >>> (x, t), test = accelnn.load_mnist(subset="5k")
    >>> net = accelnn.MLP([784, 50, 10], rng=0)
    >>> keep = accelnn.callbacks.BestWeights("test_accuracy")
    >>> history = accelnn.fit(net, x, t, validation=test, epochs=5, rng=0, callbacks=[keep])
    >>> net.accuracy(*test) == keep.best == max(history.test_accuracy)
    True
    """

    _is_told = True
    _saved_step: int | None

    def __init__(self, monitor: Curve = "test_loss", *, path: PathLike | None = None) -> None:
        super().__init__(monitor, keeps=True)
        self.path = path

    @property
    def writes(self) -> PathLike | None:
        """The file to which the net is saved."""
        return self.path

    def __call__(self, net: Net, history: History) -> None:
        """Look at the last evaluation, unless that has been done."""
        self.on_evaluation(net, history)

    def on_start(self, net: Net, history: History) -> None:
        """Start afresh, with the parameters as they are."""
        # A run that goes on from a checkpoint has a file of its best parameters, of which this
        # object is told next.
        self._is_told = history.steps == 0
        super().on_start(net, history)
        self._is_told = True

    def on_end(self, net: Net, history: History) -> None:
        """Restore the best parameters, and save them if no evaluation has."""
        super().on_end(net, history)
        if self.best_step != self._saved_step:
            self._save(net)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned, in a run that goes on."""
        super().load_state_dict(state)
        self._saved_step = self.best_step

    def _reset(self, history: History | None) -> None:
        super()._reset(history)
        self._saved_step = None

    def _judge(self, net: Net, value: float) -> None:
        super()._judge(net, value)
        if self._is_told and self.best_step == self._seen:
            self._save(net)

    def _save(self, net: Net) -> None:
        self._saved_step = self.best_step
        if self.path is not None:
            net.save(self.path)


class CSVLog:
    """Write a line of comma-separated values after each evaluation of a run.

    The columns are those of `History.to_csv`. A run without ``validation=`` has a line for each
    epoch, with the mean of its batches' losses before their updates: ``step``, ``epoch``, ``loss``.

    Parameters
    ----------
    path : path-like
        The file. Each line is there as soon as its numbers are.
    append : bool, default False
        Write after what the file has. By default each run replaces it. Every run counts its steps
        from 0, one that resumes another too: ``(first + second).to_csv(path)`` counts on.

    Raises
    ------
    ValueError
        At the start of a run, if lines are to be appended to a file with other columns.
    OSError
        At the start of a run, if the file cannot be written.

    Examples
    --------
    >>> import accelnn, pathlib, tempfile
    >>> (x, t), test = accelnn.load_mnist(subset="5k")
    >>> net = accelnn.MLP([784, 50, 10], rng=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "log.csv")
    ...     log = accelnn.callbacks.CSVLog(path)
    ...     history = accelnn.fit(net, x, t, validation=test, epochs=2, rng=0, callbacks=[log])
    ...     print(path.read_text())
    step,epoch,train_loss,train_accuracy,test_loss,test_accuracy
    0,0.0,...
    40,1.0,...
    80,2.0,...
    """

    def __init__(self, path: PathLike, *, append: bool = False) -> None:
        self.path, self.append = Path(path), append
        self._history: History | None = None
        self._file: TextIO | None = None

    @property
    def writes(self) -> PathLike:
        """The file of the log."""
        return self.path

    def on_start(self, net: Net, history: History) -> None:
        """Open the file, and write the evaluation of the start."""
        header = csv_line(table(history) if history.evaluated_at else ("step", "epoch", "loss"))
        found = ""
        if self.append and self.path.exists():
            with self.path.open(encoding="utf-8") as file:
                found = file.readline()
        if found not in ("", header):
            msg = (
                f"cannot append to {os.fspath(self.path)!r}: its first line is {found.strip()!r}, "
                f"and the columns of this run are {header.strip()!r}; use another file, or "
                f"append=False"
            )
            raise ValueError(msg)
        require_folder(os.fspath(self.path), self.path)
        # Closed when the run ends; a line is written when it is complete.
        self._file = self.path.open(
            "a" if self.append else "w", buffering=1, encoding="utf-8", newline="\n"
        )
        if not found:
            self._file.write(header)
        self._history, self._done = history, 0
        if history.evaluated_at:
            self(net, history)
        # Of a run that goes on from a checkpoint: its epochs so far.
        for end in range(history.batches_per_epoch, history.steps + 1, history.batches_per_epoch):
            self._write_mean(history, end)

    def __call__(self, net: Net, history: History) -> None:
        """Write what is new: evaluations, or else the mean loss of updates."""
        if history is not self._history or self._file is None:
            # Inside a callback of the user's, which `fit` tells of no start.
            self.on_start(net, history)
            return
        if not history.evaluated_at:
            self._write_mean(history, history.steps)
            return
        columns = table(history, self._done)
        self._done = len(history.evaluated_at)
        self._file.writelines(map(csv_line, zip(*columns.values(), strict=True)))

    def on_evaluation(self, net: Net, history: History) -> None:
        """Write the evaluation."""
        self(net, history)

    def _write_mean(self, history: History, end: int) -> None:
        """Write the mean loss of the updates up to `end` that no line is of."""
        if self._file is not None and not history.evaluated_at and end > self._done:
            mean = float(np.mean(history.loss[self._done : end]))
            self._file.write(csv_line((end, end / history.batches_per_epoch, mean)))
            self._done = end

    def on_end(self, net: Net, history: History) -> None:
        """Write the mean loss of a last partial epoch, and close the file."""
        self(net, history)
        if self._file is not None:
            self._file.close()
        self._history = self._file = None
