"""What a run leaves for another one to go on."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from accelnn._shown import shown
from accelnn._typing import Array
from accelnn.backends import Backend, get_backend
from accelnn.formulas._table import ACTIVATIONS, LOSSES
from accelnn.training._plan import Generator, Plan

if TYPE_CHECKING:
    from accelnn.backends import TrainingState
    from accelnn.nets import Net
    from accelnn.training._history import History

__all__ = ["OF_THE_DATA", "Ending", "ending_of", "identity"]

DATA, BATCH_SIZE, SAMPLE_WEIGHT = "a data set of", "batch_size", "sample_weight"
# What may differ where a run goes on with other samples, of what is compared.
OF_THE_DATA = DATA, BATCH_SIZE, SAMPLE_WEIGHT


@dataclass(frozen=True, eq=False)
class Ending:
    """Where a run ended.

    Attributes
    ----------
    same : dict of str to object
        What must be the same in the run that goes on, by what errors call it.
    updates : int
        Updates done, those of the runs before it included.
    slots : tuple of array
        The state arrays of the optimiser; those of the run itself, which needs them no more.
    generator : Generator
        Before the order of the epoch under way was drawn.
    position : int
        Updates done in that epoch.
    dropout_seed : int or None
        By which dropout chooses units.
    backend : Backend
        Where the arrays are.
    """

    same: dict[str, object]
    updates: int
    slots: tuple[Array, ...]
    generator: Generator
    position: int
    dropout_seed: int | None
    backend: Backend

    def __reduce__(self) -> tuple[Any, ...]:
        slots = tuple(map(self.backend.to_numpy, self.slots))
        rest = self.generator, self.position, self.dropout_seed, get_backend("numpy")
        return Ending, (self.same, self.updates, slots, *rest)

    def restore(self, same: dict[str, object], state: TrainingState, backend: Backend) -> None:
        """Restore the optimiser's state, if this is the same run, or raise ValueError."""
        self.require_same(same)
        state.step = self.updates
        for slot, saved in zip(state.slots, self.slots, strict=True):
            is_here = backend.owns(saved)
            slot[...] = saved if is_here else backend.asarray(self.backend.to_numpy(saved))

    def require_same(self, same: dict[str, object]) -> None:
        """Raise ValueError unless this is the same run."""
        for name, before in self.same.items():
            now = same.get(name, "nothing of that name")
            if before != now:
                msg = (
                    f"resume= continues a run with {name} {before!s:.80}, and this call has "
                    f"{now!s:.80}: pass the same, or leave resume out"
                )
                raise ValueError(msg)


def ending_of(resume: History | None, rng: Any) -> Ending | None:
    """Return where the run ended that `fit` is to continue, if there is one."""
    if resume is None:
        return None
    ending = getattr(resume, "ending", None)
    if not isinstance(ending, Ending):
        msg = (
            f"resume must be the History that fit returned, or the path of a checkpoint, and "
            f"{shown(resume)} holds no state"
        )
        if getattr(resume, "steps", 0):
            msg += (
                ": if Ctrl-C pressed twice or another exception came within its updates, go on "
                "from a checkpoint, or begin anew"
            )
        raise TypeError(msg)
    if rng is not None:
        msg = (
            "rng must be left out beside resume: a run that goes on draws its batches with the "
            "generator of the run before"
        )
        raise ValueError(msg)
    return ending


def _described(optimizer: object) -> str:
    """Return an optimiser and its options in words, which are the same in another process."""
    text = repr(optimizer)
    if type(optimizer).__repr__ is object.__repr__:
        options = getattr(optimizer, "__dict__", {}).items()
        given = ", ".join(f"{name}={value!r}" for name, value in options)
        text = f"{type(optimizer).__qualname__}({given})"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _named(formula: Any, table: Mapping[str, Any]) -> str:
    """Return the name of a formula, with any parameters that are not those of the name."""
    usual = table.get(formula.name)
    is_other = type(usual) is type(formula) and usual != formula
    return f"{formula!r}" if is_other else str(formula.name)


def identity(
    net: Net, plan: Plan, state: TrainingState, options: dict[str, Any]
) -> dict[str, object]:
    """Return what must be the same in a run that goes on, by what errors call it."""
    spec = net.spec
    formulas = [*(_named(a, ACTIVATIONS) for a in spec.activations), _named(spec.loss, LOSSES)]
    sizes = "-".join(map(str, spec.sizes)) + ("" if spec.bias else " without biases")
    return {
        # In words, as the optimiser: what is a user's own cannot always be pickled or compared.
        "the net": f"{sizes} ({', '.join(formulas)})",
        "dropout": spec.dropout,
        "label_smoothing": spec.label_smoothing,
        "dtype": net.dtype,
        DATA: f"{plan.samples:,} samples",
        BATCH_SIZE: plan.batch,
        "sampling": plan.sampling,
        "optimizer": _described(state.optimizer),
        "gradient": state.gradient,
        "clip_norm": options.get("clip"),
        SAMPLE_WEIGHT: _digest(net.backend, options.get("weights")),
    }


def _digest(backend: Backend, weights: Array | None) -> str | None:
    """Return what tells weights of samples from others."""
    if weights is None:
        return None
    host = np.ascontiguousarray(backend.to_numpy(weights))
    return f"<checksum {zlib.crc32(host.tobytes()):08x}>"
