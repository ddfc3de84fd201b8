"""The smallest net: one matrix."""

from accelnn._typing import Array, ArrayLike, DTypeLike, Rng
from accelnn._validation import positive_int
from accelnn.backends import BackendLike, NetSpec, get_backend
from accelnn.formulas._table import LOSSES
from accelnn.nets._initializers import draw_parameters
from accelnn.nets._net import Net

__all__ = ["SimpleNet", "simple_spec"]


class SimpleNet(Net):
    """One matrix W, no bias, softmax and cross entropy in the loss.

    Parameters
    ----------
    input_size : int, default 2
        Number of inputs.
    output_size : int, default 3
        Number of classes.
    dtype, rng, backend
        As in `accelnn.MLP`. W is standard normal.

    Notes
    -----
    `predict` gives scores x W, as in the textbook; probabilities are
    ``accelnn.softmax(net.predict(x))``.

    Examples
    --------
    >>> import numpy as np, accelnn
    >>> net = accelnn.SimpleNet(rng=0, dtype="float64")
    >>> x, t = np.array([0.6, 0.9]), np.array([0, 0, 1])
    >>> dW = accelnn.numerical_gradient(lambda W: net.loss(x, t), net.W)
    >>> bool(np.allclose(dW, net.gradient(x, t)["W"], atol=1e-9))
    True
    """

    _predicts_scores = True

    def __init__(
        self,
        input_size: int = 2,
        output_size: int = 3,
        *,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
        backend: BackendLike | None = None,
    ) -> None:
        spec = simple_spec(input_size, output_size)
        super().__init__(spec, draw_parameters(spec, 1.0, rng), dtype, get_backend(backend))

    @property
    def W(self) -> Array:  # noqa: N802 - the field's own name
        """The matrix, of shape (inputs, outputs); assignment copies into it."""
        return self.params["W"]

    @W.setter
    def W(self, value: ArrayLike) -> None:  # noqa: N802 - as above
        self.params["W"] = value


def simple_spec(input_size: int, output_size: int) -> NetSpec:
    """Return the architecture of a SimpleNet."""
    sizes = positive_int(input_size, "input_size"), positive_int(output_size, "output_size")
    loss = LOSSES["cross_entropy"]
    loss.check_sizes(sizes[-1])
    return NetSpec(sizes, "identity", loss, bias=False)
