"""Nets on disk: nothing is lost, nothing is executed, no file is ever half written."""

import json
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

import accelnn
from accelnn import checkpoint
from accelnn.formulas._table import ACTIVATIONS
from accelnn.losses import LOSSES
from accelnn.testing import StrictBackend

X = np.random.default_rng(0).normal(size=(7, 4))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


@pytest.fixture
def net():
    net = accelnn.MLP([4, 3, 2], rng=0)
    net.params["b1"] = [1, 2, 3]
    return net


def read(path):
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: accelnn.MLP([4, 2], **options),
        lambda **options: accelnn.MLP([4, 5, 3, 2], **options),
        lambda **options: accelnn.TwoLayerNet(4, 5, 2, **options),
        lambda **options: accelnn.SimpleNet(4, 2, **options),
    ],
    ids=["one layer", "three layers", "TwoLayerNet", "SimpleNet"],
)
def test_every_class_comes_back_bit_for_bit(path, make, dtype):
    net = make(dtype=dtype, rng=1)
    net.flat[...] += np.random.default_rng(2).normal(size=net.size)
    net.save(path)
    loaded = accelnn.load(path)
    assert type(loaded) is type(net)
    assert repr(loaded) == repr(net)
    assert loaded.flat.tobytes() == net.flat.tobytes()
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_and_loss_come_back(path, activation, loss):
    net = accelnn.MLP([4, 3, 2], activation=activation, loss=loss, rng=1)
    net.save(path)
    loaded = accelnn.load(path)
    assert loaded.spec == net.spec
    assert loaded.predict(X).tobytes() == net.predict(X).tobytes()


def test_the_same_net_is_the_same_bytes(path, net):
    contents = set()
    for _ in range(10):
        net.save(path)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_a_loaded_net_trains_on(path, net):
    net.save(path)
    loaded = accelnn.load(path)
    t = np.arange(7) % 2
    for one in (net, loaded):
        accelnn.fit(one, X, t, epochs=3, batch_size=3, rng=0)
    assert loaded.flat.tobytes() == net.flat.tobytes()


def test_from_backend_to_backend(path):
    net = accelnn.TwoLayerNet(4, 3, 2, dtype="float64", rng=1)
    net.save(path)
    strict = accelnn.load(path, backend=StrictBackend)
    assert strict.backend is accelnn.get_backend(StrictBackend)
    second = path.with_name("second")
    strict.save(second)
    assert second.read_bytes() == path.read_bytes()
    back = accelnn.load(second, backend="numba")
    assert back.backend.name == "numba"
    assert back.flat.tobytes() == net.flat.tobytes()
    with accelnn.use_backend("numba"):
        assert accelnn.load(path).backend.name == "numba"
    assert accelnn.load(path).backend.name == "numpy"


def test_safetensors_alone_can_read_it(path, net):
    net.save(path)
    metadata, arrays = read(path)
    assert json.loads(metadata["accelnn_net"]) == {
        "format": 1,
        "net": "MLP",
        "sizes": [4, 3, 2],
        "activation": "sigmoid",
        "loss": "cross_entropy",
        "dtype": "float32",
    }
    assert arrays.keys() == net.params.keys()
    for key, value in net.params.items():
        assert arrays[key].dtype == np.float32
        np.testing.assert_array_equal(arrays[key], value)


def test_the_file_holds_no_pickle(path, net):
    net.save(path)
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(path.read_bytes())  # noqa: S301 - our own bytes


def test_a_pickle_is_not_opened(path):
    class Trap:
        def __reduce__(self):
            return path.with_name("executed").touch, ()

    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="damaged or no safetensors file"):
        accelnn.load(path)
    assert not path.with_name("executed").exists()


def test_paths_of_every_kind(tmp_path, net, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("plain", tmp_path / "as Path", os.fspath(tmp_path / "käse.safetensors")):
        net.save(path)
        assert accelnn.load(path).flat.tobytes() == net.flat.tobytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "as Path",
        "käse.safetensors",
        "plain",
    ]


def test_an_old_file_is_replaced_whole(path, net):
    accelnn.MLP([50, 50, 50], rng=0).save(path)
    net.save(path)
    assert repr(accelnn.load(path)) == repr(net)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_old_file_is_replaced_and_not_written_into(path, net):
    accelnn.MLP([4, 2], rng=0).save(path)
    before, second_name = path.read_bytes(), path.with_name("link")
    second_name.hardlink_to(path)
    net.save(path)
    assert second_name.read_bytes() == before


def test_a_net_can_be_saved_over_the_file_it_was_loaded_from(path, net):
    net.save(path)
    loaded = accelnn.load(path)
    loaded.params["W1"] *= 2
    loaded.save(path)
    np.testing.assert_array_equal(accelnn.load(path).params["W1"], 2 * net.params["W1"])


def test_a_folder_in_the_way(tmp_path, net):
    target = tmp_path / "taken"
    target.mkdir()
    (target / "kept").write_text("here")
    with pytest.raises(OSError, match="taken"):
        net.save(target)
    assert (target / "kept").read_text() == "here"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_folder_is_named(tmp_path, net):
    with pytest.raises(FileNotFoundError, match=r"cannot write '.*net': there is no folder '.*no'"):
        net.save(tmp_path / "no" / "net")
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys, accelnn
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
net = accelnn.MLP([200, 200, 10], rng=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    net.save(sys.argv[1])
except OSError as error:
    print("failed with errno", error.errno)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are a POSIX feature")
def test_a_write_that_fails_half_way_leaves_the_old_file(path, net):
    """A limit on the size of files stands for a full disk."""
    net.save(path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("failed with errno"), done.stderr
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(sys.platform == "win32", reason="file modes are a POSIX feature")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(path, mask, mode):
    code = (
        "import os, sys, accelnn; os.umask(int(sys.argv[2])); accelnn.SimpleNet().save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, path, str(mask)], check=True)
    assert path.stat().st_mode & 0o777 == mode


def test_many_threads_save_to_one_path(path):
    nets = [accelnn.MLP([20, 20, 2], rng=seed) for seed in range(8)]
    threads = [threading.Thread(target=net.save, args=(path,)) for net in nets for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accelnn.load(path).flat.tobytes() in {net.flat.tobytes() for net in nets}
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_nets_that_a_file_cannot_describe(path):
    class Mine(accelnn.MLP):
        pass

    with pytest.raises(TypeError, match="SimpleNet can be saved; this is a Mine"):
        Mine([4, 2]).save(path)
    assert not path.exists()


NAMES = [
    "W",
    "b",
    "w1",
    "w10",
    "w2",
    "ü",
    "汉",
    "a b",
    'quo"te',
    "back\\slash",
    "tab\t",
    "\x7f\x01",
    "",
]


def random_arrays(seed):
    """Return arrays of all dtypes, with any number of axes, empty ones too."""
    rng = np.random.default_rng(seed)
    dtypes = [d.newbyteorder("=") for name, d in checkpoint.DTYPES.items() if name != "C64"]
    arrays = {}
    for name in rng.permutation(NAMES)[: rng.integers(1, len(NAMES))]:
        shape = tuple(rng.integers(0, 4, size=rng.integers(0, 4)))
        content = rng.integers(0, 2, size=shape) if rng.random() < 0.5 else rng.normal(size=shape)
        arrays[str(name)] = np.asarray(content).astype(rng.choice(dtypes))
    return arrays


@pytest.mark.parametrize("seed", range(60))
def test_files_are_those_of_the_package_to_the_byte(path, seed):
    arrays, description = random_arrays(seed), {"is": ["ü", 1.5, None]}
    checkpoint.write(path, arrays, "accelnn_net", description)
    assert path.read_bytes() == save(arrays, {"accelnn_net": json.dumps(description)})
    ours, found = checkpoint.read(path, "accelnn_net")
    theirs = load_file(path)
    assert found == description
    for name, array in arrays.items():
        for one in (ours[name], theirs[name]):
            assert (one.dtype, one.shape, one.tobytes()) == (
                array.dtype,
                array.shape,
                array.tobytes(),
            )
    assert ours.keys() == theirs.keys() == arrays.keys()


def test_complex_numbers_and_other_layouts(path):
    z = np.arange(6).reshape(2, 3) * (1 + 2j)
    arrays = {"z": z.astype(np.complex64), "transposed": z.real.T, "step": z.real[:, ::2]}
    arrays |= {"big": z.real.astype(">f4"), "read-only": np.broadcast_to(np.float32(3), (2, 2))}
    checkpoint.write(path, arrays, "k", None)
    found, _ = checkpoint.read(path, "k")
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype.newbyteorder("=")
        assert found[name].flags.writeable


def test_on_a_machine_with_the_other_byte_order(path, monkeypatch):
    """What is read there is little-endian, too, and turned."""
    checkpoint.write(path, {"x": np.array([1.5, -2.0]), "i": np.array(258, np.int16)}, "k", None)
    monkeypatch.setattr(sys, "byteorder", "big")
    found, _ = checkpoint.read(path, "k")
    np.testing.assert_array_equal(found["x"].byteswap(), [1.5, -2.0])
    assert found["i"] == 513


@pytest.mark.parametrize("dtype", [object, "U3", "M8[s]", np.complex128, np.longdouble])
def test_arrays_that_no_file_holds(path, dtype):
    with pytest.raises(TypeError, match="a file cannot hold 'x', of dtype"):
        checkpoint.write(path, {"x": np.zeros(3, dtype)}, "k", None)
    assert not path.exists()


def test_descriptions_come_back_with_numbers_that_are_none(path):
    """The losses of a run that diverged."""
    checkpoint.write(path, {}, "k", {"loss": [1.0, float("inf"), float("nan")]})
    arrays, found = checkpoint.read(path, "k")
    assert arrays == {}
    np.testing.assert_array_equal(found["loss"], [1.0, np.inf, np.nan])


def test_a_header_that_the_package_would_not_read_is_not_written(path):
    with pytest.raises(ValueError, match=r"its header would take .* of at most 100,000,000"):
        checkpoint.write(path, {}, "k", "x" * 10**8)
    checkpoint.write(path, {}, "k", "x" * (10**8 - 100))
    with safe_open(path, framework="numpy") as file:
        assert len(file.metadata()["k"]) == 10**8 - 98


def test_files_of_the_package_with_more_metadata(path, net):
    net.save(path)
    metadata, arrays = read(path)
    save_file(arrays, path, metadata=metadata | {"format": "np", "note": "x" * 1000})
    assert accelnn.load(path).flat.tobytes() == net.flat.tobytes()


def peak(call):
    """Return what memory a call takes at most, beside what there is."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_memory_of_loading_and_saving(path, dtype):
    net = accelnn.MLP([1500, 1500, 10], rng=0, dtype=dtype)
    size = net.flat.nbytes
    assert peak(lambda: net.save(path)) < 0.02 * size
    loaded = []
    assert size < peak(lambda: loaded.append(accelnn.load(path))) < 1.05 * size
    assert peak(lambda: checkpoint.read(path, "accelnn_net")) < 1.05 * size
    assert loaded[0].flat.tobytes() == net.flat.tobytes()
