"""MNIST and data sets in its format, and the splitting and shuffling of data sets."""

from accelnn.datasets._folder import load_idx_folder
from accelnn.datasets._idx import read_idx
from accelnn.datasets._mnist import load_mnist
from accelnn.datasets._split import shuffle_dataset, train_validation_split

__all__ = [
    "load_idx_folder",
    "load_mnist",
    "read_idx",
    "shuffle_dataset",
    "train_validation_split",
]
