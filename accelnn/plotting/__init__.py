"""Plots of training runs and of functions, with matplotlib.

Every function draws into the given axes, or into a new pyplot figure, and returns them. Nothing is
shown or saved, and importing this module does not import matplotlib.
"""

from accelnn.plotting._functions import (
    plot_descent,
    plot_gradient_field,
    plot_surface,
    plot_tangent,
)
from accelnn.plotting._training import plot_accuracy, plot_loss, plot_training, smooth_curve

__all__ = [
    "plot_accuracy",
    "plot_descent",
    "plot_gradient_field",
    "plot_loss",
    "plot_surface",
    "plot_tangent",
    "plot_training",
    "smooth_curve",
]
