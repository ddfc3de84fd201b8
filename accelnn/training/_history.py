"""The record of a training run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from accelnn._optional import import_optional

if TYPE_CHECKING:
    from accelnn.training._resume import Ending

__all__ = ["CURVES", "Curve", "History", "csv_line", "table"]

Curve: TypeAlias = Literal["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
CURVES = get_args(Curve)


@dataclass
class History:
    """The curves of a training run.

    ``first + second`` joins two runs, of which the second went on where the first had ended. In a
    notebook a history is shown as its curves.

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
    dropout_seed : int or None
        The seed by which dropout chose units, for ``dropout_key=(seed, update)`` of `Net.loss` and
        its gradients, or None if the net has no dropout.
    ending : Ending or None
        The state in which the run ended, for ``fit(..., resume=history)``: that of the optimiser
        and of the generator that draws the batches.

    Examples
    --------
    >>> import accelnn
    >>> (x, t), test = accelnn.load_mnist(subset="5k")
    >>> net = accelnn.MLP([784, 50, 10], rng=0)
    >>> first = accelnn.fit(net, x, t, validation=test, epochs=2, rng=0)
    >>> second = accelnn.fit(net, x, t, validation=test, epochs=1, resume=first)
    >>> (first + second).evaluated_at
    [0, 40, 80, 120]
    >>> (first + second).test_loss == first.test_loss + second.test_loss[1:]
    True
    """

    batches_per_epoch: int
    loss: list[float] = field(default_factory=list)
    evaluated_at: list[int] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    train_loss: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    dropout_seed: int | None = None
    ending: Ending | None = field(default=None, repr=False, compare=False)

    @property
    def steps(self) -> int:
        """Number of updates done."""
        return len(self.loss)

    @property
    def updates(self) -> int:
        """Number of updates done: another name of `steps`."""
        return self.steps

    @property
    def epochs(self) -> float:
        """Passes over the data done, a partial one as a fraction."""
        return self.steps / self.batches_per_epoch

    def to_pandas(self) -> Any:
        """Return the curves as a table.

        Returns
        -------
        pandas.DataFrame
            A row for each evaluation: ``step`` (updates done), ``epoch``, ``train_loss``,
            ``train_accuracy``, ``test_loss``, ``test_accuracy``, the accuracies if the loss
            classifies. Without evaluations, a row for each update: ``step`` (updates done before
            it) and ``loss``.

        Raises
        ------
        accelnn.errors.MissingDependencyError
            If pandas is not installed.
        """
        pandas = import_optional("pandas", feature="History.to_pandas", extra="pandas")
        return pandas.DataFrame(table(self))

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the curves to a file of comma-separated values.

        Parameters
        ----------
        path : path-like
            An existing file is replaced. The first line names the columns, which are those of
            `to_pandas`; numbers are written with all their digits.

        Examples
        --------
        >>> import accelnn, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "history.csv")
        ...     accelnn.History(2, loss=[2.5, 2.0]).to_csv(path)
        ...     print(path.read_text())
        step,loss
        0,2.5
        1,2.0
        """
        columns = table(self)
        with Path(path).open("w", encoding="utf-8", newline="\n") as file:
            file.write(csv_line(columns))
            file.writelines(map(csv_line, zip(*columns.values(), strict=True)))

    def __add__(self, other: History) -> History:
        if not isinstance(other, History):
            return NotImplemented
        if self.batches_per_epoch != other.batches_per_epoch:
            msg = (
                f"histories of {self.batches_per_epoch} and of {other.batches_per_epoch} batches "
                f"per epoch cannot be joined: train both on as many samples, in batches of one size"
            )
            raise ValueError(msg)
        if self.evaluated_at and other.evaluated_at:
            for name in CURVES:
                if bool(getattr(self, name)) != bool(getattr(other, name)):
                    msg = f"only one of the histories has {name}: they are of different losses"
                    raise ValueError(msg)
        # Where the first ended with an evaluation, the second started with the same one.
        again = self.evaluated_at[-1:] == [self.steps] and other.evaluated_at[:1] == [0]
        curves = {name: getattr(self, name) + getattr(other, name)[again:] for name in CURVES}
        later = [self.steps + step for step in other.evaluated_at[again:]]
        return replace(
            other, loss=self.loss + other.loss, evaluated_at=self.evaluated_at + later, **curves
        )

    def __repr__(self) -> str:
        last = f", last loss {self.loss[-1]:.4g}" if self.loss else ""
        accuracy = f", test accuracy {self.test_accuracy[-1]:.4f}" if self.test_accuracy else ""
        return f"<History of {self.steps:,} steps, {self.epochs:.4g} epochs{last}{accuracy}>"

    def _repr_html_(self) -> str:
        # Here, because only notebooks show it.
        from accelnn.training._picture import picture

        return picture(self)


def table(history: History, start: int = 0) -> dict[str, Sequence[float]]:
    """Return the columns of a history's table by name, from row `start` on."""
    steps = history.evaluated_at[start:]
    if not history.evaluated_at:
        return {"step": range(start, history.steps), "loss": history.loss[start:]}
    curves = {name: curve[start:] for name in CURVES if (curve := getattr(history, name))}
    return {"step": steps, "epoch": [s / history.batches_per_epoch for s in steps], **curves}


def csv_line(values: Iterable[object]) -> str:
    """Return a line of numbers or names, none of which needs quotes."""
    return ",".join(map(str, values)) + "\n"
