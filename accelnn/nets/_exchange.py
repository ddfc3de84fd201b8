"""The parameters of a net by torch's names, in torch's layout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._validation import as_floating
from accelnn.backends import get_backend

if TYPE_CHECKING:
    from accelnn.nets._net import Net

__all__ = ["load_state_dict", "state_dict"]

# How many keys an error lists.
FEW = 5


def state_dict(net: Net) -> dict[str, np.ndarray]:
    """Return copies of the parameters; see `Net.state_dict`."""
    arrays = {name: net.backend.to_numpy(array) for name, array in net.params.items()}
    return {key: np.array(arrays[name].T, order="C") for name, key, _ in _names(net)}


def load_state_dict(net: Net, state: Mapping[str, Any]) -> None:
    """Assign all parameters, or none; see `Net.load_state_dict`."""
    if not isinstance(state, Mapping):
        msg = f"state must be a dictionary as net.state_dict() is, got a {type(state).__name__}"
        raise TypeError(msg)
    wanted = {key: (name, shape) for name, key, shape in _names(net)}
    problems = [
        f"{what} {_listed(keys)}"
        for what, keys in (
            ("missing", [key for key in wanted if key not in state]),
            ("unexpected", [key for key in state if key not in wanted]),
        )
        if keys
    ]
    host, arrays = get_backend("numpy"), {}
    for key, (name, shape) in wanted.items():
        if key in state:
            value = _on_host(net, state[key])
            array = as_floating(host, value, f"state[{key!r}]", net.dtype)
            if array.shape != shape:
                problems.append(f"{key!r} has shape {array.shape} in place of {shape}")
            # Copied, because it may be a part of this net that is about to change.
            arrays[name] = np.array(array.T, order="C")
    if problems:
        msg = f"the state does not fit {net!r}: {'; '.join(problems[:FEW])}"
        raise ValueError(msg)
    with net.backend.current():
        net.params.update({name: net.backend.asarray(array) for name, array in arrays.items()})


def _names(net: Net) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Yield the name, torch's key and torch's shape of each parameter.

    They are those of a Sequential in which an activation follows each Linear but the last.
    """
    for name, shape, _ in net.spec.parameters:
        kind = {"W": "weight", "b": "bias"}[name[0]]
        # The only layer without biases has no number.
        yield name, f"{2 * int(name[1:] or 1) - 2}.{kind}", shape[::-1]


def _on_host(net: Net, value: Any) -> np.ndarray:
    """Return an array of the net's backend, or of any library on the host, as NumPy's."""
    if net.backend.owns(value):
        return net.backend.to_numpy(value)
    # A parameter of torch does not give its memory away before.
    value = value.detach() if hasattr(value, "detach") else value
    array: np.ndarray = get_backend("numpy").asarray(value)
    return array


def _listed(keys: Iterable[Any]) -> str:
    """Return the first keys, in words."""
    shown = [f"{key!r:.80}" for key in keys]
    more = [f"{len(shown) - FEW:,} more"] if len(shown) > FEW else []
    return ", ".join(shown[:FEW] + more)
