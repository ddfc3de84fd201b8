"""How nets are shown to people, and given to files and other libraries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from accelnn._shown import shown
from accelnn._typing import ArrayLike, DTypeName
from accelnn._validation import as_floating
from accelnn.backends import Backend, NetSpec, get_backend
from accelnn.nets._parameters import Parameters

if TYPE_CHECKING:
    from accelnn.nets._net import Net

__all__ = ["Exchange"]

# How many keys an error lists.
FEW = 5


class Exchange:
    """The methods of a net that show it, or hand it over.

    What they need is imported in them, because most programs do without, and json and what it
    brings would slow down every import of accelnn.
    """

    backend: Backend
    spec: NetSpec
    _dtype: DTypeName
    _params: Parameters

    def summary(self) -> str:
        """Return a table of the layers for people to read: ``print(net.summary())``."""
        from accelnn.nets._summary import summary

        return summary(cast("Net", self))

    def _repr_html_(self) -> str:
        """Show the table in a notebook."""
        from accelnn.nets._summary import summary_html

        return summary_html(cast("Net", self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write architecture and parameters to a ``.safetensors`` file; see `accelnn.load`.

        Parameters
        ----------
        path : path-like
            Written beside itself first and then renamed, so that an interruption leaves an
            existing file as it was. Its mode and, where permitted, its owner stay.

        Raises
        ------
        TypeError
            If the net's class or its loss is not one of accelnn's own.
        OSError
            If the folder is missing, `path` is a folder, a FIFO, a device or a socket, or the file
            cannot be written.
        """
        from accelnn.nets._files import save

        save(cast("Net", self), path)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return copies of the parameters as NumPy arrays, by torch's names and in its layout.

        A ``torch.nn.Sequential`` in which an activation follows each ``Linear`` but the last takes
        them, after ``torch.from_numpy``: ``0.weight`` of shape (outputs, inputs), ``0.bias``,
        ``2.weight``, and so on.
        """
        to_numpy, params = self.backend.to_numpy, self._params
        names = self._names()
        return {key: np.array(to_numpy(params[name]).T, order="C") for name, key, _ in names}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Assign all parameters by torch's names, or none if one does not fit.

        Parameters
        ----------
        state : mapping of str to array_like
            As `state_dict` returns. Values are arrays of the net's backend, or of any library in
            the memory of the host, such as torch's tensors, and are cast to the net's dtype.

        Raises
        ------
        ValueError
            If a parameter is missing, unexpected or of another shape.
        TypeError
            If a value does not hold real numbers, is on a device or in bfloat16.
        """
        if not isinstance(state, Mapping):
            msg = f"state must be a dictionary as net.state_dict() is, got a {type(state).__name__}"
            raise TypeError(msg)
        wanted = {key: (name, shape) for name, key, shape in self._names()}
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
                value = self._on_host(state[key])
                array = as_floating(host, value, f"state[{key!r}]", self._dtype)
                if array.shape != shape:
                    problems.append(f"{key!r} has shape {array.shape} in place of {shape}")
                # Copied, because it may be a part of this net that is about to change.
                arrays[name] = np.array(array.T, order="C")
        if problems:
            msg = f"the state does not fit {self!r}: {'; '.join(problems[:FEW])}"
            raise ValueError(msg)
        with self.backend.current():
            self._params.update(
                {name: self.backend.asarray(array) for name, array in arrays.items()}
            )

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write what `predict` computes to an ONNX file, from ``x`` of shape (n, inputs) to ``y``.

        Parameters
        ----------
        path : path-like
            Replaced whole, as by `save`.

        Raises
        ------
        TypeError
            If an activation is not one of accelnn's own.
        ValueError
            If the parameters take 2 GiB or more.
        OSError
            As `save` does.
        accelnn.errors.MissingDependencyError
            If onnx is not installed.
        """
        from accelnn.nets._onnx import write_onnx

        write_onnx(cast("Net", self), path)

    def _names(self) -> Iterator[tuple[str, str, tuple[int, ...]]]:
        """Yield the name, torch's key and torch's shape of each parameter.

        They are those of a Sequential in which an activation follows each Linear but the last.
        """
        for name, shape, _ in self.spec.parameters:
            kind = {"W": "weight", "b": "bias"}[name[0]]
            # The only layer without biases has no number.
            yield name, f"{2 * int(name[1:] or 1) - 2}.{kind}", shape[::-1]

    def _on_host(self, value: Any) -> np.ndarray:
        """Return an array of the net's backend, or of any library on the host, as NumPy's."""
        if self.backend.owns(value):
            return self.backend.to_numpy(value)
        # A parameter of torch does not give its memory away before.
        value = value.detach() if hasattr(value, "detach") else value
        array: np.ndarray = get_backend("numpy").asarray(value)
        return array


def _listed(keys: Iterable[Any]) -> str:
    """Return the first keys, in words."""
    names = [shown(key) for key in keys]
    more = [f"{len(names) - FEW:,} more"] if len(names) > FEW else []
    return ", ".join(names[:FEW] + more)
