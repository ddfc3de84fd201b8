"""The base class of update rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._shown import shown
from accelnn._typing import Array, Schedule
from accelnn._underflow import rounds_to_zero
from accelnn.formulas._checks import boolean, check_parameters, not_negative
from accelnn.formulas._ops import ops_of

__all__ = ["UpdateRule"]

# Axes of a bias.
BIAS_AXES = 1


@dataclass(frozen=True, kw_only=True, repr=False)
class UpdateRule:
    """A frozen configuration of how parameters follow their gradients; it holds no state.

    A subclass is a frozen dataclass whose fields are the rule's numbers, `lr` first; it names the
    arrays of its state, which start at zero and are as large as the parameters, and gives `_apply`.

    Parameters
    ----------
    weight_decay : float, default 0.0
        λ: λ θ is added to the gradient of weights, as the derivative of ½ λ Σ θ² would be.
    decay_biases : bool, default False
        Whether λ is for biases too, arrays of one axis, as in torch.

    Attributes
    ----------
    state_names : tuple of str
        The arrays of its state.
    """

    weight_decay: float = 0.0
    decay_biases: bool = False
    if TYPE_CHECKING:

        @property
        def lr(self) -> float | Schedule:
            """Learning rate, or its schedule, a field of every subclass."""

        @property
        def state_names(self) -> tuple[str, ...]:
            """The arrays of its state, an attribute of the class."""
    else:
        state_names = ()

    def __post_init__(self) -> None:
        check_parameters(self, weight_decay=not_negative, decay_biases=boolean)

    def __repr__(self) -> str:
        """Return the call that makes it, without what is the default of all rules."""
        common = {f.name: f.default for f in fields(type(self)) if f.name in COMMON}
        shown = [f.name for f in fields(self) if f.name not in COMMON]
        shown += [name for name in COMMON if getattr(self, name) != common[name]]
        return f"{type(self).__name__}({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"

    @property
    def slots(self) -> int:
        """Number of arrays of its state."""
        return len(self.state_names)

    @property
    def updates_itself(self) -> bool:
        """Whether a subclass overrides `update`: it then takes no learning rate but its own."""
        return type(self).update is not UpdateRule.update

    def init(self, params: Any) -> dict[str, Any]:
        """Return the state of a loop of one's own, for `update` to change.

        Parameters
        ----------
        params : array, or mapping or sequence of arrays
            What is trained, such as a net's `params`.

        Returns
        -------
        dict
            ``"updates"``, how many were done, and for each of `state_names` what has the form of
            `params`, filled with zeros.
        """

        def zeros(like: Array) -> Array:
            return _namespace(like).zeros_like(like)

        def fresh() -> Any:
            if isinstance(params, Mapping):
                return {name: zeros(array) for name, array in params.items()}
            return [zeros(array) for array in params] if _is_sequence(params) else zeros(params)

        return {"updates": 0, **{name: fresh() for name in self.state_names}}

    def update(
        self, params: Any, grads: Any, state: Any = None, step: int | None = None, xp: Any = None
    ) -> None:
        """Do one update of parameters and state, in place.

        Parameters
        ----------
        params, grads : array, or mapping or sequence of arrays
            What is trained, and its gradient in the same form.
        state : dict
            What `init` returned for these parameters.
        step, xp
            For subclasses that engines call with a sequence of state arrays in the place of
            `state`, the number of the update, and the array library.

        Raises
        ------
        TypeError
            If `state` is none of this rule's.
        ValueError
            If the gradients have another form than the parameters.

        Examples
        --------
        >>> import numpy as np, accelnn
        >>> params, rule = {"W": np.array([[1.0]])}, accelnn.Momentum(0.1)
        >>> state = rule.init(params)
        >>> for _ in range(2):
        ...     rule.update(params, {"W": 2.0 * params["W"]}, state)
        >>> params
        {'W': array([[0.46]])}
        """
        if step is not None:
            if not self.updates_itself:
                decayed = 1.0 if self.decay_biases or params.ndim > BIAS_AXES else 0.0
                self.apply(params, grads, state, step, xp, decayed=decayed)
                return
            if self.weight_decay > 0.0:
                msg = (
                    f"{type(self).__name__} updates on its own, so that weight_decay has no part "
                    f"in it: leave it out, and add the decay to grads"
                )
                raise TypeError(msg)
            self._apply(params, grads, state, self._rate(step), step, xp)
            return
        if not isinstance(state, dict) or not {"updates", *self.state_names} <= state.keys():
            got = "" if state is None else f", got {type(state).__name__}: {shown(state)}"
            msg = (
                f"state must be what {type(self).__name__}.init(params) returned{got}: make it "
                f"once before the loop, state = rule.init(params), and pass it to every "
                f"rule.update(params, grads, state)"
            )
            raise TypeError(msg)
        matched = list(_matched(params, grads, *(state[name] for name in self.state_names)))
        # Before anything is changed.
        for p, *others in matched:
            _require_updatable(p, others)
        rate = self._rate(state["updates"] + 1)
        state["updates"] += 1
        with rounds_to_zero():
            for p, g, *slots in matched:
                decays = self.decay_biases or p.ndim > BIAS_AXES
                decayed = 1.0 if decays else 0.0
                self.apply(p, g, slots, state["updates"], _namespace(p), rate=rate, decayed=decayed)

    def apply(
        self,
        params: Array,
        grads: Array,
        slots: Sequence[Array],
        k: int,
        xp: Any,
        *,
        rate: float | None = None,
        decayed: Any = 1.0,
        scratch: Array | None = None,
    ) -> None:
        """Do update number `k`, from 1, of one array in place, for an engine.

        Parameters
        ----------
        params, grads : array
            Of one shape.
        slots : sequence of array
            The state, in the order of `state_names`.
        k : int
            The number of the update.
        xp : namespace
            The array library.
        rate : float, optional
            The learning rate; by default that of `lr`.
        decayed : float or array
            1 where weights decay, and 0 where they do not.
        scratch : array, optional
            Of the same shape and dtype, for what is in between.
        """
        rate = self._rate(k) if rate is None else rate
        if self.weight_decay > 0.0:
            grads = self._decay(params, grads, self.weight_decay * decayed, rate)
        self._apply(params, grads, slots, rate, k, xp, scratch)

    def rates(self, done: int, count: int) -> np.ndarray:
        """Return the learning rates of updates.

        Parameters
        ----------
        done : int
            How many updates precede them.
        count : int
            How many they are.

        Returns
        -------
        numpy.ndarray of float64, of shape (count,)

        Raises
        ------
        TypeError, ValueError
            If a schedule returns what is no finite number of at least 0.
        """
        if not callable(self.lr):
            return np.full(count, self.lr)
        found = np.empty(count)
        for k in range(done, done + count):
            try:
                found[k - done] = not_negative(self.lr(k), f"lr({k})")
            except Exception as error:
                error.add_note(f"lr is the schedule {self.lr!r}, called with k={k}")
                raise
        return found

    def coefficients(self, rate: Any, k: Any) -> tuple[Any, Any]:
        """Return the two numbers of an update's formula that depend on which update it is.

        Parameters
        ----------
        rate : float or numpy.ndarray
            The learning rate of each update.
        k : int or numpy.ndarray
            Its number, from 1.

        Returns
        -------
        tuple of float or numpy.ndarray
            By default the rate, and 1.
        """
        return rate, 1.0

    def _rate(self, k: int) -> float:
        """Return the learning rate of update number `k`, from 1, as a Python float."""
        return self.rates(k - 1, 1).item() if callable(self.lr) else self.lr

    def _decay(self, params: Array, grads: Array, decay: Any, rate: float) -> Array:
        """Return the gradient with which weights decay."""
        return grads + decay * params

    def _apply(
        self,
        params: Array,
        grads: Array,
        slots: Sequence[Array],
        rate: float,
        k: int,
        xp: Any,
        scratch: Array | None = None,
    ) -> None:
        raise NotImplementedError


# What all rules have.
COMMON = ("weight_decay", "decay_biases")


def _namespace(array: Array) -> Any:
    """Return the library of an array, whichever backend is active."""
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    return ops_of(None, array).xp


def _require_updatable(p: Array, others: Sequence[Array]) -> None:
    """Refuse what cannot be changed in place, and gradients or state of another shape."""
    if not hasattr(p, "shape") or isinstance(p, np.generic):
        msg = f"parameters are arrays, which are changed in place; got {shown(p)}"
        raise TypeError(msg)
    if "float" not in str(p.dtype):
        msg = f"parameters are floating arrays; got dtype {p.dtype}"
        raise TypeError(msg)
    if isinstance(p, np.ndarray) and not p.flags.writeable:
        msg = f"the parameter of shape {tuple(p.shape)} is read-only; updates change it in place"
        raise ValueError(msg)
    for other in others:
        shape = tuple(getattr(other, "shape", ()))
        if shape != tuple(p.shape):
            msg = f"a parameter has shape {tuple(p.shape)}, and its gradient or state {shape}"
            raise ValueError(msg)


def _is_sequence(params: Any) -> bool:
    return isinstance(params, list | tuple)


def _matched(params: Any, *others: Any) -> Iterator[tuple[Array, ...]]:
    """Yield each parameter with what has its place in mappings or sequences of the same form."""
    if isinstance(params, Mapping):
        for other in others:
            if not isinstance(other, Mapping) or not params.keys() <= other.keys():
                missing = sorted(params.keys() - getattr(other, "keys", set)(), key=str)
                msg = f"params has {sorted(params, key=str)}; gradients or state lack {missing}"
                raise ValueError(msg)
        for name in params:
            yield params[name], *(other[name] for other in others)
    elif _is_sequence(params):
        for other in others:
            if not _is_sequence(other) or len(other) != len(params):
                msg = f"params are {len(params)} arrays; gradients or state are {shown(other)}"
                raise ValueError(msg)
        yield from zip(params, *others, strict=True)
    else:
        yield params, *others
