"""What is measured."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from accelnn._typing import DTypeName
from accelnn.formulas._table import ActivationName

__all__ = ["Case"]


@dataclass(frozen=True)
class Case:
    """One comparison: a net, data, and what is done with them.

    Attributes
    ----------
    group, name : str
        Its group, which is a table, and its name there.
    contestants : tuple of str
        Names in `CONTESTANTS[group]`.
    do : str
        The method of the contestants that is measured, where they have several, or their function.
    sizes : tuple of int
        Widths of all layers.
    activation : {"sigmoid", "relu"}
        The activation of hidden layers.
    batch : int
        Samples per update, or per call.
    dtype : {"float32", "float64"}
        The dtype of parameters, data and computations.
    optimizer : {"sgd", "momentum", "adam"}
        See `accelnn.bench.contestants.training.OPTIMIZERS`.
    data : {"mnist", "5k", "gaussian", "8x8", "table"}
        See `accelnn.bench.contestants.data`.
    device : {"cpu", "cuda"}
        Where contestants compute, if they support both.
    isa : {"native", "avx2"}
        The vector instructions: all that the processor has, or AVX2 alone.
    loaded : bool
        Whether another process keeps each core busy.
    epochs : int
        Of a fit of an estimator.
    few, many : int
        Units of work in the two runs whose slope is the time; see `seconds_per_unit`.
    budget : float
        The approximate time of a repeat in seconds; `few` and `many` are reduced to fit.
    threaded : bool
        Whether contestants also run on one thread.
    """

    group: str
    name: str
    contestants: tuple[str, ...] = ()
    do: str = ""
    sizes: tuple[int, ...] = (784, 50, 10)
    activation: ActivationName = "sigmoid"
    batch: int = 100
    dtype: DTypeName = "float32"
    optimizer: str = "sgd"
    data: str = "5k"
    device: str = "cpu"
    isa: str = "native"
    loaded: bool = False
    epochs: int = 10
    few: int = 0
    many: int = 1
    budget: float = 1.0
    threaded: bool = True

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum((a + 1) * b for a, b in pairwise(self.sizes))

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells it from the other cases of a report."""
        return self.group, self.name, self.isa, self.loaded

    def products(self, density: float = 1.0) -> float:
        """Return the floating-point operations of the products that an update needs.

        Those are x W, and the gradients of W and of x in all layers, of which the first needs no
        gradient of x, and only `density` of the others where that fraction of x is not zero.
        """
        first, *others = (a * b for a, b in pairwise(self.sizes))
        return 2.0 * self.batch * (2.0 * density * first + 3.0 * sum(others))
