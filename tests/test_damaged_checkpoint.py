"""Files that hold no net, or not all of one: each is a clear error that names the file."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import accelnn
from accelnn.losses import CrossEntropy


@pytest.fixture
def path(tmp_path):
    """A file with a saved net."""
    path = tmp_path / "net.safetensors"
    accelnn.MLP([4, 3, 2], rng=0).save(path)
    return path


def read(path):
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def rewrite(path, *, architecture=None, drop=None, arrays=None):
    """Change what a saved file says about itself."""
    metadata, old_arrays = read(path)
    described = json.loads(metadata["accelnn_net"]) | (architecture or {})
    described.pop(drop, None)
    save_file(arrays or old_arrays, path, metadata={"accelnn_net": json.dumps(described)})


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "gone.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file") as raised:
            accelnn.load(path)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize("length", [0, 1, 8, 20, 200, -1])
def test_a_truncated_file(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="is damaged or no safetensors file") as raised:
        accelnn.load(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes(path, seed):
    path.write_bytes(np.random.default_rng(seed).bytes(1000))
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        accelnn.load(path)


def test_bytes_too_many(path):
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ValueError, match="is damaged"):
        accelnn.load(path)


def test_a_safetensors_file_of_someone_else(path):
    for metadata in (None, {"format": "pt"}):
        save_file({"W1": np.zeros((4, 2), np.float32)}, path, metadata=metadata)
        with pytest.raises(
            ValueError, match="holds no net of accelnn: its metadata has no entry"
        ) as raised:
            accelnn.load(path)
        assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"format": 2}, "its format is 2, and this version reads 1"),
        ({"net": "Transformer"}, "unknown net 'Transformer'; known nets are 'MLP'"),
        ({"net": ["MLP"]}, r"unknown net \['MLP'\]"),
        ({"loss": "hinge"}, "unknown loss 'hinge'; known losses are 'cross_entropy'"),
        ({"activation": "swish"}, "unknown activation 'swish'; known activations are 'sigmoid'"),
        ({"activation": "asarray"}, "unknown activation 'asarray'"),
        ({"dtype": "float16"}, "got dtype 'float16'"),
        ({"dtype": None}, "got dtype 'None'"),
        ({"sizes": [4]}, "at least inputs and outputs"),
        ({"sizes": []}, "at least inputs and outputs"),
        ({"sizes": [4, 3.5, 2]}, r"sizes\[1\] must be an integer, got 3.5"),
        ({"sizes": [4, -3, 2]}, r"sizes\[1\] must be at least 1"),
        ({"sizes": None}, "sizes must be a sequence of integers"),
        ({"net": "SimpleNet"}, "a SimpleNet has 2 sizes"),
        ({"net": "SimpleNet", "sizes": [4, 1]}, "a softmax over one output is always 1"),
        ({"sizes": [4, 3, 1]}, "a softmax over one output is always 1"),
    ],
)
def test_an_architecture_that_is_not_known(path, architecture, message):
    rewrite(path, architecture=architecture)
    with pytest.raises(ValueError, match=message) as raised:
        accelnn.load(path)
    assert f"{str(path)!r} describes no net that can be built here" in str(raised.value)


@pytest.mark.parametrize("key", ["format", "net", "sizes", "activation", "loss", "dtype"])
def test_an_architecture_with_a_gap(path, key):
    rewrite(path, drop=key)
    with pytest.raises(ValueError, match=f"describes no net that can be built here: .*'{key}'"):
        accelnn.load(path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"MLP"'])
def test_an_architecture_that_is_no_json_object(path, text):
    save_file(read(path)[1], path, metadata={"accelnn_net": text})
    with pytest.raises(ValueError, match="describes no net that can be built here"):
        accelnn.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: {**arrays, "W1": arrays["W1"].T.copy()},
        lambda arrays: {**arrays, "W3": np.zeros((2, 2), np.float32)},
        lambda arrays: {key: value for key, value in arrays.items() if key != "b2"},
        lambda arrays: {**arrays, "b1": arrays["b1"].astype(np.float64)},
        lambda arrays: {**arrays, "b1": arrays["b1"].astype(np.int32)},
    ],
    ids=["transposed", "one more", "one less", "float64", "int32"],
)
def test_arrays_that_are_not_the_architectures(path, change):
    rewrite(path, arrays=change(read(path)[1]))
    with pytest.raises(ValueError, match="is inconsistent: its architecture has the parameters"):
        accelnn.load(path)


def test_an_unknown_backend_is_not_the_files_fault(path):
    with pytest.raises(ValueError, match=r"^unknown backend 'nope'"):
        accelnn.load(path, backend="nope")


def test_sizes_that_no_memory_would_hold_are_compared_before_they_are_built(path):
    rewrite(path, architecture={"net": "MLP", "sizes": [10**7, 10**6, 10]})
    with pytest.raises(ValueError, match="is inconsistent"):
        accelnn.load(path)


def test_a_loss_that_only_borrows_a_known_name_is_not_saved(tmp_path):
    @dataclass(frozen=True)
    class Weighted(CrossEntropy):
        weight: float = 2.0

    net = accelnn.MLP([3, 2], loss=Weighted(), rng=0)
    with pytest.raises(TypeError, match=r"Weighted\(weight=2.0\) cannot be saved: only cross_"):
        net.save(tmp_path / "net.safetensors")
