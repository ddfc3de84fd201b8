"""MNIST, and the splitting and shuffling of data sets."""

from accelnn.datasets._mnist import load_mnist
from accelnn.datasets._split import shuffle_dataset, train_validation_split

__all__ = ["load_mnist", "shuffle_dataset", "train_validation_split"]
