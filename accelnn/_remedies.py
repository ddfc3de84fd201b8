"""The calls that make targets of what people have in their place, as error messages name them."""

from __future__ import annotations

__all__ = [
    "bounded_targets",
    "labels_from",
    "labels_in_range",
    "labels_of_names",
    "table_of_labels",
]


def labels_from(shape: tuple[int, ...], wanted: tuple[int, ...], *, integral: bool) -> str:
    """Return the call that makes labels of a shape from numbers of it, or with an axis of one."""
    call = "t"
    if shape == (*wanted, 1):
        call += ".ravel()" if len(wanted) == 1 else "[..., 0]"
    return call if integral else call + ".astype(int)"


def labels_in_range(low: int, high: int, n_classes: int) -> str:
    """Return the end of a message on labels that are out of range."""
    if low == -1 and high <= 1:
        return "; for labels of -1 and 1 pass (t > 0).astype(int)"
    if low > 0 and high == n_classes:
        return f"; for labels of 1 to {n_classes} pass t - 1"
    return ""


def bounded_targets(low: float, high: float) -> str:
    """Return the end of a message on targets that are out of the range of a loss."""
    if low == -1.0 and high in (-1.0, 1.0):
        return "for targets of -1 and 1 pass (t + 1) / 2"
    if (low, high) == (1.0, 2.0):
        return "for targets of 1 and 2 pass t - 1"
    return "for other numbers take loss='sum_squared_error'"


def labels_of_names(name: str) -> str:
    """Return how names become labels, if an argument of this name holds targets."""
    if not _holds_targets(name):
        return ""
    return (
        "; names become labels by np.unique(t, return_inverse=True)[1], and numbers that are text "
        "become numbers by t.astype(float)"
    )


def table_of_labels(name: str) -> str:
    """Return how lists of labels become a table, if an argument of this name holds targets."""
    if not _holds_targets(name):
        return ""
    return (
        "; several labels to a sample become a table of ones and zeros, as by "
        "sklearn.preprocessing.MultiLabelBinarizer().fit_transform(t)"
    )


def _holds_targets(name: str) -> bool:
    return name in ("t", "validation t") or name.startswith("t of ")
