"""A net's parameters: a dictionary of views into one flat buffer."""

from typing import Any, NoReturn, Self

from accelnn._shown import shown
from accelnn._typing import Array, ArrayLike
from accelnn._validation import as_floating
from accelnn.backends import Backend

__all__ = ["Parameters"]


class Parameters(dict[str, Array]):
    """Named arrays that may be edited and assigned, but neither added nor removed.

    Assignment copies the value into the live array, so that views of it, and the engine, see it.
    """

    def __init__(self, views: dict[str, Array], backend: Backend) -> None:
        super().__init__(views)
        self._backend = backend

    def __setitem__(self, key: str, value: ArrayLike) -> None:
        self.update({key: value})

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Assign several parameters: all of them, or none if one does not fit."""
        with self._backend.current():
            for key, value in [(k, self._checked(k, v)) for k, v in dict(*args, **kwargs).items()]:
                # What `params[key] -= step` assigns is the live array, changed already.
                if value is not self[key]:
                    self[key][...] = value

    def _checked(self, key: str, value: ArrayLike) -> Array:
        if key not in self:
            msg = f"unknown parameter {shown(key)}; this net has {', '.join(map(repr, self))}"
            raise KeyError(msg)
        live = self[key]
        array = as_floating(self._backend, value, f"params[{shown(key)}]", live.dtype)
        if tuple(array.shape) != tuple(live.shape):
            msg = (
                f"params[{shown(key)}] has shape {tuple(live.shape)}; got a value of shape "
                f"{tuple(array.shape)}"
            )
            raise ValueError(msg)
        return array

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Array:  # noqa: ARG002 - dict's signature
        """Return a parameter; there is never one to add."""
        return self[key]

    def _refuse(self, *_args: object) -> NoReturn:
        msg = "the parameters of a net cannot be removed; they belong to its architecture"
        raise TypeError(msg)

    def __reduce__(self) -> tuple[type[dict[str, Array]], tuple[dict[str, Array]]]:
        # Copies and pickles are plain dictionaries, because only a net has live parameters.
        return dict, (dict(self),)

    __delitem__ = pop = popitem = clear = _refuse
