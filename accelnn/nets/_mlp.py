"""Multi-layer perceptrons of any depth."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from accelnn._shown import shown
from accelnn._typing import DTypeLike, Rng
from accelnn._validation import positive_int
from accelnn.backends import ActivationLike, BackendLike, Loss, NetSpec, get_activation, get_backend
from accelnn.formulas._activation import ActivationFormula
from accelnn.formulas._table import ActivationName, LossName
from accelnn.losses import LossFormula, get_loss
from accelnn.nets._initializers import Init, draw_parameters
from accelnn.nets._net import Net

__all__ = ["MLP", "TwoLayerNet", "mlp_spec"]

Hidden: TypeAlias = ActivationName | ActivationFormula


class MLP(Net):
    """A multi-layer perceptron.

    Parameters
    ----------
    sizes : sequence of int
        Widths of all layers: inputs, hidden layers, outputs.
    activation : str or activation object, or a sequence of them, default "sigmoid"
        Between the layers: one for all, or one for each hidden layer. The names, such as "relu" and
        "gelu", are those of `accelnn.activations.ACTIVATIONS`; objects such as
        ``accelnn.LeakyReLU(0.2)`` have parameters.
    loss : str or loss object, default "cross_entropy"
        One of `accelnn.losses.LOSSES`. It decides the output function too: "cross_entropy" is that
        of softmax, "binary_cross_entropy" that of a sigmoid for each output, and others are of the
        output itself.
    dropout : float, default 0.0
        The probability, in [0, 1), that an update of `fit` drops a hidden unit of a sample; the
        others are scaled by 1 / (1 - dropout). Every other computation is without, unless it is
        told which update's units to drop by ``dropout_key=``.
    label_smoothing : float, default 0.0
        A number ε in [0, 1): classes are learnt as probabilities, (1 - ε) t + ε / K for K classes,
        and (1 - ε) t + ε / 2 under binary cross entropy. It is in `loss`, its gradients and the
        losses of `fit`, but not in evaluations.
    init : {"xavier", "he"}, float or None
        Standard deviation of the normal weights; by default Xavier where sigmoid, tanh or the
        identity follows, and He elsewhere. Biases start at zero.
    dtype : {"float32", "float64"}, default "float32"
        Of parameters and computations.
    rng : int, Generator or None
        Where weights come from. The same seed gives the same weights on every backend.
    backend : str, Backend or subclass, optional
        Where to compute; see `accelnn.get_backend`.

    Raises
    ------
    ValueError
        If an option is unknown, or there are fewer than two sizes.

    Examples
    --------
    >>> import accelnn
    >>> net = accelnn.MLP([784, 256, 128, 10], activation="relu", rng=0)
    >>> net
    <MLP 784-256-128-10, relu, cross_entropy, float32, 235,146 parameters on numpy>
    >>> list(net.params)
    ['W1', 'b1', 'W2', 'b2', 'W3', 'b3']
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Hidden | Sequence[Hidden] = "sigmoid",
        loss: LossName | Loss = "cross_entropy",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        init: Init = None,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
        backend: BackendLike | None = None,
    ) -> None:
        spec = mlp_spec(sizes, activation, loss, dropout, label_smoothing)
        if (
            init is None
            and not spec.activations
            and isinstance(activation, str | ActivationFormula)
        ):
            # Of a net without hidden layers, as of all others.
            init = get_activation(activation).initializer
        super().__init__(spec, draw_parameters(spec, init, rng), dtype, get_backend(backend))


class TwoLayerNet(MLP):
    """The textbook's net: one hidden layer, weights drawn with one standard deviation.

    Parameters
    ----------
    input_size, hidden_size, output_size : int
        Widths of the layers.
    weight_init_std : float, default 0.01
        Standard deviation of the normal weights.
    activation, loss, dropout, label_smoothing, dtype, rng, backend
        As in `MLP`.

    Examples
    --------
    >>> import accelnn
    >>> net = accelnn.TwoLayerNet(784, 50, 10, rng=0)
    >>> {name: array.shape for name, array in net.params.items()}
    {'W1': (784, 50), 'b1': (50,), 'W2': (50, 10), 'b2': (10,)}
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        weight_init_std: float = 0.01,
        *,
        activation: Hidden | Sequence[Hidden] = "sigmoid",
        loss: LossName | Loss = "cross_entropy",
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        dtype: DTypeLike = "float32",
        rng: Rng = None,
        backend: BackendLike | None = None,
    ) -> None:
        super().__init__(
            (input_size, hidden_size, output_size),
            activation=activation,
            loss=loss,
            dropout=dropout,
            label_smoothing=label_smoothing,
            init=weight_init_std,
            dtype=dtype,
            rng=rng,
            backend=backend,
        )


def mlp_spec(
    sizes: Sequence[int],
    activation: ActivationLike | Sequence[ActivationLike],
    loss: str | Loss,
    dropout: float = 0.0,
    label_smoothing: float = 0.0,
) -> NetSpec:
    """Return the architecture of an MLP, or raise ValueError if it is none."""
    if not isinstance(sizes, Iterable):
        msg = f"sizes must be a sequence of integers such as [784, 50, 10], got {shown(sizes)}"
        raise TypeError(msg)
    widths = tuple(positive_int(size, f"sizes[{i}]") for i, size in enumerate(sizes))
    if len(widths) < 2:  # noqa: PLR2004 - inputs and outputs
        msg = f"sizes must hold at least inputs and outputs, got {list(widths)}"
        raise ValueError(msg)
    found = get_loss(loss)
    if isinstance(found, LossFormula):
        found.check_sizes(widths[-1])
    return NetSpec(widths, activation, found, dropout=dropout, label_smoothing=label_smoothing)
