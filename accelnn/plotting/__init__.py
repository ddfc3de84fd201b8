"""Pictures of training runs and of functions, drawn with matplotlib.

Every function draws into the axes it is given, or else into a new pyplot figure, and returns what
it drew into. Nothing is shown or saved, and importing this does not import matplotlib.
"""

from accelnn.plotting._functions import (
    plot_descent,
    plot_gradient_field,
    plot_surface,
    plot_tangent,
)
from accelnn.plotting._training import plot_accuracy, plot_loss, plot_training

__all__ = [
    "plot_accuracy",
    "plot_descent",
    "plot_gradient_field",
    "plot_loss",
    "plot_surface",
    "plot_tangent",
    "plot_training",
]
