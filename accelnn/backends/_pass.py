"""Forward and backward passes of a net, composed from a backend's ops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from accelnn._typing import Array
from accelnn.backends._spec import NetSpec
from accelnn.backends._training import Extras

if TYPE_CHECKING:
    from accelnn.backends._base import ActivationOps, Backend, LossOps

__all__ = ["NetOps", "Pass"]


class Memory(NamedTuple):
    """Where the results of each layer go; None where they are new arrays."""

    outputs: tuple[Array | None, ...]
    values: tuple[Array | None, ...]
    errors: tuple[Array | None, ...]

    @classmethod
    def none(cls, net: NetOps) -> Self:
        """Return that of a pass whose results are all new."""
        nothing = (None,) * (len(net.hidden) + 1)
        return cls(nothing, nothing, nothing)

    @classmethod
    def of(cls, net: NetOps, rows: int, dtype: str) -> Self:
        """Return memory for batches of that many samples."""

        def arrays(widths: tuple[int, ...]) -> tuple[Array | None, ...]:
            return tuple(net.backend.memory_for((rows, width), dtype) for width in widths)

        widths = net.spec.sizes[1:]
        values = tuple(
            None if hidden.slope_from_value else array
            for hidden, array in zip(net.hidden, arrays(widths[:-1]), strict=True)
        )
        return cls(arrays(widths), values, arrays(widths[:-1]))

    def first(self, rows: int) -> Self:
        """Return the part for the first samples."""
        return type(self)(
            *(tuple(a if a is None else a[:rows, ...] for a in arrays) for arrays in self)
        )


class NetOps:
    """An architecture with the ops that compute it.

    Parameters
    ----------
    backend : Backend
        Whose ops.
    spec : NetSpec
        The architecture.
    """

    def __init__(self, backend: Backend, spec: NetSpec) -> None:
        self.backend, self.spec = backend, spec
        self.hidden: list[ActivationOps] = [
            backend.activation_ops(formula) for formula in spec.activations
        ]
        self.loss: LossOps = backend.loss_ops(spec.loss)
        self.no_memory = Memory.none(self)


class Pass:
    """Passes of batches through a net with parameters in one buffer; of one caller at a time.

    Parameters
    ----------
    net : NetOps
        What computes.
    params : array
        The flat buffer of the parameters.
    out : array, optional
        The flat buffer for gradients.
    rows : int, default 0
        The largest batch for which memory is kept from one pass to the next; what a pass returns is
        overwritten by the next then.
    dtype : str, optional
        The dtype of that memory.
    """

    def __init__(
        self, net: NetOps, params: Array, out: Array | None = None, rows: int = 0, dtype: Any = None
    ) -> None:
        xp = net.backend.xp
        self._net, self._backend = net, net.backend
        self._layers = net.spec.layers(params, xp)
        self._grads = [] if out is None else net.spec.layers(out, xp)
        self._last = len(self._layers) - 1
        self.rows = rows
        self._kept = Memory.of(net, rows, dtype) if rows else net.no_memory

    def forward(self, x: Array, masks: tuple[Array, ...] = ()) -> Array:
        """Return the last layer's output before the output function."""
        backend, net, last = self._backend, self._net, self._last
        kept, rows = self._kept, x.shape[0]
        if self.rows not in (0, rows):
            kept = kept.first(rows)
        # The input of each layer, and that from which each slope is computed.
        self._inputs, self._origins = [x], []
        for i, (w, b) in enumerate(self._layers):
            z = backend.matmul(x, w, kept.outputs[i])
            if b is not None:
                z += b
            if i == last:
                self._errors = kept.errors
                return z
            hidden = net.hidden[i]
            if hidden.slope_from_value:
                x = hidden.value(z, z)
                self._origins.append(x)
            else:
                x = hidden.value(z, kept.values[i])
                self._origins.append(z)
            if masks:
                x = x * masks[i]
            self._inputs.append(x)
        msg = "a net has a layer"
        raise AssertionError(msg)

    def losses(self, x: Array, t: Any, extras: Extras) -> Array:
        """Return each sample's loss."""
        return self._net.loss.value(self.forward(x, extras.masks), t)

    def gradient(self, x: Array, t: Any, extras: Extras) -> None:
        """Write the gradient of the mean loss."""
        self._backward(self._net.loss.grad(self.forward(x, extras.masks), t), extras)

    def losses_and_gradient(self, x: Array, t: Any, extras: Extras) -> Array:
        """Write the gradient of the mean loss; return each sample's loss."""
        losses, error = self._net.loss.both(self.forward(x, extras.masks), t)
        self._backward(error, extras)
        return losses

    def _backward(self, error: Array, extras: Extras) -> None:
        """Write the gradient, given that of the losses with respect to the scores."""
        backend, hidden, inputs = self._backend, self._net.hidden, self._inputs
        error = error / error.shape[0]
        if extras.weights is not None:
            error *= extras.weights[:, None]
        for i in range(self._last, -1, -1):
            grad_w, grad_b = self._grads[i]
            backend.matmul_into(grad_w, inputs[i].T, error)
            if grad_b is not None:
                backend.sum_into(grad_b, error, 0)
            if i > 0:
                w, _ = self._layers[i]
                error = backend.matmul(error, w.T, self._errors[i - 1])
                if extras.masks:
                    error *= extras.masks[i - 1]
                error = hidden[i - 1].times_slope(error, self._origins[i - 1])
