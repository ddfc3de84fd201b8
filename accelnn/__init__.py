"""From-scratch neural networks at hardware speed, with gradients you can trust.

Importing this loads NumPy and the standard library only; Numba, CuPy, matplotlib and the rest wake
on first use.
"""

import importlib
from typing import TYPE_CHECKING

from accelnn import activations, errors, losses, optimizers
from accelnn._version import __version__
from accelnn.activations import ELU, Activation, LeakyReLU
from accelnn.backends import (
    Backend,
    get_backend,
    list_backends,
    register_backend,
    set_backend,
    use_backend,
)
from accelnn.descent import DescentResult, gradient_descent
from accelnn.formulas import _rules
from accelnn.formulas._rules import *  # noqa: F403 - whatever is listed there
from accelnn.functions import (
    cross_entropy_error,
    identity,
    identity_function,
    log_softmax,
    mean_squared_error,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    step_function,
    sum_squared_error,
    tanh,
    tanh_grad,
)
from accelnn.gradient import (
    DerivativeResult,
    GradientReport,
    check_gradient,
    numerical_diff,
    numerical_gradient,
    numerical_hessian,
    numerical_hvp,
    numerical_jacobian,
    numerical_jvp,
)
from accelnn.losses import Huber, Loss
from accelnn.nets import MLP, Net, SimpleNet, TwoLayerNet
from accelnn.optimizers import Rule
from accelnn.training import History, fit, prepare, warmup

if TYPE_CHECKING:
    from accelnn import callbacks, datasets, plotting, schedules
    from accelnn import estimator as estimator
    from accelnn import testing as testing
    from accelnn.datasets import (
        load_idx_folder,
        load_mnist,
        read_idx,
        shuffle_dataset,
        train_validation_split,
    )
    from accelnn.nets._files import load
    from accelnn.plotting import smooth_curve

# What many programs never use, and what would slow down every import: name -> module.
_ON_FIRST_USE = {
    "callbacks": "accelnn.callbacks",
    "datasets": "accelnn.datasets",
    "estimator": "accelnn.estimator",
    "load": "accelnn.nets._files",
    "load_idx_folder": "accelnn.datasets",
    "load_mnist": "accelnn.datasets",
    "plotting": "accelnn.plotting",
    "read_idx": "accelnn.datasets",
    "schedules": "accelnn.schedules",
    "shuffle_dataset": "accelnn.datasets",
    "smooth_curve": "accelnn.plotting",
    "testing": "accelnn.testing",
    "train_validation_split": "accelnn.datasets",
}

__all__ = [
    "ELU",
    "MLP",
    "Activation",
    "Backend",
    "DerivativeResult",
    "DescentResult",
    "GradientReport",
    "History",
    "Huber",
    "LeakyReLU",
    "Loss",
    "Net",
    "Rule",
    "SimpleNet",
    "TwoLayerNet",
    "__version__",
    "activations",
    "callbacks",
    "check_gradient",
    "cross_entropy_error",
    "datasets",
    "errors",
    "fit",
    "get_backend",
    "gradient_descent",
    "identity",
    "identity_function",
    "list_backends",
    "load",
    "load_idx_folder",
    "load_mnist",
    "log_softmax",
    "losses",
    "mean_squared_error",
    "numerical_diff",
    "numerical_gradient",
    "numerical_hessian",
    "numerical_hvp",
    "numerical_jacobian",
    "numerical_jvp",
    "optimizers",
    "plotting",
    "prepare",
    "read_idx",
    "register_backend",
    "relu",
    "relu_grad",
    "schedules",
    "set_backend",
    "shuffle_dataset",
    "sigmoid",
    "sigmoid_grad",
    "smooth_curve",
    "softmax",
    "step_function",
    "sum_squared_error",
    "tanh",
    "tanh_grad",
    "train_validation_split",
    "use_backend",
    "warmup",
]
__all__ += _rules.__all__


def __getattr__(name: str) -> object:
    """Import what is in `_ON_FIRST_USE`."""
    if name not in _ON_FIRST_USE:
        msg = f"module 'accelnn' has no attribute {name!r}"
        raise AttributeError(msg)
    module = importlib.import_module(_ON_FIRST_USE[name])
    value = module if module.__name__ == f"accelnn.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
