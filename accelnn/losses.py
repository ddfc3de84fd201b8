"""The losses of nets, as functions of the last layer's output before the output function.

A loss is computed per sample; nets take the mean. ``backend=`` defaults to the backend of the
arrays.
"""

from accelnn._shown import shown
from accelnn.backends import Loss as LossProtocol
from accelnn.formulas import _losses
from accelnn.formulas._loss import LossFormula
from accelnn.formulas._losses import *  # noqa: F403 - whatever is listed there
from accelnn.formulas._losses import LOSSES
from accelnn.formulas._own import Loss

__all__ = ["Loss", "LossFormula", "get_loss"]
__all__ += _losses.__all__

# The attributes that make an object a loss.
PARTS = ("name", "output", "classifies", "value", "grad", "delta")


def get_loss(loss: str | LossProtocol) -> LossProtocol:
    """Return a loss by name, or a loss object unchanged.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If it is neither a name nor a loss object.
    """
    known = ", ".join(map(repr, LOSSES))
    if not isinstance(loss, str):
        if isinstance(loss, type) or not all(hasattr(loss, part) for part in PARTS):
            msg = f"a loss is {known} or an object with {', '.join(PARTS)}; got {shown(loss)}"
            raise TypeError(msg)
        return loss
    if loss not in LOSSES:
        msg = f"unknown loss {shown(loss)}; known losses are {known}"
        raise ValueError(msg)
    return LOSSES[loss]
