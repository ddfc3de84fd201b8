"""The architecture of a net, and the layout of its parameters in one flat buffer."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias

from accelnn._cached import cached_property
from accelnn._shown import shown
from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._checks import fraction
from accelnn.formulas._loss import LossFormula
from accelnn.formulas._table import ACTIVATIONS, LOSSES

__all__ = ["ActivationLike", "Loss", "NetSpec", "Parameter", "get_activation"]

ActivationLike: TypeAlias = str | ActivationFormula


class Loss(Protocol):
    """A per-sample loss of the last layer's output `a`; see `accelnn.losses`.

    No formula is divided by the number of samples: the engine takes the mean. A loss that is faster
    to change along one direction than along all outputs may also define
    ``delta_along(a, c, w, t, backend=)``, equal to ``delta(a, c w, t)``.
    """

    @property
    def name(self) -> str:
        """The name of the loss."""

    @property
    def output(self) -> str:
        """The backend op that computes the outputs from `a`."""

    @property
    def classifies(self) -> bool:
        """Whether accuracy is defined for it."""

    def value(self, a: Array, t: Array, *, backend: Any = None) -> Array:
        """Return each sample's loss, of shape (..., n)."""

    def grad(self, a: Array, t: Array, *, backend: Any = None) -> Array:
        """Return the derivative of each sample's loss with respect to `a`."""

    def delta(self, a: Array, d: Array, t: Array, *, backend: Any = None) -> Array:
        """Return ``value(a + d, t) - value(a, t)`` without cancellation."""


class Parameter(NamedTuple):
    """One named array in the flat buffer."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        """Index one past the parameter's last element."""
        return self.start + math.prod(self.shape)


@dataclass(frozen=True, init=False)
class NetSpec:
    """Everything that an engine needs to know about a net except its parameters.

    Parameters
    ----------
    sizes : tuple of int
        Widths of all layers, the input first.
    activations : str or formula, or sequence of them
        One for all hidden layers, or one for each; stored as one formula per hidden layer.
    loss : Loss
        The loss object.
    bias : bool, default True
        Whether layers have a bias.
    dropout : float, default 0.0
        The probability that training drops a hidden unit, in [0, 1).
    label_smoothing : float, default 0.0
        The share ε of the loss's even target e that training mixes with each target t, in [0, 1):
        (1 - ε) t + ε e.
    """

    sizes: tuple[int, ...]
    activations: tuple[ActivationFormula, ...]
    loss: Loss
    bias: bool = True
    dropout: float = 0.0
    label_smoothing: float = 0.0

    def __init__(
        self,
        sizes: tuple[int, ...],
        activations: ActivationLike | Sequence[ActivationLike],
        loss: Loss,
        bias: bool = True,  # noqa: FBT001, FBT002 - a field
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        hidden = max(0, len(sizes) - 2)
        if isinstance(activations, str) or not isinstance(activations, Sequence):
            # Checked even if there is no hidden layer.
            found = (get_activation(activations),) * hidden
        elif len(activations) == hidden:
            found = tuple(map(get_activation, activations))
        else:
            msg = (
                f"activation has {len(activations)} entries, and sizes {list(sizes)} have {hidden} "
                f"hidden layers: pass one for each, or one for all"
            )
            raise ValueError(msg)
        fields = {
            "sizes": sizes,
            "activations": found,
            "loss": loss,
            "bias": bias,
            "dropout": fraction(dropout, "dropout"),
            "label_smoothing": fraction(label_smoothing, "label_smoothing"),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if self.dropout and not hidden:
            msg = f"dropout drops hidden units, and sizes {list(sizes)} have no hidden layer"
            raise ValueError(msg)
        if self.label_smoothing and self.even_target is None:
            known = [name for name, one in LOSSES.items() if one.even_target(2) is not None]
            msg = (
                f"label_smoothing is for the losses {' and '.join(map(repr, known))}, and this "
                f"net's is {loss.name!r}"
            )
            raise ValueError(msg)

    @property
    def activation(self) -> str:
        """The name of the activation, or of each layer's, joined by hyphens, if they differ."""
        names = [formula.name for formula in self.activations] or ["identity"]
        return "-".join(names[:1] if len(set(self.activations)) <= 1 else names)

    @property
    def regularization(self) -> str:
        """Dropout and label smoothing in words, each after a comma, or an empty string."""
        parts = {"dropout": self.dropout, "label smoothing": self.label_smoothing}
        return "".join(f", {name} {p:g}" for name, p in parts.items() if p)

    @cached_property
    def takes_numbers(self) -> bool:
        """Whether targets may be of shape (n,), one number for the single output of a sample."""
        takes_bits = getattr(self.loss, "takes_bits", False)
        return self.sizes[-1] == 1 and (takes_bits or not self.loss.classifies)

    @cached_property
    def even_target(self) -> float | None:
        """What label smoothing mixes with each target, or None where the loss has no such thing."""
        loss = self.loss
        return loss.even_target(self.sizes[-1]) if isinstance(loss, LossFormula) else None

    def is_made_of(self, activations: Collection[str], losses: Collection[str]) -> bool:
        """Return whether all formulas have these names and are of the table's classes."""
        formulas: list[tuple[Any, Collection[str], Mapping[str, Any]]]
        formulas = [(self.loss, losses, LOSSES)]
        formulas += [(formula, activations, ACTIVATIONS) for formula in self.activations]
        return all(
            formula.name in names and type(formula) is type(table[formula.name])
            for formula, names, table in formulas
        )

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters in buffer order: ``W1, b1, W2, ...``; one layer without bias has ``W``."""
        return tuple(self._lay_out())

    @cached_property
    def size(self) -> int:
        """Number of scalars in the flat buffer."""
        return self.parameters[-1].stop

    @cached_property
    def _places(self) -> tuple[tuple[str, slice, tuple[int, ...]], ...]:
        return tuple((p.name, slice(p.start, p.stop), p.shape) for p in self.parameters)

    @cached_property
    def _layer_places(self) -> tuple[tuple[slice, tuple[int, ...], slice | None], ...]:
        places = iter(self._places)
        return tuple((w, shape, next(places)[1] if self.bias else None) for _, w, shape in places)

    def views(self, flat: Array, xp: Any) -> dict[str, Array]:
        """Return the parameters as named views into a flat buffer."""
        # The array's own method, if any, saves the three Python calls of numpy.reshape.
        reshape = getattr(type(flat), "reshape", xp.reshape)
        # A loop, because a comprehension is a call up to Python 3.11.
        found = {}
        for name, place, shape in self._places:
            found[name] = reshape(flat[place], shape) if len(shape) > 1 else flat[place]
        return found

    def layers(self, flat: Array, xp: Any) -> list[tuple[Array, Array | None]]:
        """Return ``(W, b)`` of every layer as views; `b` is None without bias."""
        reshape = getattr(type(flat), "reshape", xp.reshape)
        found = []
        for w, shape, b in self._layer_places:
            found.append((reshape(flat[w], shape), None if b is None else flat[b]))
        return found

    def _lay_out(self) -> Iterator[Parameter]:
        start = 0
        only_layer = len(self.sizes) == 2 and not self.bias  # noqa: PLR2004 - input and output
        for i, (n_in, n_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False), start=1):
            arrays = [("W", (n_in, n_out))] + ([("b", (n_out,))] if self.bias else [])
            for letter, shape in arrays:
                parameter = Parameter(letter if only_layer else f"{letter}{i}", shape, start)
                yield parameter
                start = parameter.stop


def get_activation(activation: ActivationLike) -> ActivationFormula:
    """Return an activation by name, or an activation object unchanged.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor an activation.
    """
    if isinstance(activation, ActivationFormula):
        return activation
    known = ", ".join(map(repr, ACTIVATIONS))
    if not isinstance(activation, str):
        msg = (
            f"an activation is {known} or an object such as accelnn.LeakyReLU(0.2), "
            f"got {shown(activation)}"
        )
        raise TypeError(msg)
    if activation not in ACTIVATIONS:
        msg = f"unknown activation {shown(activation)}; known activations are {known}"
        raise ValueError(msg)
    return ACTIVATIONS[activation]
