"""Derivatives by finite differences, and checks of derivatives against them."""

from accelnn.gradient._check import GradientReport, check_gradient
from accelnn.gradient._diff import numerical_diff
from accelnn.gradient._numerical import numerical_gradient

__all__ = ["GradientReport", "check_gradient", "numerical_diff", "numerical_gradient"]
