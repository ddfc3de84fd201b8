"""What `fit` says of a run that has learned nothing, and why that may be so."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from accelnn._warn import warn
from accelnn.backends import Dataset
from accelnn.errors import ScalingWarning
from accelnn.nets import Net

__all__ = ["Watch", "some_rows"]

# So many samples are looked at, or samples of so many numbers, but some in any case.
SAMPLES, NUMBERS, LEAST_SAMPLES = 2_048, 1 << 15, 64
# Updates before a run is judged, and at least.
ENOUGH, LEAST = 100, 20
# A loss so many times that of the start, and of any sample with outputs of zero, has exploded.
EXPLODED = 5.0
# And one this many times as large, if nothing is learned afterwards: units may have died of it.
# That is of a batch of one sample, because those differ much from each other in a net that has not
# been trained; in the mean of a batch one of them counts as little as there are others.
DEADLY = 1_000.0
# A net has learned nothing with a loss above this part of that of the best constant output.
IDLE = 0.95
# And by accuracy, if it is no more than this above the share of the largest class.
BETTER = 0.05
# Targets are all the same if one output fits them so much better than zeros fit any of them.
SAME = 1e-9
# Where the probability of a label is that of its contrary.
EVEN = 0.5
# Larger numbers, or standard deviations this many times as large as others, want scaling.
LARGE = 100.0


class References(NamedTuple):
    """What outputs achieve that are the same for all samples.

    Attributes
    ----------
    worst : float
        The largest loss of a sample with outputs that are zero.
    constant : float
        The mean loss of those that fit the targets best: the mean target, or the shares of classes.
    accuracy : float
        Theirs, which is the share of the largest class; 1 for a loss that does not classify.
    """

    worst: float
    constant: float
    accuracy: float


class Watch:
    """Compares the losses of a run with those of a net that knows nothing.

    Parameters
    ----------
    net : Net
        The net.
    data : Dataset
        What it is trained on.
    weights : array of shape (n,) or None
        Of the samples.
    batch : int
        Samples in a batch.
    """

    def __init__(self, net: Net, data: Dataset, weights: object, batch: int) -> None:
        self._net, self._data, self._weights = net, data, weights
        self._deadly = max(EXPLODED, DEADLY / batch)
        self._has_looked = self._has_warned = False

    def look(self, losses: list[float], *, is_last: bool) -> None:
        """Warn, once after some epochs, if a net learns nothing from features of other sizes."""
        steps = len(losses)
        if self._has_looked or steps < LEAST or (steps < ENOUGH and not is_last):
            return
        self._has_looked = True
        references = self._references()
        fault = self.fault() if self._is_idle(losses, references) else ""
        if fault:
            self._has_warned = True
            msg = (
                f"the net has learned nothing in {steps:,} updates: their last losses are "
                f"{_level(losses):.3g} on average, and {references.constant:.3g} is that of one "
                f"output for all samples. {fault}"
            )
            warn(msg, ScalingWarning)

    def explosion(self, losses: list[float]) -> str:
        """Return how the losses of a run that is over have exploded, or an empty string."""
        if self._has_warned or not losses:
            return ""
        most, last = max(losses), min(losses[-max(LEAST // 4, len(losses) // 10) :])
        if not most > EXPLODED * losses[0]:
            return ""
        references = self._references()
        # No batch of a net that knows nothing has a larger loss.
        usual = max(losses[0], references.worst)
        # A run of few updates is judged if there is no doubt.
        is_short = len(losses) < LEAST
        is_high = last > usual * (DEADLY if is_short else EXPLODED)
        # Where few samples are far from all others, batches without them tell what is learned.
        typical = np.median(losses[-max(1, len(losses) // 4) :])
        is_dead = (
            not is_short
            and most > usual * (self._deadly if typical >= IDLE * losses[0] else DEADLY)
            and typical >= IDLE * references.constant
            and self._is_idle(losses, references)
        )
        if is_high or is_dead:
            return f"the loss went from {losses[0]:.3g} to {most:.3g}, and is {losses[-1]:.3g}"
        return ""

    def _references(self) -> References:
        """Return what constant outputs achieve, on some samples."""
        loss, backend, data = self._net.spec.loss, self._net.backend, self._data
        outputs = self._net.spec.sizes[-1]
        index = some_rows(data.size, outputs)
        rows = backend.asarray(index)
        t = backend.to_numpy(backend.xp.take(data.t, rows, axis=0))
        weights = np.ones(len(t))
        if self._weights is not None:
            weights = backend.to_numpy(backend.xp.take(self._weights, rows, axis=0))
        sample: Any = slice(None)
        if t.ndim == 1 and outputs > 1:
            # Samples of one class are alike.
            sample, t = t, np.eye(outputs)
        t = t.reshape(-1, outputs).astype(np.float64)
        totals = np.bincount(np.arange(len(t))[sample], weights, len(t))
        with np.errstate(all="ignore"):
            mean = totals @ t / totals.sum()
            if loss.output == "softmax":
                mean = np.log(np.maximum(mean / mean.sum(), np.finfo(float).tiny))
            elif loss.output == "sigmoid":
                mean = np.log(np.maximum(mean, 1e-300) / np.maximum(1.0 - mean, 1e-300))
            targets = backend.asarray(t, "float64")
            # By the net's own backend, which may have compiled a loss of the caller's.
            of_zero, of_mean = (
                backend.to_numpy(
                    loss.value(backend.asarray(np.tile(a, (len(t), 1))), targets, backend=backend)
                )
                for a in (np.zeros(outputs), mean)
            )
            worst = float((weights * of_zero[sample]).max())
            constant = float(totals @ of_mean) / len(weights)
            accuracy = 1.0
            if loss.classifies and loss.output == "softmax":
                accuracy = float(totals @ (t.argmax(axis=1) == mean.argmax())) / totals.sum()
            elif loss.classifies:
                accuracy = float(totals @ ((mean > 0.0) == (t > EVEN)).mean(axis=1)) / totals.sum()
        return References(worst, constant, accuracy)

    def _is_idle(self, losses: list[float], references: References) -> bool:
        """Return whether a net is no better than one output for all samples."""
        # From targets that are all the same, but for rounding, there is nothing to learn.
        if references.constant <= SAME * references.worst:
            return False
        # Not if one of them is NaN.
        if not _level(losses) >= IDLE * references.constant:
            return False
        net, data = self._net, self._data
        rows = net.backend.asarray(some_rows(data.size, max(net.spec.sizes)))
        some = Dataset(*data.take(rows), net.backend, net.dtype)
        accuracy = net.engine.evaluate(net.flat, some)[1]
        # A net may be right where it is far too sure of what it gets wrong.
        return accuracy is None or accuracy <= references.accuracy + BETTER

    def fault(self) -> str:
        """Return what is wrong with the sizes of the features, or an empty string."""
        backend, data = self._net.backend, self._data
        rows = backend.asarray(some_rows(data.size, data.inputs))
        x = backend.to_numpy(data.take(rows)[0]).astype(np.float64)
        most = float(np.abs(x).max())
        # Features that are mostly zero, as single pixels or words, vary little and harm nothing.
        spread = x[:, (x != 0.0).mean(axis=0) > 1 / 2].std(axis=0)
        spread = spread[spread > 0.0]
        if spread.size and spread.max() > LARGE * spread.min():
            low, high = spread.min(), spread.max()
            what = f"Its features have standard deviations from {low:.3g} to {high:.3g}"
        elif most > LARGE:
            what = f"Its features are as large as {most:.4g}"
        else:
            return ""
        return f"{what}: scale them, as by (x - x.mean(0)) / (x.std(0) + 1e-8)"


def _level(losses: list[float]) -> float:
    """Return the mean of the last quarter of the losses."""
    return float(np.mean(losses[-(len(losses) // 4) :]))


def some_rows(size: int, width: int) -> np.ndarray:
    """Return the numbers of some rows: all, or as many as are looked at, drawn alike each time."""
    most = min(SAMPLES, max(LEAST_SAMPLES, NUMBERS // width))
    if size <= most:
        return np.arange(size)
    return np.random.default_rng(0).integers(0, size, most)
