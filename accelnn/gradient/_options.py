"""The keyword arguments that the doors have in common, for type checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from accelnn._typing import ArrayLike, MethodName
from accelnn.backends import BackendLike
from accelnn.gradient.evaluators import HasMap, Mapper

__all__ = ["Common", "Evaluation", "Options", "Steps"]


class Common(TypedDict, total=False):
    """What every derivative is asked for with."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any] | None
    method: MethodName
    bounds: Any
    backend: BackendLike | None


class Evaluation(Common, total=False):
    """And how f is evaluated."""

    f0: Any
    in_place: bool | None
    workers: int | Mapper | HasMap | None
    batched: bool


class Steps(Common, total=False):
    """And steps, one for all coordinates or one for each."""

    step: float | ArrayLike | None
    rel_step: float | ArrayLike | None


class Options(Steps, Evaluation, total=False):
    """All of them, of derivatives by each coordinate."""

    chunk_size: int | None
    progress: bool
