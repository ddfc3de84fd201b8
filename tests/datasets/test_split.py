import re

import numpy as np
import pytest

from accelnn.datasets import train_validation_split

UNEVEN = np.repeat([3, 7, 8, 11], [50, 23, 7, 2])


def numbered(t):
    """Samples that tell which one they are."""
    return np.stack([np.arange(len(t)), np.arange(len(t)) * 10], axis=1)


@pytest.mark.parametrize("fraction", [0.01 + 1 / 82, 0.1, 0.2, 0.29, 1 / 3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", range(3))
def test_every_sample_is_in_one_part_with_its_label(fraction, seed):
    x = numbered(UNEVEN)
    (x_train, t_train), (x_validation, t_validation) = train_validation_split(
        x, UNEVEN, fraction, rng=seed
    )
    together = np.concatenate([x_train, x_validation])
    assert sorted(together[:, 0].tolist()) == list(range(len(UNEVEN)))
    np.testing.assert_array_equal(together[:, 1], together[:, 0] * 10)
    np.testing.assert_array_equal(np.concatenate([t_train, t_validation]), UNEVEN[together[:, 0]])


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.2, 0.29, 1 / 3, 0.5, 0.9, 0.99])
def test_each_class_gives_its_share_and_keeps_one(fraction):
    (_, t_train), (_, t_validation) = train_validation_split(numbered(UNEVEN), UNEVEN, fraction)
    for label, size in zip(*np.unique(UNEVEN, return_counts=True), strict=True):
        given = np.count_nonzero(t_validation == label)
        assert abs(given - size * fraction) <= 1
        assert np.count_nonzero(t_train == label) >= 1


@pytest.mark.parametrize(
    ("sizes", "fraction", "wanted"),
    [
        ([500] * 10, 0.2, [100] * 10),
        ([100] * 3, 0.29, [29] * 3),  # 100 * 0.29 is 28.999999999999996
        ([4] * 10, 0.1, [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]),  # 0.4 each, 4 in all
        ([7, 2, 1], 0.5, [4, 1, 0]),  # 3.5, 1 and 0.5 of 5; the single sample stays
        ([3, 3], 0.9, [2, 2]),  # 2.7 each, but one must stay
        ([11, 18, 17], 0.1, [1, 2, 2]),  # 1.1, 1.8 and 1.7, 5 in all
        ([10, 1], 0.5, [6, 0]),  # 5 and 0.5; the total of 5.5 rounds to 6
    ],
)
def test_counts_by_hand(sizes, fraction, wanted):
    t = np.repeat(np.arange(len(sizes)), sizes)
    _, (_, t_validation) = train_validation_split(numbered(t), t, fraction, rng=0)
    assert np.bincount(t_validation, minlength=len(sizes)).tolist() == wanted


def test_default_fraction_is_a_fifth():
    t = np.repeat([0, 1], 50)
    (_, t_train), (_, t_validation) = train_validation_split(numbered(t), t)
    assert (len(t_train), len(t_validation)) == (80, 20)


def test_both_parts_are_shuffled():
    t = np.repeat(np.arange(10), 100)
    for x, labels in train_validation_split(numbered(t), t, 0.5, rng=0):
        assert np.count_nonzero(np.diff(labels)) > 0.8 * len(labels)
        order = x[:, 0]
        rising = np.count_nonzero(np.diff(order) > 0) / (len(order) - 1)
        assert 0.4 < rising < 0.6


def chi_squared(labels, classes=10):
    """Return by how much the counts of the first 100 samples differ from equal ones."""
    counts = np.bincount(labels[:100], minlength=classes)
    return float(((counts - 10.0) ** 2 / 10.0).sum())


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_a_part_does_not_begin_with_what_its_quotas_leave(fraction):
    """Of 100 among n, χ² has the mean 9 (n - 100) / (n - 1), and a deviation of about √18."""
    labels = np.repeat(np.arange(10, dtype=np.uint8), 100)
    found = [
        [chi_squared(t) for _, t in train_validation_split(labels[:, None], labels, fraction, seed)]
        for seed in range(200)
    ]
    for mean, share in zip(np.mean(found, axis=0), (1.0 - fraction, fraction), strict=True):
        n = 1000 * share
        assert abs(mean - 9.0 * (n - 100.0) / (n - 1.0)) < 5.0 * np.sqrt(18.0 / 200.0)


def test_which_samples_are_set_aside_is_random():
    t = np.zeros(100, dtype=int)
    _, (x_validation, _) = train_validation_split(numbered(t), t, 0.5, rng=0)
    assert 15 < np.count_nonzero(x_validation[:, 0] < 50) < 35


def test_rng():
    x = numbered(UNEVEN)
    seeded, again, other = (train_validation_split(x, UNEVEN, rng=n)[0][0] for n in (1, 1, 2))
    generator = np.random.default_rng(1)
    first, second = (train_validation_split(x, UNEVEN, rng=generator)[0][0] for _ in range(2))
    fresh = [train_validation_split(x, UNEVEN)[0][0] for _ in range(2)]
    np.testing.assert_array_equal(seeded, again)
    np.testing.assert_array_equal(seeded, first)
    assert not np.array_equal(seeded, other)
    assert not np.array_equal(first, second)
    assert not np.array_equal(*fresh)


def test_rows_are_split_as_their_largest_entry():
    one_hot = np.eye(12, dtype=np.float32)[UNEVEN]
    x = numbered(UNEVEN)
    by_label = train_validation_split(x, UNEVEN, rng=5)
    by_row = train_validation_split(x, one_hot, rng=5)
    by_distribution = train_validation_split(x, 0.9 * one_hot + 0.1 / 12, rng=5)
    for (x_label, t_label), (x_row, t_row), (x_soft, _) in zip(
        by_label, by_row, by_distribution, strict=True
    ):
        np.testing.assert_array_equal(x_row, x_label)
        np.testing.assert_array_equal(x_soft, x_label)
        assert t_row.dtype == np.float32
        np.testing.assert_array_equal(t_row, np.eye(12)[t_label])


def test_shapes_and_dtypes_are_kept_and_nothing_is_shared():
    x = np.zeros((40, 1, 4, 4), dtype=np.float32)
    t = np.repeat(np.arange(2, dtype=np.uint8), 20)
    for x_part, t_part in train_validation_split(x, t, 0.5):
        assert x_part.shape == (20, 1, 4, 4)
        assert (x_part.dtype, t_part.dtype) == (np.float32, np.uint8)
        assert not np.shares_memory(x_part, x)
        assert not np.shares_memory(t_part, t)


def test_lists_are_taken():
    (x_train, _), (x_validation, _) = train_validation_split([1, 2, 3, 4], [0, 0, 1, 1], 0.5)
    assert sorted([*x_train, *x_validation]) == [1, 2, 3, 4]


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 1.5, float("nan"), 0.0, 1.0])
def test_fraction_out_of_range(fraction):
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        train_validation_split(numbered(UNEVEN), UNEVEN, fraction)


@pytest.mark.parametrize(
    ("x", "t", "complaint"),
    [
        (np.zeros((3, 2)), [0, 1], r"as many samples.*\(3, 2\) and \(2,\)"),
        (np.zeros(()), [0, 1], "as many samples"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), "no samples"),
        ([], [], "no samples"),
        (np.zeros((3, 2)), [0.0, 1.0, 1.0], "integer labels.*float64"),
        (np.zeros((2, 2)), ["a", "b"], "integer labels"),
        (np.zeros((2, 2)), [[0], [1]], r"C >= 2.*\(2, 1\)"),
        (np.zeros((2, 2)), np.zeros((2, 2, 2)), r"shape \(2, 2, 2\)"),
        (np.zeros((1, 2)), 0, r"shape \(\)"),
        (np.zeros((3, 2)), [0, 1, 2], "sets none aside"),
        (np.zeros((3, 2)), [0, 0, 0], "sets none aside"),
    ],
)
def test_what_cannot_be_split(x, t, complaint):
    with pytest.raises(ValueError, match=complaint):
        train_validation_split(x, t, 0.1)


@pytest.mark.parametrize(
    ("t", "call"),
    [
        (np.arange(12) % 3 / 1.0, "t.astype(int)"),
        (np.arange(12) % 3 > 0, "t.astype(int)"),
        ((np.arange(12) % 3)[:, None], "t.ravel()"),
        ((np.arange(12) % 3)[:, None] / 1.0, "t.ravel().astype(int)"),
        (np.array(list("abcabcabcabc")), "np.unique(t, return_inverse=True)[1]"),
        (np.linspace(0.0, 1.0, 12), "np.random.default_rng(0).permutation(len(t))"),
    ],
    ids=["floats", "bools", "column", "column of floats", "names", "numbers"],
)
def test_what_are_no_labels_is_refused_with_the_call_that_makes_them(t, call):
    x = np.zeros((12, 2))
    with pytest.raises(ValueError, match=re.escape(call)):
        train_validation_split(x, t)
    made = eval(call, {"np": np, "t": t})  # noqa: S307 - the message's own
    if "permutation" not in call:
        (_, made), _ = train_validation_split(x, made, fraction=0.25)
    assert len(made) == 9 if "permutation" not in call else sorted(made) == list(range(12))
