"""The architecture of a net, and where its parameters lie in one flat buffer."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from accelnn._typing import Array

__all__ = ["ACTIVATIONS", "Loss", "NetSpec", "Parameter"]

# Each names three ops of a backend: itself, its `_grad` and its `_delta`.
ACTIVATIONS = ("sigmoid", "relu", "tanh")


class Loss(Protocol):
    """A loss of the last layer's output `a`; see `accelnn.losses` for the formulas.

    One that can tell the changes by many moves along one direction faster than by moves of all
    outputs may also have ``delta_along(a, c, w, t, backend=)``, which is ``delta(a, c w, t)``.
    """

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def output(self) -> str:
        """Name of the backend op that makes outputs of `a`."""

    @property
    def classifies(self) -> bool:
        """Whether the largest output names a class."""

    def value(self, a: Array, t: Array, *, backend: Any = None) -> Array:
        """Return the loss."""

    def grad(self, a: Array, t: Array, *, backend: Any = None) -> Array:
        """Return the derivative of the loss with respect to `a`."""

    def delta(self, a: Array, d: Array, t: Array, *, backend: Any = None) -> Array:
        """Return ``value(a + d, t) - value(a, t)`` without cancellation."""


class Parameter(NamedTuple):
    """One named array inside the flat buffer."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """Index one past the parameter's last element."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True)
class NetSpec:
    """Everything an engine needs to know about a net, except its numbers.

    Parameters
    ----------
    sizes : tuple of int
        Widths of all layers, the input first.
    activation : str
        Name of the backend op between layers; the ops ``<name>_grad`` and ``<name>_delta`` are
        its derivative and its exact difference.
    loss : Loss
        The loss object.
    bias : bool, default True
        Whether layers have a bias.
    """

    sizes: tuple[int, ...]
    activation: str
    loss: Loss
    bias: bool = True

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in buffer order: ``W1, b1, W2, ...``; one layer without bias has ``W``."""
        return tuple(self._lay_out())

    @property
    def size(self) -> int:
        """Number of scalars in the flat buffer."""
        return self.parameters[-1].stop

    def views(self, flat: Array, xp: Any) -> dict[str, Array]:
        """Return the parameters as named views into a flat buffer."""
        return {p.name: xp.reshape(flat[p.start : p.stop], p.shape) for p in self.parameters}

    def layers(self, flat: Array, xp: Any) -> list[tuple[Array, Array | None]]:
        """Return ``(W, b)`` of every layer as views; `b` is None without bias."""
        arrays = list(self.views(flat, xp).values())
        if not self.bias:
            return [(w, None) for w in arrays]
        return list(zip(arrays[::2], arrays[1::2], strict=True))

    def _lay_out(self) -> Iterator[Parameter]:
        start = 0
        only_layer = len(self.sizes) == 2 and not self.bias  # noqa: PLR2004 - input and output
        for i, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False), start=1):
            arrays = [("W", (n_in, n_out))] + ([("b", (n_out,))] if self.bias else [])
            for letter, shape in arrays:
                parameter = Parameter(letter if only_layer else f"{letter}{i}", shape, start)
                yield parameter
                start = parameter.stop
