"""Data sets in the files of MNIST: Fashion-MNIST, KMNIST, EMNIST and one's own."""

import gzip

import numpy as np
import pytest

import accelnn
from accelnn.datasets._idx import write_idx
from accelnn.errors import DatasetError

COUNTS = {"train": 30, "test": 12}


def images(part, shape=(28, 28)):
    draw = np.random.default_rng(len(part))
    return draw.integers(0, 256, (COUNTS[part], *shape)).astype(np.uint8)


def labels(part, classes=10):
    return (np.arange(COUNTS[part]) % classes).astype(np.uint8)


def write(folder, pattern, *, test="t10k", classes=10, first=0, shape=(28, 28), turned=False):
    """Write four files under names made of a pattern of part, kind and number of axes."""
    for part, name in (("train", "train"), ("test", test)):
        pixels = images(part, shape)
        pixels = pixels.transpose(0, 2, 1) if turned else pixels
        write_idx(folder / pattern.format(part=name, kind="images", axes=3), pixels)
        numbers = labels(part, classes) + np.uint8(first)
        write_idx(folder / pattern.format(part=name, kind="labels", axes=1), numbers)


NAMES = [
    "{part}-{kind}-idx{axes}-ubyte",
    "{part}-{kind}-idx{axes}-ubyte.gz",
    "{part}-{kind}.idx{axes}-ubyte",
    "{part}-{kind}.idx{axes}-ubyte.gz",
]


@pytest.mark.parametrize("pattern", NAMES)
def test_the_usual_names(tmp_path, pattern):
    write(tmp_path, pattern)
    (tmp_path / "readme.txt").write_text("no data")
    for load in (accelnn.load_idx_folder, lambda folder: accelnn.load_mnist(data_dir=folder)):
        for part, (x, t) in zip(COUNTS, load(tmp_path), strict=True):
            assert (x.dtype, t.dtype) == (np.float32, np.int64)
            expected = images(part).reshape(-1, 784).astype(np.float32) / np.float32(255)
            np.testing.assert_array_equal(x, expected)
            np.testing.assert_array_equal(t, labels(part))


@pytest.mark.parametrize(
    ("split", "classes", "first"),
    [("letters", 26, 1), ("balanced", 47, 0), ("byclass", 62, 0), ("digits", 10, 0)],
)
@pytest.mark.parametrize("named", [True, False])
def test_emnist_is_set_upright_and_counted_from_zero(tmp_path, split, classes, first, named):
    pattern = f"emnist-{split}-" + NAMES[1]
    write(tmp_path, pattern, test="test", classes=classes, first=first, turned=True)
    given = (split,) if named else ()
    options = {"flatten": False, "normalize": False}
    for part, (x, t) in zip(
        COUNTS, accelnn.load_idx_folder(tmp_path, *given, **options), strict=True
    ):
        assert x.dtype == np.uint8
        np.testing.assert_array_equal(x, images(part)[:, None])
        np.testing.assert_array_equal(t, labels(part, classes))
    flat, _ = accelnn.load_idx_folder(tmp_path, normalize=False)
    np.testing.assert_array_equal(flat[0], images("train").reshape(-1, 784))


def test_any_size_and_as_many_classes_as_there_are(tmp_path):
    write(tmp_path, NAMES[0], classes=25, shape=(4, 7))
    (x, t), (_, t_test) = accelnn.load_idx_folder(tmp_path, one_hot_label=True)
    assert (x.shape, t.shape, t_test.shape) == ((30, 28), (30, 25), (12, 25))
    np.testing.assert_array_equal(np.argmax(t, axis=1), labels("train", 25))
    assert t.dtype == np.float32
    net = accelnn.MLP([28, 5, 25], rng=0)
    assert accelnn.fit(net, x, t, epochs=1).steps == 1


def test_one_of_several_splits_is_chosen(tmp_path):
    for split in ("letters", "balanced"):
        write(tmp_path, f"emnist-{split}-" + NAMES[1], test="test", first=split == "letters")
    with pytest.raises(DatasetError, match=r"several data sets.*split=, such as 'balanced', 'lett"):
        accelnn.load_idx_folder(tmp_path)
    assert accelnn.load_idx_folder(tmp_path, "letters")[0][1].min() == 0
    message = r"lacks emnist-byclass-train-images-idx3-ubyte, .*splits balanced, letters"
    with pytest.raises(DatasetError, match=message):
        accelnn.load_idx_folder(tmp_path, "byclass")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DatasetError, match=r"nowhere is no folder"):
        accelnn.load_idx_folder(tmp_path / "nowhere")
    message = "lacks train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k"
    with pytest.raises(DatasetError, match=message):
        accelnn.load_idx_folder(tmp_path)
    write(tmp_path, NAMES[0])
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DatasetError, match=r"lacks t10k-labels-idx1-ubyte \(as is or \.gz\)"):
        accelnn.load_idx_folder(tmp_path)


def test_two_candidates_are_refused(tmp_path):
    write(tmp_path, NAMES[0])
    name = "train-labels-idx1-ubyte"
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    with pytest.raises(DatasetError, match=f"has {name} and {name}.gz, of which one"):
        accelnn.load_idx_folder(tmp_path)


def wrong_axes(folder):
    write_idx(folder / "train-images-idx3-ubyte", images("train").reshape(30, 784))
    return r"train-images-idx3-ubyte has the shape \(30, 784\) of uint8, expected \(N, height"


def wrong_count(folder):
    write_idx(folder / "t10k-labels-idx1-ubyte", labels("train"))
    return (
        r"t10k-labels-idx1-ubyte has the shape \(30,\).*\(12,\): one label for each image of t10k"
    )


def wrong_size(folder):
    write_idx(folder / "t10k-images-idx3-ubyte", images("test", (9, 9)))
    return r"\(30, 28, 28\), and those for testing \(12, 9, 9\)"


def damaged(folder):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    return "train-images-idx3-ubyte is truncated"


@pytest.mark.parametrize("damage", [wrong_axes, wrong_count, wrong_size, damaged])
def test_files_that_do_not_fit(tmp_path, damage):
    write(tmp_path, NAMES[0])
    with pytest.raises(DatasetError, match=damage(tmp_path)):
        accelnn.load_idx_folder(tmp_path)


def test_letters_are_counted_from_one(tmp_path):
    write(tmp_path, "emnist-letters-" + NAMES[0], test="test", classes=26)
    with pytest.raises(DatasetError, match="holds the label 0, expected 1 or more"):
        accelnn.load_idx_folder(tmp_path)


def test_mnist_of_another_type_is_refused(tmp_path):
    write(tmp_path, NAMES[0])
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:2] + b"\x09" + path.read_bytes()[3:])
    with pytest.raises(DatasetError, match="hold no unsigned bytes"):
        accelnn.load_mnist(data_dir=tmp_path)
    assert accelnn.load_idx_folder(tmp_path)[0][1].dtype == np.int64
