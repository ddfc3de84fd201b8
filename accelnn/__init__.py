"""From-scratch neural networks at hardware speed, with gradients you can trust.

Importing this loads NumPy and the standard library only; Numba, CuPy, matplotlib and the rest wake
on first use.
"""

from accelnn import errors
from accelnn._version import __version__
from accelnn.backends import (
    Backend,
    get_backend,
    list_backends,
    register_backend,
    set_backend,
    use_backend,
)
from accelnn.checkpoint import load
from accelnn.datasets import load_mnist, train_validation_split
from accelnn.descent import DescentResult, gradient_descent
from accelnn.functions import (
    cross_entropy_error,
    identity,
    log_softmax,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    sum_squared_error,
    tanh,
    tanh_grad,
)
from accelnn.gradient import GradientReport, check_gradient, numerical_diff, numerical_gradient
from accelnn.nets import MLP, Net, SimpleNet, TwoLayerNet
from accelnn.optimizers import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop
from accelnn.training import History, fit, prepare

__all__ = [
    "MLP",
    "SGD",
    "AdaGrad",
    "Adam",
    "Backend",
    "DescentResult",
    "GradientReport",
    "History",
    "Momentum",
    "Nesterov",
    "Net",
    "RMSprop",
    "SimpleNet",
    "TwoLayerNet",
    "__version__",
    "check_gradient",
    "cross_entropy_error",
    "errors",
    "fit",
    "get_backend",
    "gradient_descent",
    "identity",
    "list_backends",
    "load",
    "load_mnist",
    "log_softmax",
    "numerical_diff",
    "numerical_gradient",
    "prepare",
    "register_backend",
    "relu",
    "relu_grad",
    "set_backend",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "sum_squared_error",
    "tanh",
    "tanh_grad",
    "train_validation_split",
    "use_backend",
]
