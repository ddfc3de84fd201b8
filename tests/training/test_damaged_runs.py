"""Checkpoints of runs that were changed: each is one short error that names the file."""

import copy
import json

import numpy as np
import pytest
from kept_runs import fall, go_on
from safetensors import safe_open
from safetensors.numpy import save_file

import accelnn

KEY = "accelnn_training"
CALL = {"net": {"dropout": 0.3}}


@pytest.fixture
def change(path):
    """Return a function that changes a run of 6 updates, the file of which is at `path`."""
    fall(path, 6, **copy.deepcopy(CALL))
    with safe_open(path, framework="numpy") as file:
        metadata, arrays = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118

    def change(told=None, changed=None):
        described = json.loads(metadata[KEY])
        for name, value in (told or {}).items():
            *parts, last = name.split(".")
            place = described
            for part in parts:
                place = place[int(part)] if isinstance(place, list) else place[part]
            place[int(last) if isinstance(place, list) else last] = value
        # JSON reads as infinity what is too large for a float.
        text = json.dumps(described).replace("Infinity", "1e400")
        found = {name: make(arrays[name]) for name, make in (changed or {}).items()}
        save_file(arrays | found, path, metadata={KEY: text})

    return change


def assert_refused(path, **given):
    call = copy.deepcopy(CALL) | given
    with pytest.raises(ValueError, match="holds no run that can go on") as raised:
        go_on(path, **call)
    told = str(raised.value)
    assert str(path) in told
    assert "\n" not in told
    assert len(told) < 320 + len(str(path))


COUNTS = ("updates", "position", "batches_per_epoch", "offset", "asked", "called", "finished")
WRONG = {
    **dict.fromkeys(COUNTS, ("x", None, 1.5, True, -7, 2**64, 10**400, [1], {})),
    "dropout_seed": ("x", 1.5, True, -1, 2**64, None),
    "same": ("x", [1], None, {}, {"the net": [1]}),
    "is_over": ("x", None, 1, 0),
    "is_stopped": ("x", None, 1, 0),
    "callbacks": ("x", None, [1], [["Falls"]], [[1, None]], [["Falls", 1]], [["Falls", None, 2]]),
    "first": ("x", None, ["PCG64", []], ["PCG64"], ["Generator", {}], ["BitGenerator", {}]),
    "generator": (["PCG64", []], ["PCG64", None], [1, 2], ["nothing", {}], ["MT19937", {}]),
    "generator.1.uinteger": (float("inf"), "x", None, -1, 2**64),
    "generator.1.state": ("x", None, {}, {"state": 2**200, "inc": 1}),
    "generator.1.bit_generator": ("MT19937", 1),
    "format": (None, "x", 1),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_description_that_no_run_has_is_refused(name, change, path):
    for value in WRONG[name]:
        change({name: value})
        assert_refused(path)


@pytest.mark.parametrize(
    "told",
    [
        # Each is possible by itself.
        {"position": 5},
        {"offset": 5},
        {"batches_per_epoch": 4},
        {"batches_per_epoch": 2**60, "position": 2**59},
        {"asked": 5},
        {"called": 7},
        {"finished": 7},
        {"updates": 2**40},
    ],
)
def test_what_does_not_fit_together_is_refused(told, change, path):
    change(told)
    assert_refused(path)


ARRAYS = {
    "params": (
        lambda a: a[:-1],
        lambda a: a.astype("f4"),
        lambda a: a[None],
        lambda a: a.astype(int),
    ),
    "slots": (lambda a: a[:, :-1], lambda a: a[:0], lambda a: a[0], lambda a: a.astype("f4")),
    "loss": (lambda a: a[None], lambda a: a.astype("i8"), lambda a: np.tile(a, 9)),
    "evaluated_at": (lambda a: a[:-1], lambda a: a - 1, lambda a: a + 9, lambda a: a * 1.0),
    "test_loss": (lambda a: a[:-1], lambda a: a[:, None], lambda a: a.astype("i8")),
    "train_accuracy": (lambda a: np.tile(a, 2), lambda a: a.astype("f4")),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_no_run_has_are_refused(name, change, path):
    for make in ARRAYS[name]:
        change(changed={name: make})
        assert_refused(path)


def test_arrays_of_another_net_are_refused(change, path):
    """Though they fit one another."""
    for make in (lambda a: a[..., :-1].copy(), lambda a: a.astype("f4")):
        change(changed={"params": make, "slots": make})
        assert_refused(path)


@pytest.mark.parametrize(
    ("kind", "place", "values"),
    [("MT19937", "state.pos", (625, 10**6, -1, "x")), ("Philox", "buffer_pos", (5, 10**6, -1))],
)
def test_a_generator_never_reads_beyond_its_buffer(kind, place, values, tmp_path):
    path = tmp_path / "run.safetensors"
    rng = np.random.Generator(getattr(np.random, kind)(1))
    fall(path, 6, rng=rng)
    with safe_open(path, framework="numpy") as file:
        metadata, arrays = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    for value in values:
        described = json.loads(metadata[KEY])
        inner = described["generator"][1]
        *parts, last = place.split(".")
        for part in parts:
            inner = inner[part]
        inner[last] = value
        save_file(arrays, path, metadata={KEY: json.dumps(described)})
        assert_refused(path, net={}, rng=None)


def test_what_is_not_changed_goes_on(change, path):
    change()
    net, history = go_on(path, **copy.deepcopy(CALL))
    assert history.steps == 20
    assert isinstance(net, accelnn.MLP)
