"""Nets: named parameters on a backend, whose engine computes with them."""

from accelnn.nets._mlp import MLP, TwoLayerNet
from accelnn.nets._net import Net
from accelnn.nets._simple import SimpleNet

__all__ = ["MLP", "Net", "SimpleNet", "TwoLayerNet"]
