"""Files that hold no net, or not all of one: each is a clear error that names the file."""

import json
import os
import time
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import accelnn
from accelnn import checkpoint
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


def test_what_is_no_file_is_named(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for name, error, message in (
        ("gone", FileNotFoundError, "No such file"),
        ("", IsADirectoryError, "it is a folder"),
        ("loop", OSError, "Too many levels of symbolic links"),
    ):
        with pytest.raises(error, match=message) as raised:
            accelnn.load(tmp_path / name)
        assert str(tmp_path / name) in str(raised.value)


def test_an_open_file_is_no_path_and_stays_open(path):
    with path.open("rb") as file:
        for use in (accelnn.load, accelnn.MLP([4, 2]).save):
            with pytest.raises(TypeError, match=r"expected str, bytes or os\.PathLike object, not"):
                use(file.fileno())
        assert file.read() == path.read_bytes()


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_what_no_file_can_be_called_is_named(tmp_path, name):
    if os.name != "posix" and "\0" not in name:
        pytest.skip("a feature of POSIX")
    wrong = os.path.join(tmp_path, name)  # noqa: PTH118 - text is given
    for use in (accelnn.load, accelnn.MLP([4, 2]).save):
        with pytest.raises(ValueError, match="no file can have the path") as raised:
            use(wrong)
        assert repr(wrong) in str(raised.value)
    assert all("\0" not in entry.name for entry in tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="a feature of POSIX")
def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(OSError, match=r"cannot read .*: it is a FIFO, a device or a socket"):
            accelnn.load(path)


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
        ({"sizes": [4, 10**400, 2]}, r"sizes\[1\] must be at most"),
        ({"dropout": 10**400}, r"dropout must be in \[0, 1\), got 1000"),
        ({"label_smoothing": -(10**400)}, r"label_smoothing must be in \[0, 1\), got -1000"),
        (
            {"activation": [{"name": "leaky_relu", "negative_slope": 10**400}]},
            "negative_slope must be finite, got 1000",
        ),
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
    assert len(str(raised.value)) < 300 + len(str(path))


@pytest.mark.parametrize("key", ["format", "net", "sizes", "activation", "loss", "dtype"])
def test_an_architecture_with_a_gap(path, key):
    rewrite(path, drop=key)
    with pytest.raises(ValueError, match=f"describes no net that can be built here: .*'{key}'"):
        accelnn.load(path)


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '"MLP"', "NaN", "[" * 10**5, '{"net": 1, "net": 2}']
)
def test_an_architecture_that_is_no_json_object(path, text):
    save_file(read(path)[1], path, metadata={"accelnn_net": text})
    with pytest.raises(ValueError, match=r"describes no net that can be built here") as raised:
        accelnn.load(path)
    assert str(path) in str(raised.value)


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
    with pytest.raises(ValueError, match=r"is inconsistent: .*, and in its architecture") as raised:
        accelnn.load(path)
    assert len(str(raised.value)) < 200 + len(str(path))


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


def tensor(start=0, stop=32, dtype="F32", shape=(4, 2)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


NET = {"format": 1, "net": "MLP", "sizes": [4, 2], "activation": "sigmoid"}
NET |= {"loss": "cross_entropy", "dtype": "float32"}


def put(path, header, size=40, *, length=None, **changes):
    """Write a file by hand: a header, as an object or as bytes, and zeros after it."""
    if not isinstance(header, bytes):
        described = {"accelnn_net": json.dumps(NET | changes)}
        header = json.dumps({"__metadata__": described} | header).encode()
    length = len(header) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + header)
    os.truncate(path, 8 + len(header) + size)


RIGHT = {"W1": tensor(), "b1": tensor(32, 40, shape=(2,))}
HEADERS = {
    "overlapping": {**RIGHT, "b1": tensor(28, 36, shape=(2,))},
    "the same place": {"W1": tensor(), "b1": tensor(0, 32)},
    "a gap": {"W1": tensor(), "b1": tensor(36, 44, shape=(2,))},
    "a gap before": {"W1": tensor(8, 40)},
    "backwards": {"W1": tensor(40, 8)},
    "below zero": {"W1": tensor(-32, 0)},
    "beyond the end": {"W1": tensor(), "b1": tensor(32, 48, shape=(4,))},
    "beyond 64 bits": {"W1": tensor(2**64, 2**64 + 32)},
    "another size": {**RIGHT, "W1": tensor(shape=(4, 3))},
    "a size below zero": {**RIGHT, "W1": tensor(shape=(-4, -2))},
    "a fraction": {**RIGHT, "W1": tensor(shape=(4.0, 2))},
    "a bool": {**RIGHT, "b1": tensor(32, 40, shape=(2, True))},
    "huge": {"W1": tensor(0, 4 * 10**18, shape=(10**9, 10**9))},
    "huge beside zero": {"W1": tensor(0, 0, shape=(10**9, 10**9, 10**9, 0))},
    "many huge ones": {"W1": tensor(shape=[10**4000] * 1000)},
    "65 axes": {**RIGHT, "b1": tensor(32, 40, shape=(2, *[1] * 64))},
    "no dtype": {**RIGHT, "b1": {"shape": [2], "data_offsets": [32, 40]}},
    "three offsets": {**RIGHT, "b1": {"dtype": "F32", "shape": [2], "data_offsets": [32, 36, 40]}},
    "a list": {**RIGHT, "b1": [1]},
    "null": {**RIGHT, "b1": None},
    "no list of sizes": {**RIGHT, "b1": {**tensor(32, 40), "shape": 2}},
    "a list as dtype": {**RIGHT, "b1": {**tensor(32, 40), "dtype": []}},
    "metadata in a list": {**RIGHT, "__metadata__": []},
    "no object": b"[]",
    "no JSON": b"{",
    "not a number": b'{"W1": NaN}',
    "infinity": b'{"W1": -Infinity}',
    "a name twice": b'{"__metadata__": {}, "__metadata__": {}}',
    "nested": b'{"W1": ' + b"[" * 10**5 + b"]" * 10**5 + b"}",
    "no UTF-8": b'{"\xff": 1}',
    "UTF-16": '{"W1": 1}'.encode("utf-16"),
    "a number of many digits": b'{"W1": ' + b"1" * 10**5 + b"}",
}


@pytest.mark.parametrize("what", HEADERS)
def test_headers_that_are_wrong(path, what):
    put(path, HEADERS[what])
    with pytest.raises(ValueError, match="is damaged or no safetensors file") as raised:
        accelnn.load(path)
    assert str(path) in str(raised.value)
    assert len(str(raised.value)) < 400 + len(str(path))


def test_a_file_made_by_hand_is_loaded(path):
    put(path, RIGHT)
    assert accelnn.load(path).size == 10


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("BF16", 16), ("F8_E5M2", 8), ("F8_E4M3", 8), ("F4", 4), ("F6_E2M3", 6), ("X", 3)],
)
def test_dtypes_that_numpy_does_not_have(path, dtype, bits):
    put(path, {"W1": tensor(0, bits, dtype)}, bits)
    with pytest.raises(ValueError, match=f"is inconsistent: 'W1' is of dtype '{dtype}'"):
        accelnn.load(path)
    with pytest.raises(ValueError, match=f"holds 'W1' in '{dtype}', which NumPy does not have"):
        checkpoint.read(path, "accelnn_net")


@pytest.mark.parametrize("shape", [(2**62,), (2**31, 2**31, 0), (0, 2**62), (2**61 - 1, 1)])
def test_sizes_beyond_memory_are_refused_and_not_left_to_numpy(path, shape):
    """Beside a zero too, where nothing is to be read."""
    size = 0 if 0 in shape else 4 * int(np.prod(shape, dtype=object))
    put(path, {"W1": tensor(0, size, shape=shape)}, 0)
    with pytest.raises(ValueError, match="is damaged or no safetensors file"):
        checkpoint.read(path, "accelnn_net")


@pytest.mark.parametrize("length", [41, 10**6, 10**15, 2**63, 2**64 - 1])
def test_headers_longer_than_the_file(path, length):
    put(path, b"{}" + b" " * 38, 0, length=length)
    with pytest.raises(ValueError, match="it ends after 48 bytes, within its header"):
        accelnn.load(path)


MANY = {
    "a foreign file": lambda path: put(
        path, {"__metadata__": {}, "a": tensor(0, 4 * 10**9, shape=(10**9,))}, 4 * 10**9
    ),
    "another net": lambda path: put(path, {"W1": tensor(0, 4 * 10**9, shape=(10**9,))}, 4 * 10**9),
    "a million sizes": lambda path: put(path, RIGHT, sizes=[2] * 10**6),
    "a million activations": lambda path: put(path, RIGHT, activation=["relu"] * 10**5),
    "one long name": lambda path: put(path, RIGHT, activation="x" * 10**6),
    "a long dtype": lambda path: put(path, RIGHT, dtype="x" * 10**6),
    "empty arrays": lambda path: put(
        path, {f"t{i}": tensor(0, 0, shape=(0,)) for i in range(40_000)}, 0
    ),
    "more empty arrays": lambda path: put(
        path, {f"t{i}": tensor(0, 0, shape=(0,)) for i in range(200_000)}, 0
    ),
    "a header of spaces": lambda path: put(path, b"{}" + b" " * 10**8, 0),
    "lists in lists": lambda path: put(path, b'{"W1": [' + b"[]," * 10**6 + b"0]}", 0),
    "sizes that no memory holds": lambda path: put(path, RIGHT, sizes=[10**9, 10**9]),
}


@pytest.mark.parametrize("what", MANY)
def test_what_is_large_is_refused_quickly_in_few_words_and_little_memory(path, what):
    MANY[what](path)
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(ValueError, match=path.name) as raised:
            accelnn.load(path)
        # A tenth of it without tracemalloc.
        assert time.process_time() - start < 20
        assert len(str(raised.value)) < 500 + len(str(path))
        # The largest header, and what JSON makes of it.
        assert tracemalloc.get_traced_memory()[1] < 120e6
    finally:
        tracemalloc.stop()


def test_a_net_that_load_would_refuse_is_not_saved(tmp_path):
    net = accelnn.MLP([2] * 50_001, rng=0)
    with pytest.raises(ValueError, match=r"its header would take .* bytes, of at most 4,194,304"):
        net.save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("left", [0, 8, 100, 408, 450, 499])
def test_a_file_that_another_program_cuts_while_it_is_read(path, monkeypatch, left):
    from accelnn.nets import _files

    rebuild = _files.rebuild

    def cut(*args):
        os.truncate(path, left)
        return rebuild(*args)

    monkeypatch.setattr(_files, "rebuild", cut)
    assert path.stat().st_size > left
    with pytest.raises(ValueError, match="it has become shorter while it was read") as raised:
        accelnn.load(path)
    assert str(path) in str(raised.value)


def test_files_with_changed_bytes_load_or_are_refused(path):
    """Whatever is wrong: a ValueError with the name, and no other error."""
    rng = np.random.default_rng(0)
    right = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(1500):
        wrong = right.copy()
        for place in rng.integers(len(right) - 92, size=rng.integers(1, 4)):
            wrong[place] = rng.choice([rng.integers(256), *b'0123456789{}[]",:'])
        path.write_bytes(wrong.tobytes())
        try:
            accelnn.load(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 - it may load
            refused += 1
    assert 1000 < refused < 1500
