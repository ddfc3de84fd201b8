"""AdamW: Adam with decoupled weight decay."""

from dataclasses import dataclass, field
from typing import Any

from accelnn._typing import Array
from accelnn.formulas.adam import Adam

__all__ = ["AdamW"]


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with θ ← θ - η λ θ before each update, instead of λ θ in the gradient.

    Parameters
    ----------
    lr, betas, eps
        See `Adam`.
    weight_decay : float, default 0.01
        λ.
    decay_biases : bool, default False
        Whether biases decay too, as in torch.

    References
    ----------
    Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR (2019).
    """

    weight_decay: float = field(default=0.01, kw_only=True)

    def _decay(self, params: Array, grads: Array, decay: Any, rate: float) -> Array:
        params *= 1.0 - rate * decay
        return grads
