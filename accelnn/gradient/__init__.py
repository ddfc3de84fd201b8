"""Derivatives by finite differences, and checks of derivatives against them."""

from accelnn.gradient._check import GradientFailure, GradientReport, check_gradient
from accelnn.gradient._diff import numerical_diff
from accelnn.gradient._hessian import numerical_hessian
from accelnn.gradient._jacobian import numerical_jacobian
from accelnn.gradient._numerical import numerical_gradient
from accelnn.gradient._products import numerical_hvp, numerical_jvp
from accelnn.gradient._result import DerivativeResult, Flag

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
