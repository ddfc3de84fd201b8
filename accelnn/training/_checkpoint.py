"""Runs on disk, for `fit` to go on after the process has ended."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from accelnn import checkpoint as files
from accelnn._atomic import check_replaceable
from accelnn._shown import shown
from accelnn.backends import get_backend
from accelnn.nets._arguments import SEEDS, UPDATES
from accelnn.training._history import CURVES, History
from accelnn.training._hooks import States
from accelnn.training._plan import Generator
from accelnn.training._resume import Ending

if TYPE_CHECKING:
    from accelnn.training._run import Run

__all__ = ["Checkpoint", "PathLike", "Saver", "check_path", "states_of"]

PathLike: TypeAlias = str | os.PathLike[str]

# How a run is described in a file.
KEY = "accelnn_training"
FORMAT = 2
# What is described by a number.
TOLD = ("offset", "asked", "is_over", "is_stopped", "called", "finished")
# The words in the buffer of a generator, in which its place must be: NumPy does not look.
PLACES = {"pos": 624, "buffer_pos": 4}


def _whole(least: int, most: int = sys.maxsize) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_seed(value: Any) -> bool:
    return value is None or _whole(0, SEEDS - 1)(value)


def _are_plain(values: Any) -> bool:
    plain = str | int | float | None
    return isinstance(values, dict) and all(isinstance(value, plain) for value in values.values())


def _are_states(states: Any) -> bool:
    return isinstance(states, list) and all(
        isinstance(one, list)
        and len(one) == 2  # noqa: PLR2004 - a name and a state
        and isinstance(one[0], str)
        and isinstance(one[1], dict | None)
        for one in states
    )


# What the description of a run may say.
FIELDS: dict[str, Callable[[Any], bool]] = {
    "same": _are_plain,
    "updates": _whole(0),
    "position": _whole(0),
    "dropout_seed": _is_seed,
    "batches_per_epoch": _whole(1),
    "offset": _whole(0),
    "asked": _whole(1),
    "is_over": _is_bool,
    "is_stopped": _is_bool,
    "called": _whole(-1),
    "finished": _whole(-1),
    "callbacks": _are_states,
}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A run as it was after some update.

    Attributes
    ----------
    history : History
        Of the run so far, with its ending.
    params : numpy.ndarray
        The net's buffer.
    last : numpy.ndarray or None
        The net's buffer after the last update, from which a run goes on, if a callback has restored
        other parameters when the run ended.
    first : Generator
        Before anything was drawn.
    offset : int
        Updates that had been done, before the run, in its first epoch.
    asked : int
        Updates asked for.
    is_over : bool
        Whether the run has ended as it was to: all updates are done, or something stopped it.
    is_stopped : bool
        Whether a callback stopped it, if only after the last update.
    called, finished : int
        After how many updates callbacks were called last, and an epoch's end was done with.
    states : sequence of tuple
        The states of the callbacks, before they were told of the end.
    """

    history: History
    params: np.ndarray
    first: Generator
    offset: int
    asked: int
    is_over: bool
    is_stopped: bool
    called: int
    finished: int
    states: States
    last: np.ndarray | None = None

    def ended_with(self, params: np.ndarray) -> Checkpoint:
        """Return the checkpoint of the same run after its callbacks were told of the end."""
        is_other = not np.array_equal(params, self.params, equal_nan=True)
        return replace(self, params=params, last=self.params) if is_other else self

    @property
    def ending(self) -> Ending:
        """Where the run was."""
        if self.history.ending is None:
            msg = "a checkpoint has an ending"
            raise AssertionError(msg)
        return self.history.ending

    def write(self, path: PathLike) -> None:
        """Write it to a file, which is replaced when the new one is whole."""
        history, ending = self.history, self.ending
        curves = {name: np.array(getattr(history, name)) for name in ("loss", *CURVES)}
        slots = np.zeros((len(ending.slots), self.params.size), self.params.dtype)
        for kept, slot in zip(slots, ending.slots, strict=True):
            kept[...] = ending.backend.to_numpy(slot)
        arrays = {
            "params": self.params,
            "slots": slots,
            "evaluated_at": np.array(history.evaluated_at, np.int64),
            **curves,
        }
        if self.last is not None:
            arrays["last"] = self.last
        states = []
        for place, (name, state) in enumerate(self.states):
            plain = None
            if state is not None:
                own = {key: v for key, v in state.items() if isinstance(v, np.ndarray)}
                arrays |= {f"callback.{place}.{key}": array for key, array in own.items()}
                plain = {key: value for key, value in state.items() if key not in own}
            states.append([name, plain])
        description = {
            "format": FORMAT,
            "same": ending.same,
            "updates": ending.updates,
            "position": ending.position,
            "dropout_seed": ending.dropout_seed,
            "generator": _plain(ending.generator),
            "first": _plain(self.first),
            "batches_per_epoch": history.batches_per_epoch,
            "offset": self.offset,
            "asked": self.asked,
            "is_over": self.is_over,
            "is_stopped": self.is_stopped,
            "called": self.called,
            "finished": self.finished,
            "callbacks": states,
        }
        files.write(path, arrays, KEY, description)

    @classmethod
    def read(cls, path: PathLike) -> Checkpoint:
        """Read what `write` has written, or raise ValueError."""
        arrays, told = files.read(path, KEY, "training run")
        with _named(path):
            return cls._of(arrays, told)

    @classmethod
    def _of(cls, arrays: dict[str, np.ndarray], told: Any) -> Checkpoint:
        if told["format"] != FORMAT:
            msg = f"its format is {shown(told['format'])}, and this version reads {FORMAT}"
            raise ValueError(msg)
        _check(arrays, told)
        if told["generator"][0] != told["first"][0]:
            msg = f"its generators are {shown(told['generator'][0])} and {shown(told['first'][0])}"
            raise ValueError(msg)
        numpy = get_backend("numpy")
        ending = Ending(
            told["same"],
            told["updates"],
            tuple(arrays["slots"]),
            _revived(told["generator"]),
            told["position"],
            told["dropout_seed"],
            numpy,
        )
        history = History(
            told["batches_per_epoch"],
            evaluated_at=arrays["evaluated_at"].tolist(),
            dropout_seed=told["dropout_seed"],
            ending=ending,
            **{name: arrays[name].tolist() for name in ("loss", *CURVES)},
        )
        states: list[tuple[str, dict[str, Any] | None]] = []
        for place, (name, plain) in enumerate(told["callbacks"]):
            start = f"callback.{place}."
            own = {key[len(start) :]: a for key, a in arrays.items() if key.startswith(start)}
            states.append((name, None if plain is None else plain | own))
        return cls(
            history,
            arrays["params"],
            _revived(told["first"]),
            states=states,
            last=arrays.get("last"),
            **{name: told[name] for name in TOLD},
        )

    def require_fit(self, path: PathLike, run: Run) -> None:
        """Raise ValueError unless the run of this call can go on from here, read from a file."""
        ending, same, spec = self.ending, run.same, run.net.spec
        ending.require_same(same)
        batches = run.plan.batches_per_epoch
        found = {
            "descriptions": (set(ending.same), set(same)),
            "parameters": (self.params.size, spec.size),
            "dtype": (str(self.params.dtype), run.net.dtype),
            "arrays of the optimizer": (len(ending.slots), len(run.state.slots)),
            "batches per epoch": (self.history.batches_per_epoch, batches),
            "seed of dropout": (ending.dropout_seed is not None, spec.dropout > 0.0),
        }
        with _named(path):
            for what, (here, wanted) in found.items():
                if here != wanted:
                    msg = f"{what}: {shown(here)}, and this call has {shown(wanted)}"
                    raise ValueError(msg)

    def require_first(self, generator: Generator) -> None:
        """Raise ValueError unless the run began with such a generator."""
        if _plain(generator) != _plain(self.first):
            msg = (
                "rng is not what the run in the checkpoint began with: pass the same seed, or "
                "leave rng out"
            )
            raise ValueError(msg)


@contextmanager
def _named(path: PathLike) -> Iterator[None]:
    """Say of errors in which file something is wrong."""
    try:
        yield
    # Whatever NumPy says of the state of a generator.
    except Exception as error:
        msg = (
            f"{os.fspath(path)!r} holds no run that can go on: {type(error).__name__}: "
            f"{error!s:.200}"
        )
        raise ValueError(msg) from error


def _check(arrays: dict[str, np.ndarray], told: dict[str, Any]) -> None:
    """Raise ValueError unless the parts of a run that was read are possible, and fit together."""
    for name, is_possible in FIELDS.items():
        if not is_possible(told[name]):
            msg = f"its {name!r} is {shown(told[name])}"
            raise ValueError(msg)
    params, steps, batches = arrays["params"], arrays["loss"].size, told["batches_per_epoch"]
    evaluated = arrays["evaluated_at"].size
    most = {
        "position": batches - 1,
        "offset": batches - 1,
        "called": steps,
        "finished": steps,
        "updates": sys.maxsize if told["dropout_seed"] is None else UPDATES,
    }
    for name, limit in most.items():
        if told[name] > limit:
            msg = f"its {name!r} is {told[name]}, of at most {limit}"
            raise ValueError(msg)
    if steps > told["asked"]:
        msg = f"it has {steps} losses, and 'asked' is {told['asked']}"
        raise ValueError(msg)
    # Curves of a loss that does not classify are empty.
    curves = {name: (min(arrays[name].size, evaluated),) for name in CURVES}
    net = {name: params.shape[:1] for name in ("params", "last") if name in arrays}
    slots = {"slots": (*arrays["slots"].shape[:1], params.size)}
    wanted = {"loss": (steps,), "evaluated_at": (evaluated,), **curves, **net, **slots}
    dtypes = dict.fromkeys((*net, *slots), params.dtype) | {"evaluated_at": np.dtype(np.int64)}
    for name, shape in wanted.items():
        array, dtype = arrays[name], dtypes.get(name, np.dtype(np.float64))
        is_whole = name not in CURVES or array.size in (0, evaluated)
        if array.shape != shape or array.dtype != dtype or not is_whole:
            msg = f"its {name!r} is {array.dtype} of shape {array.shape}, not {dtype} of {shape}"
            raise ValueError(msg)
    at = arrays["evaluated_at"]
    if at.size and (at.min() < 0 or at.max() > steps or (np.diff(at) < 0).any()):
        msg = f"its 'evaluated_at' are not numbers of updates, one after another, up to {steps}"
        raise ValueError(msg)


class Saver:
    """Writes the checkpoints of a run.

    Parameters
    ----------
    path : path-like
        Of the file.
    every : int or None
        Updates between two of them, or None for an epoch's.
    """

    def __init__(self, path: PathLike, every: int | None) -> None:
        self.path, self.every = path, every

    @property
    def exists(self) -> bool:
        """Whether there is a file already."""
        return Path(self.path).exists()

    def write(self, checkpoint: Checkpoint) -> None:
        """Write one."""
        checkpoint.write(self.path)


def states_of(callbacks: Sequence[object]) -> States:
    """Return the states of callbacks that have ``state_dict``, on the host."""
    return [(type(callback).__name__, _state_of(callback)) for callback in callbacks]


def _state_of(callback: Any) -> dict[str, Any] | None:
    if not hasattr(callback, "state_dict"):
        return None
    name = type(callback).__name__
    if not hasattr(callback, "load_state_dict"):
        msg = (
            f"a checkpoint keeps what {name}.state_dict() returns, and {name} has no method "
            f"load_state_dict(state) to take it up"
        )
        raise TypeError(msg)
    try:
        state = {
            key: value.item() if isinstance(value, np.generic) else value
            for key, value in callback.state_dict().items()
        }
        json.dumps([value for value in state.values() if not isinstance(value, np.ndarray)])
    except (AttributeError, TypeError, ValueError) as error:
        msg = (
            f"{name}.state_dict() must return a dictionary of numbers, text and NumPy arrays: "
            f"{error!s:.200}"
        )
        raise TypeError(msg) from error
    return state


def check_path(path: object) -> PathLike:
    """Return the path of a checkpoint to be written, or raise before a run begins."""
    if not isinstance(path, str | os.PathLike):
        msg = f"checkpoint must be the path of a file, got {type(path).__name__}"
        raise TypeError(msg)
    check_replaceable(path)
    return path


def _plain(generator: Generator) -> list[Any]:
    """Return a generator as numbers and text that JSON can hold."""
    kind = generator.kind.__name__
    if getattr(np.random, kind, None) is not generator.kind:
        msg = (
            f"a checkpoint holds the state of one of NumPy's own generators, and rng uses {kind}: "
            f"pass rng=numpy.random.default_rng(seed)"
        )
        raise TypeError(msg)
    return [kind, _listed(generator.state)]


def _listed(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: _listed(value) for key, value in state.items()}
    if isinstance(state, np.ndarray):
        return [str(state.dtype), state.tolist()]
    return state.item() if isinstance(state, np.generic) else state


def _revived(plain: Any) -> Generator:
    name, state = plain
    kind = getattr(np.random, name)
    if not issubclass(kind, np.random.BitGenerator):
        msg = f"{name!r} is no bit generator of NumPy"
        raise TypeError(msg)
    generator = Generator(kind, _arrays(state))
    generator.revive()
    return generator


def _arrays(state: Any) -> Any:
    if isinstance(state, dict):
        for name, words in PLACES.items():
            if name in state and not _whole(0, words)(state[name]):
                msg = f"a generator's {name!r} is {shown(state[name])}"
                raise ValueError(msg)
        return {key: _arrays(value) for key, value in state.items()}
    if not isinstance(state, list):
        return state
    kind, values = state
    if np.dtype(kind).kind not in "iu":
        msg = f"a generator holds integers, not {shown(kind)}"
        raise TypeError(msg)
    return np.array(values, kind)
