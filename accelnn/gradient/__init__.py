"""Derivatives by finite differences, and gradient checks against them."""

from accelnn.gradient._check import check_gradient
from accelnn.gradient._gradient import numerical_diff, numerical_gradient
from accelnn.gradient._hessian import numerical_hessian, numerical_hvp
from accelnn.gradient._jacobian import numerical_jacobian, numerical_jvp
from accelnn.gradient._result import (
    DerivativeResult,
    Flag,
    GradientFailure,
    GradientReport,
)

__all__ = [
    "DerivativeResult",
    "Flag",
    "GradientFailure",
    "GradientReport",
    "check_gradient",
    "numerical_diff",
    "numerical_gradient",
    "numerical_hessian",
    "numerical_hvp",
    "numerical_jacobian",
    "numerical_jvp",
]
