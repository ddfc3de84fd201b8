"""MNIST, and splitting a data set into training and validation parts."""

from accelnn.datasets._mnist import load_mnist
from accelnn.datasets._split import train_validation_split

__all__ = ["load_mnist", "train_validation_split"]
