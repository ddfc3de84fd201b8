"""The task of a contestant, which can be sent as JSON."""

from dataclasses import dataclass

from accelnn._typing import DTypeName
from accelnn.formulas._table import ActivationName

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """The net and the data of a measurement.

    Attributes
    ----------
    sizes : tuple of int
        Widths of all layers.
    activation : {"sigmoid", "relu"}
        The activation of hidden layers.
    batch : int
        Samples per update, or per gradient.
    dtype : {"float32", "float64"}
        The dtype of parameters, data and computations.
    optimizer : {"sgd", "momentum", "adam"}
        See `accelnn.bench.jobs.training.OPTIMIZERS`.
    data : {"mnist", "5k", "gaussian"}
        See `accelnn.bench.jobs.data`.
    function : {"", "rosenbrock", "few"}
        A function of `accelnn.bench.jobs.black_box` instead of a net; `sizes` then has one number.
    device : {"cpu", "cuda"}
        Where contestants compute, if they support both.
    """

    sizes: tuple[int, ...] = (784, 50, 10)
    activation: ActivationName = "sigmoid"
    batch: int = 100
    dtype: DTypeName = "float32"
    optimizer: str = "sgd"
    data: str = "5k"
    function: str = ""
    device: str = "cpu"

    def __post_init__(self) -> None:
        # JSON has lists, but no tuples.
        object.__setattr__(self, "sizes", tuple(self.sizes))

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum((a + 1) * b for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True))
