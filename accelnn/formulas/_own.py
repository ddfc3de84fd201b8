"""Activations and losses that a user makes of scalar functions."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from accelnn._typing import Array
from accelnn.formulas._activation import ActivationFormula, Initializer
from accelnn.formulas._loss import LossFormula

__all__ = ["Activation", "Loss", "described_own"]

# Where slopes are checked, how long the imaginary and the real steps are, and what they may differ.
POINTS = tuple(float(point) for point in range(-4, 5))
IMAGINARY, REAL = 1e-50, 1e-3
RTOL, ATOL = 1e-6, 1e-9
# Of a target, where those of a loss are checked.
TARGET = 0.3


class _Own:
    """A name and two scalar functions, of which this is the value."""

    kind: ClassVar[str]

    def __init__(self, name: str, value: Callable[..., Any], slope: Callable[..., Any]) -> None:
        for what, given in (("value", value), ("slope", slope)):
            if not callable(given):
                msg = f"{what} must be a function of plain numbers, got {given!r}"
                raise TypeError(msg)
        if not isinstance(name, str) or not name:
            msg = f"name must be a text, got {name!r}"
            raise TypeError(msg)
        self.name = name
        self._functions = value, slope

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"accelnn.{type(self).__name__}({self.name!r}, ...)"

    def _key(self) -> tuple[Any, ...]:
        return self.name, *self._functions

    def described(self) -> dict[str, Any]:
        """Return what JSON can say of it: where its functions can be imported.

        Raises
        ------
        TypeError
            If they cannot, as a lambda.
        """
        found: dict[str, Any] = {"name": self.name, "kind": self.kind}
        for what, function in zip(("value", "slope"), self._functions, strict=True):
            module = getattr(function, "__module__", None)
            path = f"{module}:{getattr(function, '__qualname__', '')}"
            if module in (None, "__main__") or _imported(path) is not function:
                msg = (
                    f"{self!r} cannot be saved: its {what}, {path}, cannot be imported. Define it "
                    f"with def in a module"
                )
                raise TypeError(msg)
            found[what] = path
        return found


class Activation(_Own, ActivationFormula):
    """An activation of one's own, from two functions of one number.

    Two activations are equal if their names and functions are; there is no register.

    Parameters
    ----------
    name : str
        What errors and files call it.
    value, slope : callable
        f(x) and f'(x) of a float, in plain Python and `math`.
    initializer : {"xavier", "he"}, default "xavier"
        How the weights are drawn whose outputs it takes.

    Raises
    ------
    ValueError
        If the slope is not that of the value at one of nine points from -4 to 4, by a complex step
        where `value` takes complex numbers, and else by central differences.
    TypeError
        If one of the two is no function, or a backend whose arrays are on a device is to call it.

    Notes
    -----
    On NumPy it is called for one number after another, which is slow and said once; on Numba in a
    compiled loop. Its change is ``value(x + d) - value(x)``.

    Examples
    --------
    >>> import math, accelnn
    >>> def bent(x):
    ...     return (math.sqrt(x * x + 1) - 1) / 2 + x
    >>> def slope(x):
    ...     return x / (2 * math.sqrt(x * x + 1)) + 1
    >>> accelnn.MLP([4, 3, 2], activation=accelnn.Activation("bent", bent, slope), rng=0)
    <MLP 4-3-2, bent, cross_entropy, float32, 23 parameters on numpy>
    """

    kind = "activation"

    def __init__(
        self,
        name: str,
        value: Callable[[float], float],
        slope: Callable[[float], float],
        *,
        initializer: Initializer = "xavier",
    ) -> None:
        super().__init__(name, value, slope)
        if initializer not in ("xavier", "he"):
            msg = f"initializer must be 'xavier' or 'he', got {initializer!r}"
            raise ValueError(msg)
        self.initializer = initializer
        _check_slope(repr(self), value, slope)

    def _key(self) -> tuple[Any, ...]:
        return (*super()._key(), self.initializer)

    def described(self) -> dict[str, Any]:
        """See `_Own.described`."""
        return {**super().described(), "initializer": self.initializer}

    def _value(self, ops: Any, x: Array) -> Array:
        return ops.map(self._functions[0], x)

    def _slope(self, ops: Any, x: Array) -> Array:
        return ops.map(self._functions[1], x)


class Loss(_Own, LossFormula):
    """A loss of one's own, from two functions of one output and its target.

    Parameters
    ----------
    name : str
        What errors and files call it.
    value, slope : callable
        l(a, t) of two floats, and its derivative by `a`, in plain Python and `math`. The loss of a
        sample is the sum over its outputs.
    output : str, default "identity"
        The op that makes outputs of `a`, such as "sigmoid".

    Raises
    ------
    ValueError, TypeError
        As `Activation` does.

    Examples
    --------
    >>> import math, accelnn
    >>> def value(a, t):
    ...     return math.log(math.cosh(a - t))
    >>> def slope(a, t):
    ...     return math.tanh(a - t)
    >>> accelnn.MLP([4, 3, 2], loss=accelnn.Loss("log_cosh", value, slope), rng=0)
    <MLP 4-3-2, sigmoid, log_cosh, float32, 23 parameters on numpy>
    """

    kind = "loss"

    def __init__(
        self,
        name: str,
        value: Callable[[float, float], float],
        slope: Callable[[float, float], float],
        output: str = "identity",
    ) -> None:
        super().__init__(name, value, slope)
        self.output = output
        _check_slope(repr(self), lambda a: value(a, TARGET), lambda a: slope(a, TARGET))

    def _key(self) -> tuple[Any, ...]:
        return (*super()._key(), self.output)

    def described(self) -> dict[str, Any]:
        """See `_Own.described`."""
        return {**super().described(), "output": self.output}

    def _value(self, ops: Any, a: Array, t: Array) -> Array:
        return ops.xp.sum(ops.map(self._functions[0], a, t), axis=-1)

    def _grad(self, ops: Any, a: Array, t: Array) -> Array:
        return ops.map(self._functions[1], a, t)


def described_own(description: Mapping[str, Any]) -> Activation | Loss:
    """Return what `described` described."""
    value, slope = (_imported(description[what]) for what in ("value", "slope"))
    for what, function in (("value", value), ("slope", slope)):
        if function is None:
            msg = f"the {what} of {description['name']!r}, {description[what]}, cannot be imported"
            raise ValueError(msg)
    if description["kind"] == "loss":
        return Loss(description["name"], value, slope, description["output"])
    name, initializer = description["name"], description["initializer"]
    return Activation(name, value, slope, initializer=initializer)


def _imported(path: str) -> Any:
    """Return what ``module:name`` is, or None."""
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return found


def _check_slope(what: str, value: Callable[..., Any], slope: Callable[..., Any]) -> None:
    for x in POINTS:
        found, expected = float(slope(x)), _difference(value, x)
        if not math.isclose(found, expected, rel_tol=RTOL, abs_tol=ATOL):
            msg = (
                f"the slope of {what} is {found:.10g} at {x:g}, but its value changes by "
                f"{expected:.10g} times a small step there"
            )
            raise ValueError(msg)


def _difference(value: Callable[..., Any], x: float) -> float:
    """Return the derivative by a complex step, or by central differences of the fourth order."""
    try:
        stepped = value(complex(x, IMAGINARY))
    except (TypeError, ValueError):
        stepped = None
    if isinstance(stepped, complex):
        return stepped.imag / IMAGINARY
    h = REAL
    near = value(x + h) - value(x - h)
    far = value(x + 2 * h) - value(x - 2 * h)
    return float(8.0 * near - far) / (12.0 * h)
